"""The one place that knows which Python runs: MicroPython, or CPython on a Linux board.

Features are detected, platforms are not named. On MicroPython the compiler itself gives `@micropython.viper`,
`ptr8` and `ptr32` their meaning; on CPython stand-ins let the same kernels run, slowly and with the same
results.
"""

try:
    import micropython
    from micropython import const  # CPython may have a package of that name, but not this

    ptr8 = ptr32 = None
except ImportError:
    from .standins import const, micropython, ptr8, ptr32

try:
    from time import ticks_add, ticks_diff, ticks_ms
except ImportError:
    from .standins import ticks_add, ticks_diff, ticks_ms

__all__ = ("const", "micropython", "ptr8", "ptr32", "ticks_add", "ticks_diff", "ticks_ms")
