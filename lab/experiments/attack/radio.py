"""One IEEE 802.15.4 channel at 250 kb/s (2.4 GHz O-QPSK), and how an honest node gets at it.

Everybody hears everybody. Two transmissions that overlap are both lost: no capture. A sender that keeps to
unslotted CSMA-CA (IEEE 802.15.4-2015 §6.2.5.1) backs off 0..2^BE-1 periods, senses for 8 symbols, turns
around, sends, and waits for the ack; what is not acknowledged is sent again, `macMaxFrameRetries` times. A
channel found busy `macMaxCSMABackoffs` times in a row after the first ends the frame, as in the standard. A
datagram one frame of which was given up is given up: its other frames are not sent (as Contiki-NG does).
"""

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.experiments.attack.clock import Clock
from lab.experiments.attack.energy import Meter
from lab.sim.loss import GilbertElliott, LossModel

SYMBOL = 16e-6
BYTE = 2 * SYMBOL
#: Preamble, SFD and PHY header.
PHY_BYTES = 6
BACKOFF = 20 * SYMBOL  # aUnitBackoffPeriod
CCA = 8 * SYMBOL
TURNAROUND = 12 * SYMBOL  # aTurnaroundTime
ACK = (PHY_BYTES + 5) * BYTE
ACK_WAIT = BACKOFF + TURNAROUND + ACK  # macAckWaitDuration, 54 symbols
LIFS = 40 * SYMBOL
MIN_BE = 3
MAX_BE = 5
MAX_BACKOFFS = 4
MAX_RETRIES = 3

#: Share of frames lost while a link fades.
_BAD = 0.7


def airtime(frame: bytes) -> float:
    """Seconds that a frame (FCS included) takes."""
    return (PHY_BYTES + len(frame)) * BYTE


def loss_model(mean: float, burst: float) -> LossModel:
    """Gilbert–Elliott with this mean loss, fading for `burst` s at a time; 0 makes losses independent.

    A quarter of the mean is lost outside the bursts, and 70 % of the frames within them.

    Raises:
        ValueError: a mean outside 0..0.6.
    """
    if not 0 <= mean <= 0.6:
        raise ValueError(f"a mean loss of {mean}, expected 0 to 0.6")
    if burst <= 0 or mean == 0:
        return LossModel(1.0, 1.0, mean, mean)
    good = mean / 4
    share = (mean - good) / (_BAD - good)
    return LossModel(burst * (1 - share) / share, burst, good, _BAD)


@dataclass(slots=True, eq=False)
class Sent:
    """A frame somebody puts on the air.

    Attributes:
        frame: with its FCS.
        inner: its 6LoWPAN payload in the clear: what an eavesdropper can at best make of it.
        source: claimed link-layer source.
        forged: whether the attacker sends it.
        to: the device it is for; None: the gateway.
    """

    frame: bytes
    inner: bytes
    source: bytes
    forged: bool = False
    to: bytes | None = None


@dataclass(slots=True, eq=False)
class Transmission:
    """One frame or ack on the air, `start` to `end` s. `sent` is None for an ack and for noise."""

    start: float
    end: float
    sent: Sent | None
    collided: bool = False


class Channel:
    """Who is on the air."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._on_air: list[Transmission] = []
        self._last_end = -1.0
        self.collisions = 0

    def transmit(self, seconds: float, sent: Sent | None, done: Callable[[Transmission], None]) -> None:
        """Begin now; `done` is called at the end, when it is known whether anything overlapped."""
        now = self._clock.now
        transmission = Transmission(now, now + seconds, sent)
        if self._on_air:
            self.collisions += 1
            transmission.collided = True
            for other in self._on_air:
                other.collided = True
        self._on_air.append(transmission)
        self._clock.after(seconds, self._end, transmission, done)

    def busy_since(self, moment: float) -> bool:
        """Whether anybody was on the air at any time from `moment` to now."""
        return bool(self._on_air) or self._last_end > moment

    def _end(self, transmission: Transmission, done: Callable[[Transmission], None]) -> None:
        self._on_air.remove(transmission)
        self._last_end = self._clock.now
        done(transmission)


class Receiver:
    """The gateway's radio: what gets through to it is recorded, and acknowledged."""

    def __init__(self, clock: Clock, channel: Channel, record: Callable[[float, Sent], None]) -> None:
        self._clock = clock
        self._channel = channel
        self._record = record

    def hear(self, transmission: Transmission, fading: GilbertElliott, acked: Callable[[], None]) -> None:
        """The end of a transmission, over a link that fades; `acked` when its ack has left undisturbed."""
        assert transmission.sent is not None
        if transmission.collided or fading.lost(self._clock.now):
            return
        self._record(self._clock.now, transmission.sent)
        self._clock.after(TURNAROUND, self._acknowledge, acked)

    def overhear(self, transmission: Transmission, fading: GilbertElliott) -> None:
        """The end of a transmission that asks for no ack."""
        assert transmission.sent is not None
        if not transmission.collided and not fading.lost(self._clock.now):
            self._record(self._clock.now, transmission.sent)

    def _acknowledge(self, acked: Callable[[], None]) -> None:
        self._channel.transmit(ACK, None, lambda ack: None if ack.collided else acked())


