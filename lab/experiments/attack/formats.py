"""What each kind of defence puts on the air for one and the same message: RFC 4944 and its own addition.

A message is its octet 0, its counter and its sealed bytes (docs/protocol.md §2). The formats differ only in
what protects its fragments:

- `Plain`: nothing; the message is the UDP payload.
- `ContentChain`: each fragment carries the SHA-256, cut to 8 bytes, of the next one (Hummen, WiSec 2013).
- `RunningHash`: each fragment carries the SHA-256, cut to 8 bytes, of the previous value and itself.
- `Secured`: IEEE 802.15.4 level 6, ENC-MIC-64, under one key of the network or one for each pair.
- `Manifest`: Slimwire's keyed chain.
- `Recoverable`: the same slices in recoverable fragments (RFC 8931).

A format also says what an attacker can make of it: `counterfeit` is a datagram as good as one can forge it
without a key, `frame_of_stranger` a frame around any 6LoWPAN payload.
"""

import hashlib
import random
from dataclasses import dataclass, field, replace
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from gateway.downlink import FIRST_ROOM, SINGLE_ROOM, SLICE_ROOM
from lab.experiments.attack.radio import Sent
from security import chain
from security.keys import GatewayKeys, derive_gateway
from wire import eui64, frag, ieee802154, iphc, lowpan
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame
from wire.ipv6 import UDP_OFFSET, udp_checksum
from wire.message import PORT, Cut, Kind, datagram_tag, emit_header, header_length, octet0
from wire.rfrag import Rfrag

GATEWAY = bytes.fromhex("0200000000000001")
SITE = "attack lab"
PAN = 0x23F0
HASH = 8
_GATEWAY16 = eui64.link_local(GATEWAY)
#: Level 6, key identifier mode 1; frame counter; key index.
_AUXILIARY = 6
_MIC = 8
_LEVEL = 6


@dataclass(eq=False)
class Member:
    """One enrolled device.

    Attributes:
        number: 1 and up.
        eui: its EUI-64.
        keys: of its one epoch, 0.
        link_key: pairwise with the gateway, 16 bytes.
        hostile: its frames are the attacker's.
        sequence: of the next frame; frame_counter: link-layer security's, of the next frame.
    """

    number: int
    hostile: bool = False
    eui: bytes = field(init=False)
    keys: GatewayKeys = field(init=False, repr=False)
    link_key: bytes = field(init=False, repr=False)
    sequence: int = 0
    frame_counter: int = 1

    def __post_init__(self) -> None:
        root = hashlib.sha256(b"attack lab %d" % self.number).digest()
        self.eui = bytes.fromhex("0200000000ab") + self.number.to_bytes(2, "big")
        self.keys = derive_gateway(root, self.eui, 0, SITE)
        self.link_key = root[:16]


@dataclass(frozen=True, slots=True)
class Message:
    """What a device wants delivered."""

    counter: int
    sealed: bytes

    @property
    def octets(self) -> bytes:
        """Octet 0, counter and sealed bytes: how every defence's delivery is compared with what was sent."""
        return _head(self.counter) + self.sealed


def _head(counter: int) -> bytes:
    return bytes([octet0(Kind.DATA, 0)]) + counter.to_bytes(4, "big")


#: A fragment, or a whole datagram, in the terms of RFC 4944.
Part = lowpan.First | lowpan.Next | lowpan.Unfragmented


class Format(Protocol):
    """How messages travel."""

    #: Octets of UDP payload in each fragment after the first.
    step: int

    def pieces(self, member: Member, message: Message) -> list[bytes]:
        """The 6LoWPAN payloads of a genuine message."""

    def counterfeit(self, source: bytes, tag: int, length: int, rng: random.Random) -> list[bytes]:
        """6LoWPAN payloads of a made-up message of about `length` bytes, as good as one without keys can."""

    def frame(self, member: Member, piece: bytes, source: bytes | None = None) -> Sent:
        """A frame of this member, under another source address if it lies; hostile ones ask for no ack."""

    def frame_of_stranger(self, source: bytes, piece: bytes, rng: random.Random) -> Sent:
        """A frame that claims `source`, by somebody without keys."""

    def message_of(self, payload: bytes, slices: list[bytes]) -> bytes:
        """The message in a delivered UDP payload, which came in `slices`."""

    def read(self, source: bytes, piece: bytes) -> Part:
        """What an eavesdropper makes of a 6LoWPAN payload from `source`. Raises WireError."""


