"""Attackers that hold an enrolled device: its keys, its place in the registry, its good name.

With a network-wide link key that device also speaks for every other.
"""

import hmac

from lab.experiments.attack.attackers.base import Attack, Heard, Scene
from lab.experiments.attack.formats import GATEWAY, Manifest, Member, Message, Secured
from lab.experiments.attack.radio import Sent
from wire import eui64, frag, lowpan
from wire.ipv6 import UDP_OFFSET
from wire.message import PORT, FirstSlice, Kind, datagram_tag, emit_header, mac_input, octet0


class Insider(Attack):
    """What an enrolled device that turned can do."""

    insider = True

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.member: Member = scene.insiders[0]
        self._counter = 0

    def message(self) -> list[Sent]:
        """A well-formed message of its own; its seal is garbage, as everything it says is."""
        return [self.fmt.frame(self.member, piece) for piece in self._pieces(self.rng.randrange(190, 350))]

    def opening(self) -> list[Sent]:
        """A valid first fragment of a large datagram of its own, and nothing after it."""
        return [self.fmt.frame(self.member, self._pieces(1000)[0])]

    def impossible(self) -> list[Sent]:
        """A first fragment whose MAC is right and whose cut is not."""
        if not isinstance(self.fmt, Manifest):
            return self.opening()
        self._counter += 1
        eui, size = self.member.eui, 88
        header = emit_header(octet0(Kind.DATA, 0), self._counter, [bytes(4)] * 3, 1, 0)
        blank = header + bytes(8) + self.rng.randbytes(size - len(header) - 8)
        first = FirstSlice.parse(blank, 1000)
        covered = mac_input(eui64.link_local(eui), eui64.link_local(GATEWAY), PORT, PORT, first)
        mac = hmac.digest(self.member.keys.frag_up, covered, "sha256")[:8]
        data = header + mac + blank[len(header) + 8 :]
        pieces = self.fmt.carry(eui, [data, bytes(1000 - size)], datagram_tag(self._counter))
        return [self.fmt.frame(self.member, pieces[0])]

    def as_victim(self, source: bytes, piece: bytes) -> Sent:
        """A frame in somebody else's name, as well as its keys allow."""
        if isinstance(self.fmt, Secured):
            return self.fmt.frame(self.member, piece, source)
        return self.stranger(source, piece)

    def _pieces(self, length: int) -> list[bytes]:
        self._counter += 1
        return self.fmt.pieces(self.member, Message(self._counter, self.rng.randbytes(length)))


class OnOff(Insider):
    """Well-formed messages for 10 s, then 10 s of floods in its own name, and so on."""

    name = "on-off"
    about = "an enrolled device that behaves for 10 s and floods for 10 s, in its own name"

    def idle(self, now: float) -> list[Sent]:
        """See `Attack`."""
        if now % 20 < 10:
            return self.message()
        return self.impossible() if self.rng.random() < 0.2 else self.opening()


class Compromised(Insider):
    """A stolen device: floods and garbage in its own name, forged fragments in the others'."""

    name = "compromised"
    about = "a stolen enrolled device: floods in its own name, forges in the others'"

    def overhear(self, heard: Heard) -> list[Sent]:
        """See `Attack`."""
        first = heard.part
        if not isinstance(first, lowpan.First) or self.rng.random() < 0.5:
            return []
        start = len(first.udp_payload_slice)
        size = min(first.payload_length - start, self.fmt.step)
        piece = frag.FragN(
            first.datagram_size, first.tag, UDP_OFFSET + start, self.rng.randbytes(size)
        ).emit()
        return [self.as_victim(heard.source, piece)]

    def idle(self, now: float) -> list[Sent]:
        """See `Attack`."""
        choice = self.rng.random()
        if choice < 0.5:
            return self.opening()
        if choice < 0.7:
            return self.message()
        if choice < 0.8:
            return self.impossible()
        victim = self.victim()
        return [self.as_victim(victim, self.pieces(victim, self.tag(), 1000)[0])]
