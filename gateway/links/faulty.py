"""A bad radio around any link: loss, copies, corruption and reordering, all drawn from one seed."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.links.base import Leg, Link, Received


@dataclass(frozen=True)
class Faults:
    """Probabilities per frame, each in 0..1."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    reorder: float = 0.0


class FaultyLink:
    """Applies `faults` to frames in both directions; the same seed and frames give the same faults.

    A reordered frame is delivered after the one that follows it, or alone after `hold` seconds of silence.

    Args:
        link: the link that carries what is left.
        seed: seeds one random stream per direction.
        faults: probabilities per frame.
        hold: s a reordered incoming frame waits at most for a frame to overtake it.
    """

    def __init__(self, link: Link, seed: int, faults: Faults, *, hold: float = 0.05) -> None:
        self._link = link
        self._faults = faults
        self._hold = hold
        self._up = random.Random(f"{seed} up")
        self._down = random.Random(f"{seed} down")
        self._ready: deque[Received] = deque()
        self._held_up: Received | None = None
        self._held_down: bytes | None = None
        self._pending: asyncio.Task[Received] | None = None

    @property
    def counters(self) -> Counter[str]:
        """Those of the wrapped link; faults are the radio's doing and count nowhere."""
        return self._link.counters

    @property
    def description(self) -> str:
        """That of the wrapped link."""
        return self._link.description

    def legs(self) -> Sequence[Leg]:
        """Those of the wrapped link."""
        return self._link.legs()

    async def receive(self) -> Received:
        """The next frame that survives."""
        while not self._ready:
            arrived = await self._next()
            held, self._held_up = self._held_up, None
            if arrived is not None:
                copies = self._mangle(self._up, arrived.frame)
                if copies and held is None and self._up.random() < self._faults.reorder:
                    self._held_up = arrived._replace(frame=copies.pop())
                self._ready.extend(arrived._replace(frame=frame) for frame in copies)
            if held is not None:
                self._ready.append(held)
        return self._ready.popleft()

    async def _next(self) -> Received | None:
        task = self._pending or asyncio.ensure_future(self._link.receive())
        self._pending = task
        try:
            done, _ = await asyncio.wait({task}, timeout=None if self._held_up is None else self._hold)
        except asyncio.CancelledError:
            task.cancel()
            self._pending = None
            raise
        if not done:
            return None
        self._pending = None
        return task.result()

    async def send(self, frame: bytes) -> None:
        """Send what survives of `frame`, and a frame held back before it."""
        copies = self._mangle(self._down, frame)
        held, self._held_down = self._held_down, None
        if copies and held is None and self._down.random() < self._faults.reorder:
            self._held_down = copies.pop()
        for copy in copies:
            await self._link.send(copy)
        if held is not None:
            await self._link.send(held)

    def _mangle(self, draw: random.Random, frame: bytes) -> list[bytes]:
        faults = self._faults
        if draw.random() < faults.loss:
            return []
        if frame and draw.random() < faults.corrupt:
            bit = draw.randrange(len(frame) * 8)
            changed = bytearray(frame)
            changed[bit >> 3] ^= 1 << (bit & 7)
            frame = bytes(changed)
        return [frame, frame] if draw.random() < faults.duplicate else [frame]

    def learn(self, source: bytes, origin: object) -> None:
        """Passed on."""
        self._link.learn(source, origin)

    def refuse(self, received: Received) -> None:
        """Passed on."""
        self._link.refuse(received)

    def close(self) -> None:
        """Close the wrapped link."""
        if self._pending is not None:
            self._pending.cancel()
        self._link.close()
