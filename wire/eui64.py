"""EUI-64 addresses, and the IPv6 addresses made from link-layer ones (RFC 4944 §6, RFC 6282 §3.2.2).

    EUI-64        02 00 00 00 00 00 00 01            8 bytes, most significant first
    IID           00 00 00 00 00 00 00 01            the universal/local bit (0x02 of byte 0) inverted
    link-local    fe80 0000 0000 0000 ‖ IID          16 bytes
    short XXXX    fe80 0000 0000 0000 ‖ 0000 00ff fe00 XXXX

Addresses are `bytes` everywhere in `wire`; text appears only where a person reads or types it.
Reasons: `eui64`, `not-link-local`.
"""

from functools import lru_cache

from wire.errors import WireError

_UNIVERSAL_LOCAL = 0x02
_LINK_LOCAL = bytes.fromhex("fe80000000000000")
_SHORT_IID = bytes.fromhex("000000fffe00")


def parse(text: str) -> bytes:
    """An EUI-64 of 8 bytes from 16 hexadecimal digits, bare or in pairs joined by ':' or '-'.

    Raises:
        WireError: `eui64`, if the text is anything else.
    """
    for separator in (":", "-"):
        parts = text.split(separator)
        if len(parts) == 8 and all(len(part) == 2 for part in parts):
            text = "".join(parts)
    if len(text) == 16 and all(digit in "0123456789abcdefABCDEF" for digit in text):
        return bytes.fromhex(text)
    raise WireError(
        "eui64", f"{text!r} is no EUI-64: expected 16 hexadecimal digits, 02:00:00:00:00:00:00:01"
    )


def text(address: bytes) -> str:
    """A link-layer address, 8 or 2 bytes, as lower-case pairs joined by ':'."""
    return address.hex(":")


def iid(address: bytes) -> bytes:
    """The interface identifier, 8 bytes, of an EUI-64 (8 bytes) or short address (2 bytes).

    Raises:
        WireError: `eui64`, if the address has another length.
    """
    if len(address) == 8:
        return bytes((address[0] ^ _UNIVERSAL_LOCAL,)) + address[1:]
    if len(address) == 2:
        return _SHORT_IID + address
    raise WireError("eui64", f"a link-layer address of {len(address)} bytes: expected 8 or 2")


@lru_cache(maxsize=4096)
def link_local(address: bytes) -> bytes:
    """The link-local IPv6 address, 16 bytes, of an EUI-64 or short address.

    Raises:
        WireError: `eui64`, if the address has another length than 8 or 2 bytes.
    """
    return _LINK_LOCAL + iid(address)


def from_link_local(address: bytes) -> bytes:
    """The EUI-64, 8 bytes, behind a link-local IPv6 address of 16 bytes: the inverse of `link_local`.

    Raises:
        WireError: `not-link-local`, if the address is not in fe80::/64 or was made from a short address.
    """
    if len(address) != 16 or address[:8] != _LINK_LOCAL:
        raise WireError("not-link-local", f"{address.hex()} is no address of 16 bytes in fe80::/64")
    if address[8:14] == _SHORT_IID:
        raise WireError("not-link-local", f"{address.hex()} was made from a short address: it has no EUI-64")
    return bytes((address[8] ^ _UNIVERSAL_LOCAL,)) + address[9:]
