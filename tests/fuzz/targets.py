"""What is fuzzed: every parser that meets bytes from outside, one target each.

A target takes one input and returns whether the parser accepted it. It lets the documented refusals pass
(`wire.errors.WireError`, `models.errors.BundleError`), and fails on anything else, a broken promise of the
format included: what was parsed is emitted and read again, bounds are kept, two decoders agree.

Targets with state (`dissect`, `receiver`, `rfrag`) take several frames an input, each preceded by a byte of
flags and a byte of length, and keep their state from input to input, as a long capture or a long-running
gateway does; `slip` keeps its own, and takes bytes as they come.
"""

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.admission import Limits
from gateway.events import Accepted, Rejected
from models.errors import BundleError
from models.headfile import HeadFile
from tests.gateway import kit
from wire import (
    batch,
    dissect,
    eui64,
    frag,
    hc1,
    iphc,
    ipv6,
    latent,
    lowpan,
    message,
    mqtt,
    pcap,
    rans,
    recovery,
    reply,
    rfrag,
    slip,
    zep,
)
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame, fcs

CORPUS = Path(__file__).parent / "corpus"

#: One input in; whether the parser accepted it.
Feed = Callable[[bytes], bool]

A, B = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000fe")
_ADDRESSES = (A, B, b"\0\1", None)
CONTEXTS = {0: iphc.Prefix(bytes.fromhex("20010db8") + bytes(12), 64), 1: iphc.Prefix(bytes(16), 128)}


@dataclass(frozen=True)
class Target:
    """A parser under test. `open` gives a `Feed` with fresh state; no input has more than `longest` bytes.

    `arrays`: the parser compares numpy arrays. atheris' hook of comparisons keeps an object of each of those,
    so that under it the memory of such a parser says nothing.
    """

    name: str
    open: Callable[[], Feed]
    longest: int = 512
    arrays: bool = False

    @property
    def corpus(self) -> list[bytes]:
        """The committed inputs, in order of their names."""
        return [file.read_bytes() for file in sorted((CORPUS / self.name).iterdir())]


