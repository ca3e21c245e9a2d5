"""AES-CCM with a 128-bit key, L = 2 and an 8-byte tag (RFC 3610; COSE calls it AES-CCM-16-64-128), in place.

Boards have AES blocks only, so CBC-MAC and counter mode are built here, both in one pass over the text.

    encrypt = block_cipher(key)
    tag = ccm(encrypt, nonce, aad, text, False)      # seal: text becomes ciphertext
    tag = ccm(encrypt, nonce, aad, text, True)       # open: text becomes plain; if the tag is not the one
                                                     # received, it is forged and not to be used
"""

from .compat import aes, micropython, ptr8

TAG = 8
_FLAGS_B0 = 0x40 | (TAG - 2) // 2 << 3 | 1  # associated data, tag length, L = 2


def block_cipher(key):
    """`encrypt(block, out)` of AES with this key, in ECB mode (1); block and out may be one."""
    return aes(key, 1).encrypt


@micropython.viper
def _xor(into: ptr8, data: ptr8, at: int, n: int, back: int):
    """into[i] ^= data[at + i], or with `back` the other way round."""
    i = 0
    while i < n:
        if back:
            data[at + i] ^= into[i]
        else:
            into[i] ^= data[at + i]
        i += 1


def ccm(encrypt, nonce, aad, text, opening):
    """Encrypt or decrypt `text` in place; the first TAG bytes of what it returns are the tag.

    nonce: 13 bytes; aad: 1 to 14 bytes; text: a memoryview; opening: whether text comes encrypted.
    """
    length = len(text)
    mac = bytearray(bytes((_FLAGS_B0,)) + nonce + length.to_bytes(2, "big"))
    counter = bytearray(b"\1" + nonce + b"\0\0")
    stream = bytearray(16)
    encrypt(mac, mac)
    aad = b"\0" + bytes((len(aad),)) + aad
    _xor(mac, aad, 0, len(aad), 0)
    encrypt(mac, mac)
    for at in range(0, length, 16):
        n = min(16, length - at)
        number = (at >> 4) + 1
        counter[14] = number >> 8
        counter[15] = number & 0xFF
        encrypt(counter, stream)
        if opening:
            _xor(stream, text, at, n, 1)
        _xor(mac, text, at, n, 0)
        encrypt(mac, mac)
        if not opening:
            _xor(stream, text, at, n, 1)
    counter[14] = counter[15] = 0
    encrypt(counter, stream)
    _xor(mac, stream, 0, TAG, 0)
    return mac
