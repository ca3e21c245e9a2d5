"""The attacker's radio, and what every attack has in common.

One attacker hears what the devices send (over a link that fades as theirs do) and sends within its share of
all airtime. It cheats at CSMA: it senses once and does not back off, so that it is in time before a victim's
next fragment. It asks for no acks. It reads the 6LoWPAN payload even of encrypted frames: whoever defends
with encryption faces an attacker that guesses right.
"""

import random
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

from lab.experiments.attack.clock import Clock
from lab.experiments.attack.formats import Format, Member, Part
from lab.experiments.attack.radio import (
    ACK,
    BACKOFF,
    CCA,
    LIFS,
    TURNAROUND,
    Budget,
    Channel,
    Receiver,
    Sent,
    Transmission,
    airtime,
)
from lab.sim.loss import GilbertElliott
from wire.errors import WireError

#: How often an attacker with nothing urgent asks itself what to send, s.
_IDLE = 0.004


@dataclass(frozen=True, slots=True)
class Heard:
    """A fragment overheard from a device: who sent it, when it ended, what is in it."""

    source: bytes
    at: float
    sent: Sent
    part: Part


@dataclass(slots=True)
class Scene:
    """What an attack knows and may use.

    Attributes:
        fmt: how the devices talk.
        rng: of every choice and octet.
        victims: addresses of the devices.
        insiders: hostile enrolled devices, if this attack has any.
    """

    fmt: Format
    rng: random.Random
    victims: list[bytes]
    insiders: list[Member]


class Attack:
    """One attack: reacts to what it hears, and fills idle time. Both hand out frames; `Rogue` sends them.

    Args:
        scene: see `Scene`.
    """

    #: As on the command line.
    name: ClassVar[str]
    #: In one line, for the table.
    about: ClassVar[str]
    #: Whether it holds an enrolled device.
    insider: ClassVar[bool] = False
    #: Whether it senses the channel before it sends.
    senses: ClassVar[bool] = True

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.fmt = scene.fmt
        self.rng = scene.rng

    def overhear(self, heard: Heard) -> list[Sent]:
        """Frames worth sending at once because of this one, the most urgent first."""
        return []

    def idle(self, now: float) -> list[Sent]:
        """Frames to send when nothing is urgent."""
        return []

    def stranger(self, source: bytes, piece: bytes) -> Sent:
        """A frame of somebody without keys that claims `source`."""
        return self.fmt.frame_of_stranger(source, piece, self.rng)

    def counterfeit(self, source: bytes, tag: int, length: int) -> list[Sent]:
        """A whole made-up datagram that claims `source`."""
        return [self.stranger(source, piece) for piece in self.pieces(source, tag, length)]

    def pieces(self, source: bytes, tag: int, length: int) -> list[bytes]:
        """6LoWPAN payloads of a made-up message."""
        return self.fmt.counterfeit(source, tag & 0xFFFF, length, self.rng)

    def victim(self) -> bytes:
        """One of the devices."""
        return self.rng.choice(self.scene.victims)

    def tag(self) -> int:
        """Any datagram tag."""
        return self.rng.randrange(0x10000)

    def length(self) -> int:
        """A message length such as the devices' own."""
        return self.rng.randrange(195, 355)


class Rogue:
    """The attacker's radio.

    Args:
        record: what the gateway's antenna gets.
        share: of all airtime.
    """

    def __init__(
        self,
        clock: Clock,
        channel: Channel,
        gateway: Receiver,
        attack: Attack,
        up: GilbertElliott,
        ears: dict[bytes, GilbertElliott],
        share: float,
    ) -> None:
        self.airtime = 0.0
        self.frames = 0
        self._clock = clock
        self._channel = channel
        self._gateway = gateway
        self._attack = attack
        self._up = up
        self._ears = ears
        self._budget = Budget(share)
        self._urgent: deque[Sent] = deque(maxlen=64)
        self._patient: deque[Sent] = deque()
        self._busy = False
        clock.after(_IDLE, self._idle)

    def overhear(self, transmission: Transmission) -> None:
        """A device's transmission ended."""
        sent = transmission.sent
        assert sent is not None
        if transmission.collided or self._busy or self._ears[sent.source].lost(self._clock.now):
            return
        try:
            part = self._attack.fmt.read(sent.source, sent.inner)
        except WireError:
            return
        made = self._attack.overhear(Heard(sent.source, self._clock.now, sent, part))
        if made:
            self._urgent.extend(made)
            # The gateway's ack comes first.
            self._clock.after(TURNAROUND + ACK, self._send)

    def _idle(self) -> None:
        if not self._busy and not self._urgent:
            if not self._patient:
                self._patient.extend(self._attack.idle(self._clock.now))
            self._send()
        self._clock.after(_IDLE, self._idle)

    def _send(self) -> None:
        if self._busy:
            return
        queue = self._urgent or self._patient
        if not queue:
            return
        seconds = airtime(queue[0].frame)
        needed = seconds
        if queue is self._patient:
            # Half of what is saved is kept for what is urgent.
            needed = min(seconds + self._budget.burst / 2, self._budget.burst)
        if self._budget.wait(needed, self._clock.now) > 0:
            if queue is self._urgent:
                self._urgent.clear()
            return
        self._busy = True
        sent = queue.popleft()
        self._budget.spend(seconds)
        if self._attack.senses:
            self._clock.after(CCA, self._sensed, sent, 0)
        else:
            self._transmit(sent)

    def _sensed(self, sent: Sent, times: int) -> None:
        if not self._channel.busy_since(self._clock.now - CCA):
            self._clock.after(TURNAROUND, self._transmit, sent)
        elif times < 100:
            self._clock.after(BACKOFF + CCA, self._sensed, sent, times + 1)
        else:
            self._budget.spend(-airtime(sent.frame))
            self._busy = False

    def _transmit(self, sent: Sent) -> None:
        seconds = airtime(sent.frame)
        self.airtime += seconds
        self.frames += 1
        self._channel.transmit(seconds, sent, self._sent)

    def _sent(self, transmission: Transmission) -> None:
        self._busy = False
        self._gateway.overhear(transmission, self._up)
        self._clock.after(LIFS, self._send)
