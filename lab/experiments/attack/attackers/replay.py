"""Whole old datagrams again, long after they were delivered."""

from collections import deque

from lab.experiments.attack.attackers.base import Attack, Heard, Scene
from lab.experiments.attack.radio import Sent
from wire import lowpan


class ReplayOld(Attack):
    """Records datagrams; sends each again, unchanged, 5 to 70 s later."""

    name = "replay-old"
    about = "whole genuine datagrams again, unchanged, 5 to 70 s later"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._recording: dict[bytes, list[Sent]] = {}
        self._ready: deque[tuple[float, list[Sent]]] = deque(maxlen=2000)

    def overhear(self, heard: Heard) -> list[Sent]:
        """See `Attack`."""
        again = Sent(heard.sent.frame, heard.sent.inner, heard.source, forged=True)
        if isinstance(heard.part, lowpan.First):
            before = self._recording.pop(heard.source, [])
            if len(before) > 1:
                self._ready.append((heard.at + self.rng.choice((5.0, 15.0, 35.0, 70.0)), before))
            self._recording[heard.source] = [again]
        elif (frames := self._recording.get(heard.source)) and frames[-1].frame != again.frame:
            frames.append(again)
        return []

    def idle(self, now: float) -> list[Sent]:
        """See `Attack`."""
        for _ in range(len(self._ready)):
            due, frames = self._ready.popleft()
            if due <= now:
                return frames
            self._ready.append((due, frames))
        return []
