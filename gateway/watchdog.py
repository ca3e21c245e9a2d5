"""systemd's watchdog, fed from progress of the pipeline and not from a timer.

A stage that has work must have moved since the last look. One that has none is well; an edge server that is
away is no fault of ours, and neither is a radio that is silent.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.service import Service
from slimwire.notify import notify

_log = logging.getLogger("gateway.watchdog")


class Stage(NamedTuple):
    """One part of the pipeline."""

    name: str
    #: Whether there is work for it at this moment.
    waiting: Callable[[], bool]
    #: A count that grows with each piece of work.
    done: Callable[[], int]


def stages(service: Service) -> tuple[Stage, ...]:
    """Those of a gateway, in the order of a message's way."""

    def received() -> int:
        return sum(leg.received for leg in service.link.legs())

    return (
        Stage("clock", lambda: True, lambda: service.ticks),
        Stage("receive", lambda: received() > service.taken, lambda: service.taken),
        Stage("commit", lambda: service.outbox.uncommitted > 0, lambda: service.outbox.commits),
        Stage(
            "uplink",
            lambda: service.uplink.live > 0 and not service.uplink.away,
            lambda: service.uplink.batches,
        ),
        Stage("downlink", lambda: len(service.downlink) > 0, lambda: service.downlink.frames),
    )


class Progress:
    """Compares each look with the one before."""

    def __init__(self, watched: Sequence[Stage]) -> None:
        self._stages = watched
        self._before: list[tuple[bool, int]] | None = None

    def stuck(self) -> list[str]:
        """Stages that had work at the last look, have some now, and did none in between."""
        now = [(stage.waiting(), stage.done()) for stage in self._stages]
        before, self._before = self._before, now
        if before is None:
            return []
        return [
            stage.name
            for stage, (had, then), (has, done) in zip(self._stages, before, now, strict=True)
            if had and has and done == then
        ]


def period() -> float | None:
    """How often systemd wants to hear of us, s (sd_watchdog_enabled(3)); None: it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    given = os.environ.get("WATCHDOG_USEC", "")
    return int(given) / 1e6 if given.isdigit() and int(given) else None


async def feed(service: Service) -> None:
    """Feed the watchdog until cancelled, while every stage makes progress."""
    every = period()
    if every is None:
        return
    progress = Progress(stages(service))
    while True:
        await asyncio.sleep(every / 3)
        stuck = progress.stuck()
        if stuck:
            _log.error("no progress in %.0f s: %s; the watchdog is not fed", every / 3, ", ".join(stuck))
        else:
            notify("WATCHDOG=1")
