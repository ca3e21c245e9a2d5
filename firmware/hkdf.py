"""HKDF-SHA256 (RFC 5869)."""

from .hmac import digest, pad


def hkdf_sha256(root, info, length):
    """`length` bytes (at most 32 * 255) derived from `root` for the purpose `info`; the salt is empty."""
    key = pad(digest(pad(b""), root))
    block = out = b""
    i = 0
    while len(out) < length:
        i += 1
        block = digest(key, block, info, bytes((i,)))
        out += block
    return out[:length]
