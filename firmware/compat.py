"""The one place that knows which Python runs: MicroPython, or CPython on a Linux board.

Features are detected, platforms are not named. On MicroPython the compiler itself gives
`@micropython.viper`, `ptr8`, `ptr16` and `ptr32` their meaning; on CPython stand-ins let the same kernels
run, slowly and with the same results.
"""

try:
    from time import ticks_add, ticks_diff, ticks_ms

    import micropython
    from cryptolib import aes
    from micropython import const

    ptr8 = ptr16 = ptr32 = None

    def read_at(file, at, buffer, n):
        """Fill the first n bytes of `buffer` from byte `at` of the file, allocating nothing; else OSError."""
        file.seek(at)
        if file.readinto(buffer, n) != n:
            raise OSError("file became shorter")

except ImportError:
    from .standins import (
        aes,
        const,
        micropython,
        ptr8,
        ptr16,
        ptr32,
        read_at,
        ticks_add,
        ticks_diff,
        ticks_ms,
    )

__all__ = (
    "aes",
    "const",
    "micropython",
    "ptr8",
    "ptr16",
    "ptr32",
    "read_at",
    "ticks_add",
    "ticks_diff",
    "ticks_ms",
)