def udp_pieces(
    source: bytes, payload: bytes, tag: int, first: int, step: int, room: int, checksum: int | None = None
) -> list[bytes]:
    """6LoWPAN payloads of one UDP datagram to the gateway; `checksum` as claimed, else the right one."""
    source16 = eui64.link_local(source)
    if checksum is None:
        checksum = udp_checksum(source16, _GATEWAY16, PORT, PORT, payload)
    header = iphc.compress_udp(source16, _GATEWAY16, PORT, PORT, checksum, source, GATEWAY)
    if len(header) + len(payload) <= room:
        return frag.cut(header, UDP_OFFSET, payload, tag, room)
    return frag.cut(header, UDP_OFFSET, payload, tag, room, first, step)


class _Open:
    """Frames without link-layer security."""

    step = SLICE_ROOM
    _room = ieee802154.room(GATEWAY, GATEWAY)

    def frame(self, member: Member, piece: bytes, source: bytes | None = None) -> Sent:
        """See `Format`."""
        member.sequence = (member.sequence + 1) & 0xFF
        return _data(source or member.eui, member.sequence, piece, forged=member.hostile)

    def frame_of_stranger(self, source: bytes, piece: bytes, rng: random.Random) -> Sent:
        """See `Format`."""
        return _data(source, rng.randrange(256), piece, forged=True)

    def message_of(self, payload: bytes, slices: list[bytes]) -> bytes:
        """See `Format`."""
        return payload

    def read(self, source: bytes, piece: bytes) -> Part:
        """See `Format`."""
        return lowpan.parse(piece, source, GATEWAY)

    def _cut(self, source: bytes, payload: bytes, tag: int) -> list[bytes]:
        return udp_pieces(source, payload, tag, FIRST_ROOM, self.step, self._room)


def _data(source: bytes, sequence: int, piece: bytes, *, forged: bool) -> Sent:
    frame = MacFrame(
        FrameKind.DATA, sequence, PAN, GATEWAY, source, piece, ack_request=not forged, version=1
    ).emit()
    return Sent(frame, piece, source, forged)


class Plain(_Open):
    """RFC 4944 and nothing else."""

    def pieces(self, member: Member, message: Message) -> list[bytes]:
        """See `Format`."""
        return self._cut(member.eui, message.octets, datagram_tag(message.counter))

    def counterfeit(self, source: bytes, tag: int, length: int, rng: random.Random) -> list[bytes]:
        """See `Format`: indistinguishable."""
        return self._cut(source, _head(tag) + rng.randbytes(length - 5), tag)


class ContentChain(_Open):
    """Each fragment but the last ends in the cut SHA-256 of the next one's octets."""

    def pieces(self, member: Member, message: Message) -> list[bytes]:
        """See `Format`."""
        return self._chained(member.eui, message.octets, datagram_tag(message.counter))

    def counterfeit(self, source: bytes, tag: int, length: int, rng: random.Random) -> list[bytes]:
        """See `Format`: a chain without a key is anybody's to make."""
        return self._chained(source, _head(tag) + rng.randbytes(length - 5), tag)

    def message_of(self, payload: bytes, slices: list[bytes]) -> bytes:
        """See `Format`."""
        return b"".join(part[:-HASH] for part in slices[:-1]) + slices[-1]

    def _chained(self, source: bytes, octets: bytes, tag: int) -> list[bytes]:
        first, step = FIRST_ROOM - HASH, self.step - HASH
        parts = [octets[:first]]
        at = first
        while len(octets) - at > self.step:
            parts.append(octets[at : at + step])
            at += step
        if at < len(octets):
            parts.append(octets[at:])
        for i in range(len(parts) - 1, 0, -1):
            parts[i - 1] += content_hash(parts[i])
        return self._cut(source, b"".join(parts), tag)


def content_hash(octets: bytes) -> bytes:
    """What a fragment's predecessor says of it."""
    return hashlib.sha256(octets).digest()[:HASH]


class RunningHash(_Open):
    """Each fragment ends in h_i = SHA-256(h_{i-1} ‖ its octets), cut; h_0 is the source and the tag."""

    def pieces(self, member: Member, message: Message) -> list[bytes]:
        """See `Format`."""
        return self._chained(member.eui, message.octets, datagram_tag(message.counter))

    def counterfeit(self, source: bytes, tag: int, length: int, rng: random.Random) -> list[bytes]:
        """See `Format`: a chain without a key is anybody's to make."""
        return self._chained(source, _head(tag) + rng.randbytes(length - 5), tag)

    def message_of(self, payload: bytes, slices: list[bytes]) -> bytes:
        """See `Format`."""
        return b"".join(part[:-HASH] for part in slices)

    def _chained(self, source: bytes, octets: bytes, tag: int) -> list[bytes]:
        payload, value = b"", running_start(source, tag)
        at, room = 0, FIRST_ROOM - HASH
        while at < len(octets):
            part = octets[at : at + room]
            value = running_hash(value, part)
            payload += part + value
            at, room = at + room, self.step - HASH
        return self._cut(source, payload, tag)