def _refusing(parse: Callable[[bytes], object]) -> Callable[[], Feed]:
    """A target without state."""

    def feed(data: bytes) -> bool:
        try:
            parse(data)
        except (WireError, BundleError):
            return False
        return True

    return lambda: feed


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(flags, frame) of each frame of an input; the last may be cut short."""
    at = 0
    while at + 2 <= len(data):
        end = at + 2 + data[at + 1]
        yield data[at], data[at + 2 : end]
        at = end


def _ieee802154(data: bytes) -> None:
    frame = MacFrame.parse(data[1:], fcs=bool(data[:1] > b"\x7f"))
    assert MacFrame.parse(frame.emit()) == frame


def _zep(data: bytes) -> None:
    try:
        packet = zep.ZepFrame.parse(data)
    except WireError as error:
        if error.reason != "zep-type":
            raise
        assert zep.ZepAck.parse(data).emit() == data[:8]
        return
    assert zep.ZepFrame.parse(packet.emit()) == packet


def _iphc(data: bytes) -> None:
    flags = data[0] if data else 0
    size = None if flags < 0x80 else 40 + (flags << 3 & 0x3F8)
    done = iphc.decompress(data[1:], _ADDRESSES[flags & 3], _ADDRESSES[flags >> 2 & 3], CONTEXTS, size)
    assert len(done.headers) + len(done.payload) <= iphc.MAX_HEADERS * 264 + len(data)
    header = ipv6.Ipv6Header.parse(done.headers)
    assert header == done.header
    if size is None:
        assert 40 + header.payload_length == len(done.headers) + len(done.payload)


def _hc1(data: bytes) -> None:
    flags = data[0] if data else 0
    size = None if flags < 0x80 else 40 + (flags << 3 & 0x3F8)
    done = hc1.decompress(data[1:], _ADDRESSES[flags & 3], _ADDRESSES[flags >> 2 & 3], size)
    assert ipv6.Ipv6Header.parse(done.headers) == done.header
    assert 40 + done.header.payload_length == (size or len(done.headers) + len(done.payload))


def _frag(data: bytes) -> None:
    parse = frag.FragN.parse if data[:1] >= b"\xe0" else frag.Frag1.parse
    assert parse(data).emit() == data


def _lowpan(data: bytes) -> None:
    flags = data[0] if data else 0
    found = lowpan.parse(data[1:], _ADDRESSES[flags & 3], _ADDRESSES[flags >> 2 & 3], CONTEXTS)
    if isinstance(found, lowpan.First):
        assert len(found.udp_payload_slice) <= found.payload_length <= ipv6.MTU - ipv6.UDP_OFFSET
    elif isinstance(found, lowpan.Next):
        end = ipv6.UDP_OFFSET + found.udp_payload_offset + len(found.data)
        assert ipv6.UDP_OFFSET < end <= found.datagram_size <= ipv6.MTU
    else:
        assert len(found.payload) <= len(data)


def _message(data: bytes) -> None:
    first = message.FirstSlice.parse(data[2:], int.from_bytes(data[:2], "big") & 0x7FF)
    assert len(first.mac) == message.MAC_LENGTH
    message.mac_input(bytes(16), bytes(16), 1, 2, first)
    if first.cut_problem is None:
        assert len(first.data) + sum(length for _, length in first.slices) == first.payload_length
        for i, (offset, length) in enumerate(first.slices, 1):
            assert first.index_of(offset, length) == i


def _reply(data: bytes) -> None:
    if reply.is_custody(data):
        assert reply.Custody.parse(data).emit() == data
    else:
        assert reply.Answer.parse(data).emit() == data


def _batch(data: bytes) -> None:
    if data[:4] == b"SWA1":
        assert batch.emit_response(batch.parse_response(data)) == data
    else:
        items = batch.parse_request(data)
        assert batch.emit_request(items, epochs=not data.startswith(b"SWB1")) == data


def _mqtt(data: bytes) -> None:
    """A byte of length and a topic, then a fragment that came on it."""
    end = 1 + data[0] if data else 0
    name = data[1:end].decode("utf-8", "replace")
    device = mqtt.device_of(name)
    assert device is None or name.split("/")[3] == device.hex()
    fragment = mqtt.Fragment.parse(data[end:])
    assert fragment.emit() == data[end:]
    assert fragment.data
    assert fragment.payload_length <= message.MAX_PAYLOAD


def _latent(data: bytes) -> None:
    header, coded = latent.parse(data)
    assert latent.parse(latent.emit(header, coded)) == (header, coded)


def _pcap(data: bytes) -> None:
    for record in pcap.Reader(data):
        assert len(record.data) <= len(data)


def _headfile(data: bytes) -> None:
    head = HeadFile.parse(data)
    again = HeadFile.parse(head.emit())
    assert again.emit() == head.emit()
    for width in range(len(head.widths)):
        head.latent_shape(width)
        head.macs(width)
        head.ram_bytes(width)


def _rans() -> Feed:
    """Decodes one message at a time, and each 64 of them again as a batch: the two decoders agree."""
    tables = rans.Tables([[3000, 1000, 90, 6], [1, 1, 1, 4093]], [int(i % 3 == 0) for i in range(40)])
    waiting: list[bytes] = []
    outcomes: list[bytes | None] = []

    def feed(data: bytes) -> bool:
        outcome = None
        try:
            symbols = rans.decode(data, tables)
            assert rans.encode(symbols, tables) == data
            outcome = symbols.tobytes()
        except WireError:
            pass
        waiting.append(data)
        outcomes.append(outcome)
        if len(waiting) == rans.VECTOR_THRESHOLD:
            for one, other in zip(rans.decode_batch(waiting, tables), outcomes, strict=True):
                assert other is None if isinstance(one, WireError) else other == one.tobytes()
            waiting.clear()
            outcomes.clear()
        return outcome is not None

    return feed


def _rfrag() -> Feed:
    """Fragments and acknowledgements of few sources and tags into one passive reassembler."""
    target = recovery.RecoveryReassembler(max_datagrams=32)
    now = 0

    def feed(data: bytes) -> bool:
        nonlocal now
        accepted = False
        for flags, part in frames(data):
            now += flags << 20
            key = (A if flags & 1 else B, b"\0\1", 0)
            try:
                if part[:1] in (b"\xea", b"\xeb"):
                    ack = rfrag.RfragAck.parse(part)
                    assert ack.emit() == part
                    if ack.is_abort:
                        target.abort((*key[:2], ack.tag & 3))
                    continue
                fragment = rfrag.Rfrag.parse(part)
                assert fragment.emit() == part
                whole = target.add(now, (*key[:2], fragment.tag & 3), fragment)
            except WireError:
                continue
            finally:
                assert len(target) <= 8
            accepted = True
            assert whole is None or len(whole) <= recovery.MAX_COMPRESSED
        return accepted

    return feed


def _slip() -> Feed:
    """A serial line that goes on from input to input."""
    decoder = slip.Decoder()

    def feed(data: bytes) -> bool:
        packets = [packet for packet in decoder.feed(data) if packet is not None]
        assert all(0 < len(packet) <= slip.LARGEST for packet in packets)
        assert sum(map(len, packets)) <= len(data) + slip.LARGEST
        for packet in packets:
            assert list(slip.Decoder().feed(slip.encode(packet))) == [packet]
        return bool(packets)

    return feed


def _dissect() -> Feed:
    """Frames of every link type into one dissector, as they are or as MAC payloads between few addresses."""
    # Few datagrams, so that its memory is at its bound soon.
    dissector = dissect.Dissector(CONTEXTS, max_datagrams=8)
    now = 0

    def feed(data: bytes) -> bool:
        nonlocal now
        accepted = False
        for flags, part in frames(data):
            now += 1_000_000 << (flags & 15)
            record = pcap.Record(now, (*dissect.LINKTYPES, 0)[flags >> 5], part)
            if flags & 16:
                record = pcap.Record(now, pcap.IEEE802154_NO_FCS, _data_frame(part, flags))
            found = dissector.frame(record)
            assert found.layers or found.error
            assert found.datagram is None or found.datagram.size <= iphc.MAX_DATAGRAM
            accepted |= found.error is None
        return accepted

    return feed


def _data_frame(payload: bytes, flags: int) -> bytes:
    src, dst = _ADDRESSES[flags >> 5 & 3], _ADDRESSES[flags >> 7]
    return MacFrame(FrameKind.DATA, 0, kit.PAN, dst, src, payload[:104], version=1).emit(fcs=False)


def _receiver() -> Feed:
    """Frames into one gateway that knows two devices, with time passing.

    By its flags, a frame of the input is: 0 as it is; 1 given a right FCS; 2 a MAC payload from a device;
    3 made by a hostile device that is enrolled, with its key (`_signed`).
    """
    nodes = kit.Node(1), kit.Node(2)
    target = kit.receiver(*nodes, limits=Limits(memory=2 * 2560 + 4096 + 2000))
    now, heard = 0.0, 0

    def feed(data: bytes) -> bool:
        nonlocal now, heard
        accepted = False
        for flags, part in frames(data):
            now += 0.001 * (1 << (flags >> 4))
            heard += 1
            for frame in _air(nodes[flags >> 2 & 1], flags & 3, part):
                for event in target.on_frame(frame, now):
                    if isinstance(event, Accepted):
                        target.mark_used(event.device, event.epoch, event.counter)
                    accepted |= not isinstance(event, Rejected)
            if heard % 16 == 0:
                target.tick(now)
            assert target.memory_used <= target.memory_bound
        return accepted

    return feed


def _air(node: kit.Node, form: int, part: bytes) -> list[bytes]:
    """The frames, with their FCS, that an input's frame stands for."""
    if form == 0:
        return [part]
    if form == 1:
        return [part + fcs(part).to_bytes(2, "little")]
    if form == 2:
        return [MacFrame(FrameKind.DATA, 0, kit.PAN, kit.GATEWAY, node.eui, part[:104]).emit()]
    return _signed(node, part)


