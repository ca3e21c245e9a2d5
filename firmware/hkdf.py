"""HKDF-SHA256 (RFC 5869)."""

from .hmac import hmac_sha256


def hkdf_sha256(root, info, length):
    """`length` bytes (at most 32 * 255) derived from `root` for the purpose `info`; the salt is empty."""
    key = hmac_sha256(b"", root)
    block = b""
    out = b""
    i = 0
    while len(out) < length:
        i += 1
        block = hmac_sha256(key, block, info, bytes((i,)))
        out += block
    return out[:length]
