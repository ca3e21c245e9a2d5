"""The outbox's clock: seconds that only ever go forward, whatever anybody does to the time of day.

Ages have to be right across restarts, where a monotonic clock of the process is of no use, and the time of
day may step by years (a board without a battery starts in 1970). So the outbox has a clock of its own: it
runs with the machine's time since boot and is kept in the database with each commit. A restart within one
boot loses nothing of it; while the machine is off it stands still.
"""

import time
from collections.abc import Callable
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """What tells one boot of this machine from another; empty where the system does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def since_boot() -> float:
    """Seconds since boot, time asleep included where the system counts it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """Goes on where `saved` stopped.

    Args:
        saved: (reading, boot, seconds since that boot) as `state` gave it, or None: starts at 0.
        boot: which boot this is.
        now: seconds since boot.
    """

    def __init__(
        self,
        saved: tuple[float, str, float] | None = None,
        *,
        boot: str | None = None,
        now: Callable[[], float] = since_boot,
    ) -> None:
        self._boot = boot_id() if boot is None else boot
        self._now = now
        start = now()
        self._base = -start
        if saved is not None:
            reading, its_boot, then = saved
            meanwhile = start - then if its_boot and its_boot == self._boot else 0.0
            self._base = reading + max(0.0, meanwhile) - start

    def __call__(self) -> float:
        """The reading, s."""
        return self._base + self._now()

    def state(self) -> tuple[float, str, float]:
        """What to keep."""
        now = self._now()
        return self._base + now, self._boot, now
