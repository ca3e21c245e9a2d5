"""Keys: HKDF-SHA256 from one root secret per device (docs/protocol.md, section 3; RFC 5869).

A gateway gets `GatewayKeys`, an edge server `EdgeKeys`; the root itself stays with the device and the vault.
No key appears in a repr.
"""

import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ROOT_LENGTH = 32
FRAG_LENGTH = 32
MSG_LENGTH = 16
SALT_KEY_LENGTH = 32
SEAL_TAG_LENGTH = 8


def _check(name: str, key: bytes, length: int) -> None:
    if len(key) != length:
        raise ValueError(f"{name} has {len(key)} bytes, expected {length}")


@dataclass(frozen=True, slots=True)
class GatewayKeys:
    """What a gateway holds of one device and epoch: enough to check fragments, not to read or to answer.

    Attributes:
        frag_up, frag_dn: K_frag_up and K_frag_dn, 32 bytes each.
    """

    frag_up: bytes = field(repr=False)
    frag_dn: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check("frag_up", self.frag_up, FRAG_LENGTH)
        _check("frag_dn", self.frag_dn, FRAG_LENGTH)


@dataclass(frozen=True, slots=True)
class EdgeKeys:
    """What an edge server holds of one device and epoch.

    Attributes:
        msg_up, msg_dn: K_msg_up and K_msg_dn, 16 bytes each.
        salt: K_salt, 32 bytes.
        ccm_up, ccm_dn: the ciphers of the two, made once.
    """

    msg_up: bytes = field(repr=False)
    msg_dn: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    ccm_up: AESCCM = field(init=False, repr=False, compare=False)
    ccm_dn: AESCCM = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("msg_up", self.msg_up, MSG_LENGTH)
        _check("msg_dn", self.msg_dn, MSG_LENGTH)
        _check("salt", self.salt, SALT_KEY_LENGTH)
        object.__setattr__(self, "ccm_up", AESCCM(self.msg_up, tag_length=SEAL_TAG_LENGTH))
        object.__setattr__(self, "ccm_dn", AESCCM(self.msg_dn, tag_length=SEAL_TAG_LENGTH))


def new_root() -> bytes:
    """A fresh root secret of 32 bytes. Every written identity, restore and lost counter takes a new one."""
    return secrets.token_bytes(ROOT_LENGTH)


def info(label: str, device: bytes, epoch: int, site: str = "") -> bytes:
    """HKDF's info: "slimwire/1" ‖ 00 ‖ label ‖ 00 ‖ device EUI-64 ‖ epoch u32 [‖ site in UTF-8]."""
    _check("a device's EUI-64", device, 8)
    parts = (b"slimwire/1", b"\0", label.encode(), b"\0", device, epoch.to_bytes(4, "big"), site.encode())
    return b"".join(parts)


def derive(root: bytes, length: int, key_info: bytes) -> bytes:
    """HKDF-SHA256 with an empty salt."""
    _check("a root secret", root, ROOT_LENGTH)
    return HKDF(SHA256(), length=length, salt=None, info=key_info).derive(root)


def derive_gateway(root: bytes, eui: bytes, epoch: int, site: str) -> GatewayKeys:
    """The keys of one device and epoch for the gateways of a site.

    Args:
        root: 32 bytes. eui: the device's EUI-64. epoch: the full epoch, 0..2**32-1. site: the site's name.
    """
    return GatewayKeys(
        frag_up=derive(root, FRAG_LENGTH, info("frag up", eui, epoch, site)),
        frag_dn=derive(root, FRAG_LENGTH, info("frag dn", eui, epoch, site)),
    )


def derive_edge(root: bytes, eui: bytes, epoch: int) -> EdgeKeys:
    """The keys of one device and epoch for the edge server. Arguments as for `derive_gateway`."""
    return EdgeKeys(
        msg_up=derive(root, MSG_LENGTH, info("msg up", eui, epoch)),
        msg_dn=derive(root, MSG_LENGTH, info("msg dn", eui, epoch)),
        salt=derive(root, SALT_KEY_LENGTH, info("salt", eui, epoch)),
    )
