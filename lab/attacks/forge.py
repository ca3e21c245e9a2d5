"""What an outsider can make of frames it overhears. Pure: frames in, forged frames out, one seed.

The attacker has no key. It copies everything it can see (link-layer addresses, IPv6 addresses and ports by
their compression, datagram size and tag, the manifest, right offsets and lengths), computes the FCS, and
makes the UDP checksum of the datagram come out right: one's complement addition lets it choose two octets of
its own so that the sum of the octets it replaces stays what the overheard checksum asks for.

Kinds, by what was overheard:

- a first fragment with more to come: `early-fragment` (later fragments with other octets, before the genuine
ones:
  early fragment injection), `copied-manifest` (the same first fragment with other sealed octets),
  `retagged` (the
  genuine first fragment under another datagram_tag), `hijacked` (a whole datagram under the genuine
  manifest);
- a later fragment: `bit-flip` (a copy with one bit changed), `shifted` (its octets at another offset);
- a whole datagram: `altered` (other sealed octets), `next-counter` (the same as a message not sent yet);
- anything: `replay` (a frame heard before, unchanged).

What goes to a device, under the gateway's address, has the same names with `down-` in front, and adds
`down-fragments`: an answer in two fragments, of which the gateway sent one.
"""

import random
from collections import deque
from dataclasses import dataclass, replace

from wire import frag, lowpan
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame
from wire.ipv6 import UDP_OFFSET, ones_complement
from wire.message import PORT, FirstSlice, Kind

_REMEMBERED = 256


@dataclass(frozen=True)
class Forged:
    """A forged frame, FCS included. `urgent`: worth nothing once the datagram is complete."""

    kind: str
    frame: bytes
    urgent: bool = False


