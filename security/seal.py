"""Sealing: AES-CCM-16-64-128, device and edge server (docs/protocol.md, section 3; RFC 3610, L = 2, M = 8).

A counter seals one plaintext once. Up, the caller guarantees it; down, the salt does, since two edge workers
may answer one counter differently.
"""

import hmac

from cryptography.exceptions import InvalidTag

from security.errors import SealError
from security.keys import SEAL_TAG_LENGTH, EdgeKeys
from wire.message import associated_data

SALT_LENGTH = 8


def up_nonce(device: bytes, counter: int) -> bytes:
    """00 ‖ device EUI-64 ‖ counter, 13 bytes."""
    return b"\x00" + device + counter.to_bytes(4, "big")


def down_nonce(salt: bytes, counter: int) -> bytes:
    """01 ‖ salt ‖ counter, 13 bytes."""
    return b"\x01" + salt + counter.to_bytes(4, "big")


def seal_up(keys: EdgeKeys, device: bytes, octet0: int, counter: int, plaintext: bytes) -> bytes:
    """Seal a latent: ciphertext ‖ 8-byte tag.

    Args:
        device: EUI-64. octet0: F is ignored. counter: used for this plaintext only.
        plaintext: inner header ‖ coded symbols.
    """
    return keys.ccm_up.encrypt(up_nonce(device, counter), plaintext, associated_data(octet0, counter))


def open_up(keys: EdgeKeys, device: bytes, octet0: int, counter: int, sealed: bytes) -> bytes:
    """The plaintext of a sealed latent. Raises SealError."""
    if len(sealed) < SEAL_TAG_LENGTH:
        raise SealError(f"a sealed latent has {len(sealed)} bytes", expected=f"at least {SEAL_TAG_LENGTH}")
    try:
        return keys.ccm_up.decrypt(up_nonce(device, counter), sealed, associated_data(octet0, counter))
    except InvalidTag:
        raise SealError(f"the seal of message {counter} of {device.hex()} does not open") from None


def answer_salt(keys: EdgeKeys, counter: int, plaintext: bytes) -> bytes:
    """HMAC-SHA256(K_salt, counter ‖ answer)[:8]: different answers to one counter get different nonces."""
    return hmac.digest(keys.salt, counter.to_bytes(4, "big") + plaintext, "sha256")[:SALT_LENGTH]


def seal_down(keys: EdgeKeys, octet0: int, counter: int, plaintext: bytes) -> bytes:
    """Seal an answer: salt (8) ‖ ciphertext ‖ 8-byte tag. `octet0` is the reply's (kind 1), F ignored."""
    salt = answer_salt(keys, counter, plaintext)
    return salt + keys.ccm_dn.encrypt(down_nonce(salt, counter), plaintext, associated_data(octet0, counter))


def open_down(keys: EdgeKeys, octet0: int, counter: int, sealed: bytes) -> bytes:
    """The plaintext of a sealed answer. Raises SealError."""
    least = SALT_LENGTH + SEAL_TAG_LENGTH
    if len(sealed) < least:
        raise SealError(f"a sealed answer has {len(sealed)} bytes", expected=f"at least {least}")
    salt, rest = sealed[:SALT_LENGTH], sealed[SALT_LENGTH:]
    try:
        return keys.ccm_dn.decrypt(down_nonce(salt, counter), rest, associated_data(octet0, counter))
    except InvalidTag:
        raise SealError(f"the seal of the answer to message {counter} does not open") from None