@dataclass(slots=True)
class Frame:
    """The frame a sender is busy with: back-offs and transmissions so far."""

    sent: Sent
    backoffs: int = 0
    exponent: int = MIN_BE
    tries: int = 0


@dataclass(slots=True)
class Links:
    """How the two directions between a device and the gateway fade."""

    up: GilbertElliott
    down: GilbertElliott


@dataclass(slots=True)
class Tally:
    """What happened to the frames of one sender, and how long they were on the air."""

    frames: int = 0
    given_up: int = 0
    retries: int = 0
    airtime: float = 0.0


class CsmaCa(ABC):
    """A radio that keeps to unslotted CSMA-CA: how a frame gets its turn. Subclasses say what comes of it."""

    def __init__(self, clock: Clock, channel: Channel, rng: random.Random) -> None:
        self.meter = Meter()
        self._clock = clock
        self._channel = channel
        self._rng = rng

    def _back_off(self, frame: Frame) -> None:
        seconds = self._rng.randrange(1 << frame.exponent) * BACKOFF
        self.meter.off += seconds
        self._clock.after(seconds + CCA, self._sensed, frame)

    def _sensed(self, frame: Frame) -> None:
        self.meter.rx += CCA
        if not self._channel.busy_since(self._clock.now - CCA):
            self.meter.rx += TURNAROUND
            self._clock.after(TURNAROUND, self._transmit, frame)
            return
        frame.backoffs += 1
        frame.exponent = min(frame.exponent + 1, MAX_BE)
        if frame.backoffs > MAX_BACKOFFS:
            self._never_free()
        else:
            self._back_off(frame)

    def _again(self, frame: Frame) -> None:
        """Contend anew for a frame that was not acknowledged."""
        frame.backoffs, frame.exponent = 0, MIN_BE
        self._back_off(frame)

    @abstractmethod
    def _transmit(self, frame: Frame) -> None:
        """The channel is the frame's."""

    @abstractmethod
    def _never_free(self) -> None:
        """The channel was busy once too often."""


class HonestSender(CsmaCa):
    """A node that keeps to CSMA-CA; its datagrams wait for each other.

    Args:
        overhear: called with every transmission of this node when it ends.
        retries: macMaxFrameRetries.
    """

    def __init__(
        self,
        clock: Clock,
        channel: Channel,
        gateway: Receiver,
        links: Links,
        rng: random.Random,
        overhear: Callable[[Transmission], None],
        retries: int = MAX_RETRIES,
    ) -> None:
        super().__init__(clock, channel, rng)
        self.tally = Tally()
        self._gateway = gateway
        self._links = links
        self._overhear = overhear
        self._retries = retries
        self._waiting: deque[deque[Sent]] = deque()
        self._frame: Frame | None = None
        self._acked = False

    def send(self, datagram: Iterable[Sent]) -> None:
        """Queue the frames of one datagram."""
        self._waiting.append(deque(datagram))
        if self._frame is None:
            self._next()

    def _next(self) -> None:
        while self._waiting and not self._waiting[0]:
            self._waiting.popleft()
        if not self._waiting:
            self._frame = None
            return
        self._frame = Frame(self._waiting[0].popleft())
        self.tally.frames += 1
        self._back_off(self._frame)

    def _give_up(self) -> None:
        self.tally.given_up += 1
        self._waiting.popleft()
        self._next()

    def _never_free(self) -> None:
        self._give_up()

    def _transmit(self, frame: Frame) -> None:
        seconds = airtime(frame.sent.frame)
        self.meter.tx += seconds
        self.tally.airtime += seconds
        self._channel.transmit(seconds, frame.sent, self._transmitted)

    def _transmitted(self, transmission: Transmission) -> None:
        self._acked = False
        self._clock.after(ACK_WAIT, self._ack_due)
        self._gateway.hear(transmission, self._links.up, self._on_ack)
        self._overhear(transmission)

    def _on_ack(self) -> None:
        self._acked = not self._links.down.lost(self._clock.now)

    def _ack_due(self) -> None:
        frame = self._frame
        assert frame is not None
        if self._acked:
            self.meter.rx += TURNAROUND + ACK
            # The inter-frame space began with the ack's end.
            self._clock.after(max(0.0, LIFS - (ACK_WAIT - TURNAROUND - ACK)), self._next)
            return
        self.meter.rx += ACK_WAIT
        frame.tries += 1
        if frame.tries > self._retries:
            self._give_up()
            return
        self.tally.retries += 1
        self._again(frame)


@dataclass(slots=True)
class Budget:
    """Airtime that a node may use: never more than `share` of all time so far, `burst` s of it at once."""

    share: float
    burst: float = 0.03
    saved: float = 0.0
    at: float = 0.0

    def wait(self, seconds: float, now: float) -> float:
        """Seconds until `seconds` of airtime may be used; it is refilled up to `now`."""
        self.saved = min(self.burst, self.saved + (now - self.at) * self.share)
        self.at = now
        return max(0.0, (seconds - self.saved) / self.share) if self.share else float("inf")

    def spend(self, seconds: float) -> None:
        """Use that much."""
        self.saved -= seconds
