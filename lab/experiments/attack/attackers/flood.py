"""Attacks on the gateway's memory and on a victim's standing: no datagram of a device is needed for them."""

from lab.experiments.attack.attackers.base import Attack, Heard, Scene
from lab.experiments.attack.radio import Sent
from wire import frag, lowpan
from wire.ipv6 import UDP_OFFSET


class Flooding(Attack):
    """First fragments of large datagrams that never go on, in the devices' names.

    Short ones in a burst as soon as a device begins a datagram, others whenever the airtime allows.
    """

    name = "flooding"
    about = "first fragments of the largest datagrams in the devices' names, in bursts and in between"
    _BURST = 6

    def overhear(self, heard: Heard) -> list[Sent]:
        """See `Attack`."""
        if not isinstance(heard.part, lowpan.First):
            return []
        return [self._first(short=True) for _ in range(self._BURST)]

    def idle(self, now: float) -> list[Sent]:
        """See `Attack`."""
        return [self._first(short=self.rng.random() < 0.5)]

    def _first(self, *, short: bool) -> Sent:
        source = self.victim()
        first = self.pieces(source, self.tag(), 1150)[0]
        # 16 octets of payload behind the headers: more frames for the airtime.
        return self.stranger(source, first[: len(first) - 72] if short else first)


class Framing(Attack):
    """Everything that may count against a sender, in the name of a third of the devices."""

    name = "framing"
    about = "garbage of every kind in the name of a third of the devices"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._marks = scene.victims[: max(1, len(scene.victims) // 3)]

    def overhear(self, heard: Heard) -> list[Sent]:
        """See `Attack`."""
        if heard.source not in self._marks or not isinstance(heard.part, lowpan.First):
            return []
        first = heard.part
        left = first.payload_length - len(first.udp_payload_slice)
        data = self.rng.randbytes(min(left, self.fmt.step))
        place = UDP_OFFSET + len(first.udp_payload_slice)
        return [self.stranger(heard.source, frag.FragN(first.datagram_size, first.tag, place, data).emit())]

    def idle(self, now: float) -> list[Sent]:
        """See `Attack`."""
        mark = self.rng.choice(self._marks)
        pieces = self.pieces(mark, self.tag(), self.length())
        kind = self.rng.randrange(4)
        if kind == 0:
            return [self.stranger(mark, pieces[0])]
        if kind == 1:
            return [self.stranger(mark, pieces[1])]
        if kind == 2:
            return [self.stranger(mark, pieces[0][:6] + self.rng.randbytes(12))]
        return [self.stranger(mark, pieces[1][:4] + b"\xff" + self.rng.randbytes(24))]


class Whitewashing(Attack):
    """A new address for every datagram: most stop after the first fragment, some are complete."""

    name = "whitewashing"
    about = "a new address for each datagram, one in four of them complete"

    def idle(self, now: float) -> list[Sent]:
        """See `Attack`."""
        source = b"\x02" + self.rng.randbytes(7)
        frames = self.counterfeit(source, self.tag(), self.length())
        return frames if self.rng.random() < 0.25 else frames[:1]


class SlowDrip(Attack):
    """Datagrams kept open: one fragment every now and then, never the last."""

    name = "slow-drip"
    about = "datagrams in the devices' names that get a fragment now and then, and never end"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._open: list[tuple[float, bytes, list[bytes]]] = []

    def idle(self, now: float) -> list[Sent]:
        """See `Attack`."""
        for i, (at, source, pieces) in enumerate(self._open):
            if now - at >= 0.4:
                del self._open[i]
                if len(pieces) > 2:
                    self._open.append((now, source, pieces[1:]))
                return [self.stranger(source, pieces[0])]
        if len(self._open) < 24:
            source = self.victim()
            pieces = self.pieces(source, self.tag(), 1000)
            self._open.append((now, source, pieces[1:]))
            return [self.stranger(source, pieces[0])]
        return []


class Jamming(Attack):
    """Noise, without looking whether somebody talks. Reported, not defended against."""

    name = "jamming"
    about = "noise without sensing the channel; no defence of reception helps"
    senses = False

    def idle(self, now: float) -> list[Sent]:
        """See `Attack`."""
        noise = self.rng.randbytes(self.rng.randrange(20, 127))
        return [Sent(noise, noise, b"", forged=True)]