def running_start(source: bytes, tag: int) -> bytes:
    """h_0."""
    return hashlib.sha256(source + tag.to_bytes(2, "big")).digest()[:HASH]


def running_hash(previous: bytes, octets: bytes) -> bytes:
    """h_i."""
    return hashlib.sha256(previous + octets).digest()[:HASH]


class Secured:
    """IEEE 802.15.4 security level 6 (§9.3): the 6LoWPAN payload is encrypted, and a MIC of 8 bytes added.

    Args:
        pairwise: a key for each device and the gateway, instead of one for the network.
    """

    step = 80
    _first = 80
    _room = ieee802154.room(GATEWAY, GATEWAY) - _AUXILIARY - _MIC
    _network_key = hashlib.sha256(b"attack lab network").digest()[:16]

    def __init__(self, *, pairwise: bool) -> None:
        self.pairwise = pairwise
        self._heard: dict[bytes, int] = {}

    def pieces(self, member: Member, message: Message) -> list[bytes]:
        """See `Format`."""
        return self._cut(member.eui, message.octets, datagram_tag(message.counter))

    def counterfeit(self, source: bytes, tag: int, length: int, rng: random.Random) -> list[bytes]:
        """See `Format`: what is inside can be made up, the MIC cannot."""
        return self._cut(source, _head(tag) + rng.randbytes(length - 5), tag)

    def frame(self, member: Member, piece: bytes, source: bytes | None = None) -> Sent:
        """See `Format`. Who lies about its address also makes up the frame counter to go with it."""
        lies = source is not None
        address = source if source is not None else member.eui
        if lies and not self.pairwise:
            counter = self._heard.get(address, 0) + 1
        else:
            counter = member.frame_counter
            member.frame_counter += 1
            self._heard[address] = counter
        member.sequence = (member.sequence + 1) & 0xFF
        header = _secured_header(address, member.sequence, counter, ack=not member.hostile)
        return Sent(_seal(header, self.key_of(member), counter, piece).emit(), piece, address, member.hostile)

    def frame_of_stranger(self, source: bytes, piece: bytes, rng: random.Random) -> Sent:
        """See `Format`."""
        counter = self._heard.get(source, 0) + 1
        header = _secured_header(source, rng.randrange(256), counter, ack=False)
        frame = replace(header, payload=rng.randbytes(len(piece) + _MIC))
        return Sent(frame.emit(), piece, source, forged=True)

    def message_of(self, payload: bytes, slices: list[bytes]) -> bytes:
        """See `Format`."""
        return payload

    def read(self, source: bytes, piece: bytes) -> Part:
        """See `Format`: who guesses right sees through the encryption."""
        return lowpan.parse(piece, source, GATEWAY)

    def key_of(self, member: Member) -> bytes:
        """What the gateway checks this member's frames with."""
        return member.link_key if self.pairwise else self._network_key

    def _cut(self, source: bytes, payload: bytes, tag: int) -> list[bytes]:
        return udp_pieces(source, payload, tag, self._first, self.step, self._room)


def _secured_header(source: bytes, sequence: int, counter: int, *, ack: bool) -> MacFrame:
    auxiliary = bytes([_LEVEL | 1 << 3]) + counter.to_bytes(4, "little") + b"\1"
    return MacFrame(
        FrameKind.DATA, sequence, PAN, GATEWAY, source, b"", ack_request=ack, version=1, security=auxiliary
    )


def _nonce(source: bytes, counter: int) -> bytes:
    return source + counter.to_bytes(4, "big") + bytes([_LEVEL])


def _seal(header: MacFrame, key: bytes, counter: int, piece: bytes) -> MacFrame:
    assert header.src is not None
    sealed = AESCCM(key, tag_length=_MIC).encrypt(_nonce(header.src, counter), piece, header.emit(fcs=False))
    return replace(header, payload=sealed)


def open_secured(mac: MacFrame, key: bytes) -> tuple[int, bytes] | None:
    """(frame counter, 6LoWPAN payload) of a secured frame; None if its MIC is wrong, or it has none."""
    if mac.src is None or len(mac.security) != _AUXILIARY or mac.security[0] & 7 != _LEVEL:
        return None
    counter = int.from_bytes(mac.security[1:5], "little")
    header = replace(mac, payload=b"").emit(fcs=False)
    try:
        return counter, AESCCM(key, tag_length=_MIC).decrypt(_nonce(mac.src, counter), mac.payload, header)
    except InvalidTag:
        return None


