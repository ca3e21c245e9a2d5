"""A radio that keeps to unslotted CSMA-CA (802.15.4-2015 §6.2.5.1), with link-layer retries or without."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lab.experiments.attack.clock import Clock
from lab.experiments.attack.radio import (
    ACK,
    ACK_WAIT,
    LIFS,
    TURNAROUND,
    Channel,
    CsmaCa,
    Frame,
    Sent,
    Transmission,
    airtime,
)


@dataclass(slots=True)
class Tally:
    """What a station put on the air.

    Attributes:
        frames: transmissions, link-layer retries included.
        seconds: of airtime; link-layer acks that were sent to it included.
        unsent: frames for which the channel never became free.
    """

    frames: int = 0
    seconds: float = 0.0
    unsent: int = 0


class Station(CsmaCa):
    """Sends frames one after another.

    Args:
        arrives: the other end's antenna, asked at the end of an undisturbed transmission: whether it got
            the frame. It delivers it, too.
        acked: whether a link-layer ack gets back.
        retries: macMaxFrameRetries; None: the link has no acks.
        overhear: told of every transmission when it ends.
    """

    def __init__(
        self,
        clock: Clock,
        channel: Channel,
        rng: random.Random,
        arrives: Callable[[Sent], bool],
        acked: Callable[[], bool],
        retries: int | None,
        overhear: Callable[[Transmission], None] = lambda transmission: None,
    ) -> None:
        super().__init__(clock, channel, rng)
        self.tally = Tally()
        self._arrives = arrives
        self._acked = acked
        self._retries = retries
        self._overhear = overhear
        self._waiting: deque[tuple[Sent, Callable[[bool], None]]] = deque()
        self._done: Callable[[bool], None] | None = None
        self._got_ack = False

    def send(self, sent: Sent, done: Callable[[bool], None] = lambda was_sent: None) -> None:
        """Queue a frame; `done` when the radio is through with it: False if the channel never was free."""
        self._waiting.append((sent, done))
        if self._done is None:
            self._next()

    def drop(self) -> None:
        """Forget what is queued, but for the frame the radio is busy with."""
        self._waiting.clear()

    def _next(self) -> None:
        self._done = None
        if self._waiting:
            sent, self._done = self._waiting.popleft()
            self._back_off(Frame(sent))

    def _finish(self, *, was_sent: bool = True) -> None:
        assert self._done is not None
        self._done(was_sent)
        self._next()

    def _never_free(self) -> None:
        self.tally.unsent += 1
        self._finish(was_sent=False)

    def _transmit(self, frame: Frame) -> None:
        seconds = airtime(frame.sent.frame)
        self.meter.tx += seconds
        self.tally.frames += 1
        self.tally.seconds += seconds
        self._channel.transmit(seconds, frame.sent, lambda ended: self._transmitted(frame, ended))

    def _transmitted(self, frame: Frame, ended: Transmission) -> None:
        self._got_ack = False
        arrived = not ended.collided and self._arrives(frame.sent)
        self._overhear(ended)
        if self._retries is None:
            self._clock.after(LIFS, self._finish)
            return
        if arrived:
            self._clock.after(TURNAROUND, self._acknowledge)
        self._clock.after(ACK_WAIT, self._ack_due, frame)

    def _acknowledge(self) -> None:
        self.tally.seconds += ACK
        self._channel.transmit(ACK, None, self._ack_ended)

    def _ack_ended(self, ack: Transmission) -> None:
        self._got_ack = not ack.collided and self._acked()

    def _ack_due(self, frame: Frame) -> None:
        self.meter.rx += TURNAROUND + ACK if self._got_ack else ACK_WAIT
        frame.tries += 1
        if self._got_ack or self._retries is None or frame.tries > self._retries:
            self._clock.after(LIFS, self._finish)
            return
        self._again(frame)