class Forger:
    """Makes forged frames of overheard ones.

    Args:
        seed: of every choice and every octet.
        early: how many times each later fragment is forged when a first one is overheard.
    """

    def __init__(self, seed: int, early: int = 5) -> None:
        self._rng = random.Random(f"forger {seed}")
        self._early = early
        self._heard: deque[bytes] = deque(maxlen=_REMEMBERED)

    def overhear(self, frame: bytes) -> list[Forged]:
        """What to send because of this frame (FCS included), the most urgent first."""
        try:
            mac = MacFrame.parse(frame)
            if mac.kind != FrameKind.DATA or None in (mac.src, mac.dst, mac.pan):
                return []
            part = lowpan.parse(mac.payload, mac.src, mac.dst)
        except WireError:
            return []
        out = self._replay()
        self._heard.append(frame)
        if isinstance(part, lowpan.First):
            return self._at_first(mac, part) + out
        if isinstance(part, lowpan.Next):
            return self._at_next(mac, part) + out
        return self._at_whole(mac, part) + out

    def _replay(self) -> list[Forged]:
        if len(self._heard) < _REMEMBERED // 8 or self._rng.random() > 0.08:
            return []
        return [Forged("replay", self._rng.choice(self._heard))]

    def _at_first(self, mac: MacFrame, part: lowpan.First) -> list[Forged]:
        try:
            first = FirstSlice.parse(part.udp_payload_slice, part.payload_length)
            slices = first.slices
        except WireError:
            return []
        down = _prefix(first)
        size, tag = part.datagram_size, part.tag
        # What the genuine later octets must add up to, as the checksum that came first gives away.
        rest = self._sum_of_rest(part)
        out = []
        for _ in range(self._early):
            forged = self._octets(part.payload_length - len(part.udp_payload_slice), rest)
            start = slices[0][0]
            for offset, length in slices:
                data = forged[offset - start : offset - start + length]
                later = frag.FragN(size, tag, UDP_OFFSET + offset, data).emit()
                out.append(Forged(f"{down}early-fragment", self._frame(mac, later), urgent=True))
        kind = self._rng.choice(("copied-manifest", "retagged", "hijacked"))
        if kind == "copied-manifest":
            own = part.udp_payload_slice[first.sealed_start :]
            changed = part.udp_payload_slice[: first.sealed_start] + self._octets(
                len(own), ones_complement(own)
            )
            payload = mac.payload[: len(mac.payload) - len(part.udp_payload_slice)] + changed
            out.append(Forged(f"{down}copied-manifest", self._frame(mac, payload), urgent=True))
        elif kind == "retagged":
            other = frag.Frag1(
                size, tag ^ self._rng.randrange(1, 0x10000), mac.payload[frag.FRAG1_SIZE :]
            ).emit()
            out.append(Forged(f"{down}retagged", self._frame(mac, other)))
        else:
            payload = part.udp_payload_slice[: first.sealed_start]
            payload += self._rng.randbytes(part.payload_length - len(payload))
            out += self._datagram(
                f"{down}hijacked", mac, payload, tag, len(part.udp_payload_slice), 8 * first.step
            )
        return out

    def _at_next(self, mac: MacFrame, part: lowpan.Next) -> list[Forged]:
        if self._rng.random() < 0.5:
            data = bytearray(part.data)
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
            later = frag.FragN(
                part.datagram_size, part.tag, UDP_OFFSET + part.udp_payload_offset, bytes(data)
            )
            return [Forged("bit-flip", self._frame(mac, later.emit()), urgent=True)]
        offset = max(8, UDP_OFFSET + part.udp_payload_offset + self._rng.choice((-16, -8, 8)))
        later = frag.FragN(part.datagram_size, part.tag, offset, part.data)
        return [Forged("shifted", self._frame(mac, later.emit()), urgent=True)]

    def _at_whole(self, mac: MacFrame, part: lowpan.Unfragmented) -> list[Forged]:
        try:
            first = FirstSlice.parse(part.payload, len(part.payload))
        except WireError:
            return []
        if self._rng.random() > 0.5:
            return []
        down = _prefix(first)
        kinds = ["altered", "next-counter"] + (["fragments"] if down else [])
        kind = self._rng.choice(kinds)
        head, sealed = part.payload[: first.sealed_start], part.payload[first.sealed_start :]
        tag = first.counter & 0xFFFF
        if kind == "altered":
            return self._datagram(f"{down}altered", mac, head + self._rng.randbytes(len(sealed)), tag)
        if kind == "next-counter":
            counter = min(first.counter + self._rng.randrange(1, 4), 0xFFFF_FFFF)
            payload = head[:1] + counter.to_bytes(4, "big") + head[5:] + self._rng.randbytes(len(sealed))
            return self._datagram(f"{down}next-counter", mac, payload, counter & 0xFFFF)
        # F set, one later fragment, steps of 96 octets; tag and MAC can only be guessed.
        header = bytes((head[0] | 0b10,)) + head[1:5] + bytes((1, 12)) + self._rng.randbytes(4 + 8)
        payload = header + self._rng.randbytes(88 - len(header) + 40)
        return self._datagram("down-fragments", mac, payload, tag, 88, 96)

    def _datagram(
        self,
        kind: str,
        mac: MacFrame,
        payload: bytes,
        tag: int,
        first: int | None = None,
        step: int | None = None,
    ) -> list[Forged]:
        """A whole datagram of our own between the overheard frame's ends, its checksum right."""
        assert mac.src is not None
        assert mac.dst is not None
        assert mac.pan is not None
        frames = lowpan.udp_frames(
            mac.src,
            mac.dst,
            PORT,
            PORT,
            payload,
            tag,
            self._rng.randrange(256),
            mac.pan,
            first,
            step,
            mac.ack_request,
        )
        return [Forged(kind, frame.emit(), urgent=kind.endswith("hijacked")) for frame in frames]

    def _frame(self, mac: MacFrame, payload: bytes) -> bytes:
        return replace(mac, seq=self._rng.randrange(256), payload=payload).emit()

    def _octets(self, length: int, total: int) -> bytes:
        """Random octets whose one's complement sum is `total`, as far as two octets can make it so."""
        if length < 2:
            return self._rng.randbytes(length)
        body = self._rng.randbytes(length - 2 - length % 2)
        odd = self._rng.randbytes(1) if length % 2 else b""
        fix = (total - ones_complement(body + b"\0\0" + odd)) % 0xFFFF
        return body + fix.to_bytes(2, "big") + odd

    def _sum_of_rest(self, part: lowpan.First) -> int:
        """One's complement sum of the UDP payload after the first fragment, from the checksum."""
        pseudo = (
            part.src16 + part.dst16 + (8 + part.payload_length).to_bytes(4, "big") + (17).to_bytes(4, "big")
        )
        ports = part.sport.to_bytes(2, "big") + part.dport.to_bytes(2, "big")
        length = (8 + part.payload_length).to_bytes(2, "big")
        known = pseudo + ports + length + part.checksum.to_bytes(2, "big") + part.udp_payload_slice
        return (0xFFFF - ones_complement(known)) % 0xFFFF


def _prefix(first: FirstSlice) -> str:
    return "down-" if first.kind == Kind.REPLY else ""