class Manifest(_Open):
    """Slimwire: a keyed chain announced by the first fragment."""

    def pieces(self, member: Member, message: Message) -> list[bytes]:
        """See `Format`."""
        return self.carry(member.eui, self.slices(member, message), datagram_tag(message.counter))

    def slices(self, member: Member, message: Message) -> list[bytes]:
        """The message's slices of UDP payload."""
        return chain.make(
            member.keys.frag_up,
            member.eui,
            eui64.link_local(member.eui),
            _GATEWAY16,
            octet0=octet0(Kind.DATA, 0),
            counter=message.counter,
            sealed=message.sealed,
            single_room=SINGLE_ROOM,
            first_room=FIRST_ROOM,
            slice_room=SLICE_ROOM,
        )

    def carry(self, source: bytes, slices: list[bytes], tag: int) -> list[bytes]:
        """6LoWPAN payloads around slices, genuine or not."""
        return udp_pieces(source, b"".join(slices), tag, len(slices[0]), self.step, self._room)

    def counterfeit(self, source: bytes, tag: int, length: int, rng: random.Random) -> list[bytes]:
        """See `Format`: all is right but the MAC and the tags, which take the key."""
        cut = Cut.plan(length - 5, SINGLE_ROOM, FIRST_ROOM, SLICE_ROOM)
        tags = [rng.randbytes(4) for _ in range(cut.n)]
        header = emit_header(octet0(Kind.DATA, 0), tag, tags, cut.step, 0)
        assert len(header) == header_length(cut.n)
        payload = header + rng.randbytes(cut.payload_length - len(header))
        return self._cut_as(source, payload, tag, cut)

    def _cut_as(self, source: bytes, payload: bytes, tag: int, cut: Cut) -> list[bytes]:
        return udp_pieces(source, payload, tag, cut.first, 8 * cut.step or self.step, self._room)


class Recoverable(Manifest):
    """Slimwire with selective recovery: the same slices as RFRAGs, and RFRAG-ACKs that come back."""

    def __init__(self) -> None:
        #: (size, tag, UDP payload octets of the first slice) of the last datagram heard, by source and tag.
        self._heard: dict[tuple[bytes, int], lowpan.First] = {}

    def carry(self, source: bytes, slices: list[bytes], tag: int) -> list[bytes]:
        """See `Manifest`."""
        if len(slices) == 1:
            return super().carry(source, slices, tag)
        return self._fragments(source, b"".join(slices), tag, len(slices[0]), self.step)

    def _cut_as(self, source: bytes, payload: bytes, tag: int, cut: Cut) -> list[bytes]:
        """Every other counterfeit comes by RFC 4944: the gateway takes both."""
        if tag & 1 or not cut.n:
            return super()._cut_as(source, payload, tag, cut)
        return self._fragments(source, payload, tag, cut.first, 8 * cut.step)

    def _fragments(self, source: bytes, payload: bytes, tag: int, first: int, step: int) -> list[bytes]:
        made = lowpan.recoverable(source, GATEWAY, PORT, PORT, payload, tag, first, step)
        made[-1].ack_request = True
        return [fragment.emit() for fragment in made]

    def read(self, source: bytes, piece: bytes) -> Part:
        """See `Format`. Which datagram a later fragment belongs to, the first one heard says."""
        if piece[:1] not in (b"\xe8", b"\xe9"):
            return super().read(source, piece)
        fragment = Rfrag.parse(piece)
        if fragment.sequence == 0:
            first = lowpan.recoverable_first(fragment, source, GATEWAY)
            counter = int.from_bytes(first.udp_payload_slice[1:5], "big")
            first.tag = datagram_tag(counter)
            self._heard[source, fragment.tag] = first
            return first
        known = self._heard.get((source, fragment.tag))
        if known is None:
            raise WireError("frag-offset", "a recoverable fragment of a datagram whose first was not heard")
        headers = 6
        return lowpan.Next(known.datagram_size, known.tag, fragment.offset - headers, fragment.payload)

    def to_device(self, device: bytes, piece: bytes, rng: random.Random) -> Sent:
        """A frame in the gateway's name, by somebody without keys."""
        frame = MacFrame(FrameKind.DATA, rng.randrange(256), PAN, device, GATEWAY, piece, version=1).emit()
        return Sent(frame, piece, GATEWAY, forged=True, to=device)
