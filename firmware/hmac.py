"""HMAC-SHA256 (RFC 2104) on what boards have: `hashlib.sha256` without `copy()`, and no hmac module.

key = pad(secret)                               # once
mac = digest(key, b"what", b"is authenticated")  # 32 bytes
"""

from hashlib import sha256


def pad(secret):
    """(inner, outer): a secret of at most 64 bytes, ready for any number of messages."""
    inner = bytearray(secret + bytes(64 - len(secret)))
    outer = bytearray(inner)
    for i in range(64):  # in place: a list of them is the largest piece of a small heap
        inner[i] ^= 0x36
        outer[i] ^= 0x5C
    return inner, outer


def digest(key, *parts):
    """The MAC over the parts, one after another; a part is any buffer."""
    h = sha256(key[0])
    for part in parts:
        h.update(part)
    outer = sha256(key[1])
    outer.update(h.digest())
    return outer.digest()


def same(a, b, length):
    """Whether two buffers start with the same bytes, in a time that does not tell where they differ."""
    difference = 0
    for i in range(length):
        difference |= a[i] ^ b[i]
    return not difference
