"""What CPython lacks of MicroPython's compiler: viper's pointers, and decorators that do nothing.

A pointer is a buffer and a position in it. `int(pointer)` is a made-up address that `ptr8(address)` turns
back into a pointer, so pointer arithmetic in the kernels works as it is written. Addresses stay below 2^28.
"""

import asyncio
from time import monotonic_ns

_SPACE_BITS = 24  # bytes a single buffer may have
_SPACES = 16  # more than any kernel has pointers

_buffers = [memoryview(b"")] * _SPACES
_next = 0


class ptr8:
    """Bytes at `where`: a buffer, another pointer, or an address made by `int(pointer)`."""

    __slots__ = ("_at", "_buffer", "_space")
    _format = "B"
    _shift = 0

    def __init__(self, where):
        global _next
        if not isinstance(where, int):
            _buffers[_next] = memoryview(where).cast("B")
            where = _next << _SPACE_BITS
            _next = (_next + 1) % _SPACES
        self._space = where >> _SPACE_BITS
        self._at = (where & ((1 << _SPACE_BITS) - 1)) >> self._shift
        self._buffer = _buffers[self._space]
        if self._shift:
            self._buffer = self._buffer.cast(self._format)

    def __int__(self):
        return (self._space << _SPACE_BITS) | (self._at << self._shift)

    def __getitem__(self, index):
        return self._buffer[self._at + index]

    def __setitem__(self, index, value):
        self._buffer[self._at + index] = value & 0xFF if self._shift == 0 else value


class ptr16(ptr8):
    """Words of 16 bits, read as unsigned."""

    __slots__ = ()
    _format = "H"
    _shift = 1


class ptr32(ptr8):
    """Words of 32 bits, read as unsigned."""

    __slots__ = ()
    _format = "I"
    _shift = 2


class micropython:
    """The decorators: viper's arguments become pointers where annotated so, all else stays as it is."""

    @staticmethod
    def viper(function):
        kinds = [
            kind if isinstance(kind, type) and issubclass(kind, ptr8) else None
            for name, kind in function.__annotations__.items()
            if name != "return"
        ]

        def call(*args):
            return function(*[kind(arg) if kind else arg for kind, arg in zip(kinds, args)])

        return call

    @staticmethod
    def native(function):
        return function


def const(value):
    return value


def ticks_ms():
    """Milliseconds that never go back; CPython's do not wrap."""
    return monotonic_ns() // 1_000_000


def ticks_add(ticks, delta):
    return ticks + delta


def ticks_diff(later, earlier):
    return later - earlier


def read_at(file, at, buffer, n):
    """Fill the first n bytes of `buffer` from byte `at` of the file; else OSError."""
    file.seek(at)
    if file.readinto(memoryview(buffer)[:n]) != n:
        raise OSError("file became shorter")


class aes:
    """cryptolib.aes in ECB mode, the only one used."""

    def __init__(self, key, mode):
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._encryptor = Cipher(algorithms.AES(bytes(key)), modes.ECB()).encryptor()

    def encrypt(self, block, out):
        out[:] = self._encryptor.update(bytes(block))


class tls:
    """MicroPython's module: contexts that take certificates and keys as DER."""

    PROTOCOL_TLS_CLIENT = CERT_REQUIRED = 0

    class SSLContext:
        def __init__(self, protocol):
            import ssl

            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.wrap_socket = self._context.wrap_socket

        def load_verify_locations(self, authority):
            self._context.load_verify_locations(cadata=authority)

        def load_cert_chain(self, certificate, key):
            import ssl
            import tempfile

            from cryptography.hazmat.primitives import serialization

            pem = serialization.load_der_private_key(key, None).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            with tempfile.NamedTemporaryFile() as file:
                file.write(ssl.DER_cert_to_PEM_cert(certificate).encode() + pem)
                file.flush()
                self._context.load_cert_chain(file.name)


async def wait_for(awaitable, seconds):
    """As asyncio's, which in CPython 3.11 may swallow that its task is cancelled as the thing happens."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def writable(sock):
    """Until something can be sent."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    number = sock.fileno()  # who drops the connection closes it meanwhile
    loop.add_writer(number, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(number)


async def readable(sock):
    """Until the socket has something to receive."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