def _signed(node: kit.Node, part: bytes) -> list[bytes]:
    """A first slice with the MAC that the device would give it, whatever its manifest says.

    Two bytes give the payload length; with their top bit, the device sends a whole message of that length
    under the counter in the next four bytes, and the air loses the frames that the fifth one says.
    """
    if len(part) < 7:
        return []
    length, body = int.from_bytes(part[:2], "big"), part[2:]
    counter = int.from_bytes(body[:4], "big")
    if length & 0x8000:
        sealed = (body * 200)[: 1 + length % 1100]
        made = node.frames(counter, sealed)
        return [frame for i, frame in enumerate(made) if not body[4] >> i % 8 & 1]
    length &= 0x7FF
    try:
        first = message.FirstSlice.parse(body, length)
    except WireError:
        return []
    src, dst = eui64.link_local(node.eui), eui64.link_local(kit.GATEWAY)
    covered = message.mac_input(src, dst, message.PORT, message.PORT, first)
    mac = hmac.digest(node.keys.frag_up, covered, "sha256")[: message.MAC_LENGTH]
    body = body[: first.header_length] + mac + body[first.sealed_start :]
    headers = iphc.compress_udp(src, dst, message.PORT, message.PORT, 0, node.eui, kit.GATEWAY)
    whole = length == len(body) <= 98
    tag = message.datagram_tag(first.counter)
    payload = headers + body if whole else frag.Frag1(48 + length, tag, headers + body[:88]).emit()
    return [MacFrame(FrameKind.DATA, 0, kit.PAN, kit.GATEWAY, node.eui, payload).emit()]


TARGETS = {
    target.name: target
    for target in (
        Target("ieee802154", _refusing(_ieee802154)),
        Target("zep", _refusing(_zep)),
        Target("iphc", _refusing(_iphc)),
        Target("hc1", _refusing(_hc1)),
        Target("frag", _refusing(_frag)),
        Target("rfrag", _rfrag),
        Target("lowpan", _refusing(_lowpan)),
        Target("message", _refusing(_message)),
        Target("reply", _refusing(_reply)),
        Target("batch", _refusing(_batch)),
        Target("mqtt", _refusing(_mqtt)),
        Target("slip", _slip),
        Target("latent", _refusing(_latent)),
        Target("rans", _rans, arrays=True),
        Target("pcap", _refusing(_pcap)),
        Target("dissect", _dissect),
        Target("headfile", _refusing(_headfile), arrays=True),
        Target("receiver", _receiver),
    )
}
