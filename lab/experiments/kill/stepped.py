"""A service whose time of day steps while everything else of its machine goes on.

    python -m lab.experiments.kill.stepped FILE gateway run …

runs `slimwire gateway run …` in a process in which every reading of the time of day is off by as many seconds
as FILE says at that moment. The monotonic clocks are left alone, as a real step leaves them alone.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path


def shift(file: Path) -> None:
    """Replace this process's readings of the time of day."""
    seconds, nanoseconds, clock = time.time, time.time_ns, time.clock_gettime

    def off() -> float:
        try:
            return float(file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0.0

    def of_clock(which: int) -> float:
        return clock(which) + (off() if which == time.CLOCK_REALTIME else 0.0)

    replaced: dict[str, Callable[..., float]] = {
        "time": lambda: seconds() + off(),
        "time_ns": lambda: nanoseconds() + int(off() * 1e9),
        "clock_gettime": of_clock,
    }
    for name, function in replaced.items():
        setattr(time, name, function)


def main() -> None:
    """See the module."""
    shift(Path(sys.argv[1]))
    from slimwire.cli import main as cli  # noqa: PLC0415  (only what is imported from here on reads it)

    sys.argv = ["slimwire", *sys.argv[2:]]
    cli()


if __name__ == "__main__":
    main()
