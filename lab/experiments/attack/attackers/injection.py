"""Attacks on a datagram that is under way: they need to be there before its next genuine fragment."""

from dataclasses import replace

from gateway.downlink import FIRST_ROOM
from lab.experiments.attack.attackers.base import Attack, Heard, Scene
from lab.experiments.attack.formats import HASH, Recoverable, RunningHash, running_hash
from lab.experiments.attack.radio import Sent
from wire import frag, lowpan
from wire.ipv6 import UDP_OFFSET, ones_complement
from wire.rfrag import Rfrag


def checksum_rest(first: lowpan.First) -> int:
    """One's complement sum of the octets after a first fragment, as its UDP checksum gives it away."""
    length = 8 + first.payload_length
    known = first.src16 + first.dst16 + length.to_bytes(4, "big") + (17).to_bytes(4, "big")
    known += first.sport.to_bytes(2, "big") + first.dport.to_bytes(2, "big") + length.to_bytes(2, "big")
    known += first.checksum.to_bytes(2, "big") + first.udp_payload_slice
    return (0xFFFF - ones_complement(known)) % 0xFFFF


class OpenDatagram(Attack):
    """Common to attacks that put other octets at the places of an open datagram."""

    def rest(self, first: lowpan.First) -> bytes:
        """Other octets for everything after the first fragment, such that the UDP checksum stays right."""
        length = first.payload_length - len(first.udp_payload_slice)
        if isinstance(self.fmt, RunningHash):
            return self._hashed_rest(first, length)
        if length < 2:
            return self.rng.randbytes(length)
        odd = self.rng.randbytes(1) if length % 2 else b""
        body = self.rng.randbytes(length - 2 - len(odd))
        fix = (checksum_rest(first) - ones_complement(body + b"\0\0" + odd)) % 0xFFFF
        return body + fix.to_bytes(2, "big") + odd

    def _hashed_rest(self, first: lowpan.First, length: int) -> bytes:
        value, out = first.udp_payload_slice[-HASH:], b""
        while len(out) < length:
            size = min(self.fmt.step, length - len(out)) - HASH
            part = self.rng.randbytes(max(size, 0))
            value = running_hash(value, part)
            out += part + value
        return out[:length]

    def fragments(self, source: bytes, first: lowpan.First, rest: bytes) -> list[Sent]:
        """The fragments that carry `rest` behind `first`."""
        size, tag, start, step = first.datagram_size, first.tag, len(first.udp_payload_slice), self.fmt.step
        return [
            self.stranger(source, self.later(size, tag, start + at, rest[at : at + step]))
            for at in range(0, len(rest), step)
        ]

    def later(self, size: int, tag: int, offset: int, data: bytes) -> bytes:
        """A FRAGN; `offset` is one of the UDP payload, cut down to a multiple of 8."""
        return frag.FragN(size, tag, (UDP_OFFSET + offset) // 8 * 8, data).emit()


class EarlyInjection(OpenDatagram):
    """Forged later fragments between the first one and the genuine others; a quarter before the first one."""

    name = "early-injection"
    about = "forged later fragments, before the genuine ones and before the first one"

    def overhear(self, heard: Heard) -> list[Sent]:
        """See `Attack`."""
        if not isinstance(heard.part, lowpan.First):
            return []
        first = heard.part
        if self.rng.random() < 0.25:
            first = replace(first, tag=(first.tag + 1) & 0xFFFF)
        return self.fragments(heard.source, first, self.rest(first))


class ReplayedHeader(OpenDatagram):
    """The genuine first fragment again: with other octets behind its headers, under another tag, or late."""

    name = "replayed-header"
    about = "first fragments again: other octets, another tag, or the same ones later"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._later: list[tuple[float, Sent]] = []

    def overhear(self, heard: Heard) -> list[Sent]:
        """See `Attack`."""
        first = heard.part
        if not isinstance(first, lowpan.First):
            return []
        choice = self.rng.randrange(3)
        inner = heard.sent.inner
        if choice == 0:
            kept = len(inner) - len(first.udp_payload_slice) // 2
            return [self.stranger(heard.source, inner[:kept] + self.rng.randbytes(len(inner) - kept))]
        if choice == 1:
            other = frag.Frag1(first.datagram_size, self.tag(), inner[frag.FRAG1_SIZE :]).emit()
            return [self.stranger(heard.source, other)]
        again = Sent(heard.sent.frame, inner, heard.source, forged=True)
        self._later.append((heard.at + self.rng.choice((0.02, 0.5, 5.0, 20.0)), again))
        return []

    def idle(self, now: float) -> list[Sent]:
        """See `Attack`."""
        due = [sent for at, sent in self._later if at <= now]
        self._later = [(at, sent) for at, sent in self._later if at > now]
        return due


class Duplication(OpenDatagram):
    """Each later fragment again, as it is and with other octets (Hummen's fragment duplication)."""

    name = "duplication"
    about = "later fragments again, the same and with other octets at their place and the next"

    def overhear(self, heard: Heard) -> list[Sent]:
        """See `Attack`."""
        if not isinstance(heard.part, lowpan.Next):
            return []
        part, data = heard.part, heard.part.data
        other = self.rng.randbytes(len(data))
        out = [Sent(heard.sent.frame, heard.sent.inner, heard.source, forged=True)]
        ahead = part.udp_payload_offset + len(data)
        left = part.datagram_size - UDP_OFFSET - ahead
        if left > 0:
            piece = self.later(part.datagram_size, part.tag, ahead, other[: min(left, self.fmt.step)])
            out.insert(0, self.stranger(heard.source, piece))
        same = self.later(part.datagram_size, part.tag, part.udp_payload_offset, other)
        return [*out, self.stranger(heard.source, same)]


class TagCollision(OpenDatagram):
    """Datagrams under the victim's present and next tags; small fragments that overlap genuine ones."""

    name = "tag-collision"
    about = "datagrams under the victim's present and next tag, and small overlapping fragments"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._next: list[Sent] = []

    def overhear(self, heard: Heard) -> list[Sent]:
        """See `Attack`."""
        first = heard.part
        if not isinstance(first, lowpan.First):
            return []
        if self.rng.random() < 0.5:
            self._next = self.counterfeit(heard.source, first.tag + 1, self.length())
            return []
        offset = len(first.udp_payload_slice) + 8 * self.rng.randrange(-4, 4)
        overlap = self.later(first.datagram_size, first.tag, offset, self.rng.randbytes(16))
        whole = self.pieces(heard.source, first.tag, first.payload_length)
        return [self.stranger(heard.source, overlap), self.stranger(heard.source, whole[0])]

    def idle(self, now: float) -> list[Sent]:
        """See `Attack`."""
        out, self._next = self._next, []
        return out


class ForgedControl(OpenDatagram):
    """RFC 8931's control frames in the victim's name: acks of everything, aborts of either end.

    Where recoverable fragments are under way it is in the gateway's name too, and adds acknowledgements of
    some, and fragments that ask for one.
    """

    name = "forged-control"
    about = "forged RFRAG-ACKs and aborts of both ends for datagrams under way"

    def overhear(self, heard: Heard) -> list[Sent]:
        """See `Attack`."""
        if isinstance(heard.part, lowpan.Unfragmented):
            return []
        tag = heard.part.tag & 0xFF
        done = b"\xea" + bytes([tag]) + b"\xff\xff\xff\xff"
        abort = b"\xea" + bytes([tag]) + bytes(4)
        sender_abort = b"\xe8" + bytes([tag]) + bytes(4)
        to_gateway = [self.stranger(heard.source, piece) for piece in (sender_abort, abort, done)]
        if not isinstance(self.fmt, Recoverable):
            return to_gateway
        some = b"\xea" + bytes([tag]) + (1 << 31 | self.rng.getrandbits(4) << 27).to_bytes(4, "big")
        asking = Rfrag(tag, 1, 6 + FIRST_ROOM, self.rng.randbytes(self.fmt.step), ack_request=True).emit()
        to_device = [self.fmt.to_device(heard.source, piece, self.rng) for piece in (done, abort, some)]
        return [
            self.rng.choice(to_device),
            self.rng.choice([*to_gateway, self.stranger(heard.source, asking)]),
        ]
