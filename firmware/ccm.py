"""AES-CCM with a 128-bit key, L = 2 and an 8-byte tag (RFC 3610; COSE calls it AES-CCM-16-64-128), in place.

Boards have AES blocks only, so the two modes are built here: CBC-MAC over the text and counter mode over it. A `Ccm`
allocates nothing per message.

    Ccm(key).seal(nonce, aad, buffer, 0, n)     # buffer[0:n] is encrypted, buffer[n:n+8] becomes the tag
    Ccm(key).open(nonce, aad, buffer, 0, n)     # n counts the tag; False: forged, and buffer is as it was
"""

from .hmac import same

try:
    from cryptolib import aes

    _MODE_ECB = 1

    def _block_cipher(key):
        return aes(key, _MODE_ECB).encrypt

except ImportError:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import ECB

    def _block_cipher(key):
        encryptor = Cipher(AES(bytes(key)), ECB()).encryptor()

        def encrypt(source, target):
            target[:] = encryptor.update(bytes(source))

        return encrypt


TAG = 8
_FLAGS_B0 = 0x40 | (TAG - 2) // 2 << 3 | 1  # associated data, tag length, L = 2
_FLAGS_CTR = 1


class Ccm:
    def __init__(self, key):
        self._encrypt = _block_cipher(key)
        self._counter = bytearray(16)
        self._stream = bytearray(16)
        self._mac = bytearray(16)

    def _authenticate(self, nonce, aad, text, start, length):
        """CBC-MAC of nonce, associated data (at most 14 bytes) and text, into `_mac`."""
        mac, encrypt = self._mac, self._encrypt
        mac[0] = _FLAGS_B0
        mac[1:14] = nonce
        mac[14] = length >> 8
        mac[15] = length & 0xFF
        encrypt(mac, mac)
        mac[1] ^= len(aad)
        for i in range(len(aad)):
            mac[2 + i] ^= aad[i]
        encrypt(mac, mac)
        for block in range(start, start + length, 16):
            for i in range(min(16, start + length - block)):
                mac[i] ^= text[block + i]
            encrypt(mac, mac)

    def _apply_stream(self, nonce, text, start, length):
        """Counter mode over the text, and over `_mac` with block 0."""
        counter, stream, mac, encrypt = self._counter, self._stream, self._mac, self._encrypt
        counter[0] = _FLAGS_CTR
        counter[1:14] = nonce
        counter[14] = counter[15] = 0
        encrypt(counter, stream)
        for i in range(TAG):
            mac[i] ^= stream[i]
        number = 0
        for block in range(start, start + length, 16):
            number += 1
            counter[14] = number >> 8
            counter[15] = number & 0xFF
            encrypt(counter, stream)
            for i in range(min(16, start + length - block)):
                text[block + i] ^= stream[i]

    def seal(self, nonce, aad, text, start, length):
        """Encrypt text[start:start+length] in place and put the 8-byte tag behind it."""
        self._authenticate(nonce, aad, text, start, length)
        self._apply_stream(nonce, text, start, length)
        for i in range(TAG):
            text[start + length + i] = self._mac[i]

    def open(self, nonce, aad, text, start, length):
        """Decrypt in place; `length` counts the tag. False where it is forged; the text is then as it came."""
        length -= TAG
        if length < 0:
            return False
        self._apply_stream(nonce, text, start, length)  # `_mac` becomes stream block 0 on top of what it was
        self._authenticate(nonce, aad, text, start, length)
        counter, stream = self._counter, self._stream
        counter[14] = counter[15] = 0
        self._encrypt(counter, stream)
        for i in range(TAG):
            self._mac[i] ^= stream[i]
        tag = memoryview(text)[start + length : start + length + TAG]
        if same(memoryview(self._mac)[:TAG], tag):
            return True
        self._apply_stream(nonce, text, start, length)
        return False
