"""HMAC-SHA256 (RFC 2104) on what boards have: `hashlib.sha256` without `copy()`, and no hmac module.

    mac = Hmac(key)
    mac.digest(b"what", b"is authenticated")    # 32 bytes
"""

from hashlib import sha256


class Hmac:
    """A key, padded once. One object serves any number of messages, one after another."""

    def __init__(self, key):
        if len(key) > 64:
            key = sha256(key).digest()
        inner = bytearray(64)
        inner[: len(key)] = key
        outer = bytearray(inner)
        for i in range(64):
            inner[i] ^= 0x36
            outer[i] ^= 0x5C
        self._inner = bytes(inner)
        self._outer = bytes(outer)

    def digest(self, *parts):
        """The 32 bytes of the MAC over the parts, one after another; a part is any buffer."""
        h = sha256(self._inner)
        for part in parts:
            h.update(part)
        outer = sha256(self._outer)
        outer.update(h.digest())
        return outer.digest()


def hmac_sha256(key, *parts):
    return Hmac(key).digest(*parts)


def same(a, b):
    """Whether two buffers are equal, in a time that does not tell where they differ."""
    if len(a) != len(b):
        return False
    difference = 0
    for i in range(len(a)):
        difference |= a[i] ^ b[i]
    return difference == 0
