"""Shapes that broke other stacks, by the name they are known under: what a reader of captures makes of them.

Each ends in a named reason, and the genuine datagram under way around it still arrives. Where a capture's
rules differ from a gateway's (RFC 4944 §5.3 discards on a conflict), the test says so.
"""

import pytest

from tests.wire import captures
from wire import eui64, frag, iphc
from wire.dissect import Dissection, Dissector
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame
from wire.ipv6 import Ipv6Header
from wire.lowpan import udp_frames
from wire.pcap import IEEE802154_NO_FCS, IEEE802154_WITH_FCS, Record
from wire.rfrag import Rfrag, RfragAck

A, B = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000fe")
PAYLOAD = bytes(range(250))
TAG = 7
COMPRESSED = captures.compressed_udp(A, B, PAYLOAD)
PARTS = frag.cut(COMPRESSED[:6], 48, PAYLOAD, TAG, 104)
SIZE = 48 + len(PAYLOAD)


def fragn(offset: int, data: bytes, *, size: int = SIZE, tag: int = TAG) -> bytes:
    return (0xE000 | size).to_bytes(2, "big") + tag.to_bytes(2, "big") + bytes([offset]) + data


class Capture:
    """One dissector, fed with MAC payloads from A to B."""

    def __init__(self) -> None:
        self.dissector = Dissector()

    def hear(self, payload: bytes, src: bytes | None = A, dst: bytes | None = B) -> Dissection:
        frame = MacFrame(FrameKind.DATA, 1, 0x23F0, dst, src, payload, version=1).emit(fcs=False)
        return self.dissector.frame(Record(0, IEEE802154_NO_FCS, frame))

    def datagrams(self, *payloads: bytes) -> list[bytes]:
        """The payloads of the datagrams that these complete."""
        return [found.datagram.payload for p in payloads if (found := self.hear(p)).datagram is not None]


def reason(found: Dissection) -> str | None:
    return found.error.partition(":")[0] if found.error else None


def survives(*attack: bytes) -> list[str | None]:
    """Reasons of `attack`, heard after the first fragment; the datagram still arrives."""
    capture = Capture()
    capture.hear(PARTS[0])
    reasons = [reason(capture.hear(payload)) for payload in attack]
    assert capture.datagrams(*PARTS[1:]) == [PAYLOAD]
    return reasons


def test_cve_2019_8359_offset_beyond_the_datagram() -> None:
    assert survives(fragn(255, bytes(96))) == ["frag-length"]


@pytest.mark.parametrize("offset", [37, 38, 200, 255])
def test_riot_a_bogus_out_of_range_fragn_does_not_kill_the_datagram(offset: int) -> None:
    assert survives(fragn(offset, bytes(8))) == ["frag-length"]


@pytest.mark.parametrize(
    "header",
    [PARTS[0][:4], PARTS[1][:5], b"\xe8\1\0\0\0\0", b"\xea\1\0\0\0\0", b"\xb1\0\1\0\2\x50", b"\x50\1"],
)
def test_cve_2019_9183_cve_2021_3321_riot_pr_22504_shorter_than_its_own_header(header: bytes) -> None:
    assert len(survives(*(header[:length] for length in range(1, len(header))))) == len(header) - 1
    capture = Capture()
    for length in range(1, len(header)):
        assert reason(capture.hear(header[:length])) in ("truncated", "frag-size")


def test_cve_2021_21280_a_long_extension_header_chain() -> None:
    chain = b"\x7e\x33" + b"\xe1\x06" + bytes(6) + b"\xe1\x06" + bytes(6)
    assert survives(chain + (b"\xe1\x06" + bytes(6)) * 8) == ["extension-chain"]
    assert survives(b"\x7e\x33" + b"\xee\x7e\x33" * 30) == ["extension-chain"]


@pytest.mark.parametrize(
    "header",
    [
        "7e33f3121234",
        "7e33f0123456781234",
        "6000c00123453b40" + "00" * 32,
        "7e33e106010400000000f3121234",
        "7e33ee7e33f3121234",
        "7a223a12345678",
    ],
)
def test_cve_2021_21410_cve_2021_3323_riot_pr_18820_and_19680_iphc_promises_bytes_that_are_not_there(
    header: str,
) -> None:
    data = bytes.fromhex(header)
    iphc.decompress(data, A, B)
    for length in range(1, len(data)):
        with pytest.raises(WireError) as caught:
            iphc.decompress(data[:length], A, B)
        assert caught.value.reason == "truncated"


def test_contiki_pr_3135_a_doubled_fragment_does_not_complete_the_datagram() -> None:
    capture = Capture()
    assert capture.datagrams(PARTS[0], *[PARTS[1]] * 5) == []
    assert capture.datagrams(PARTS[2]) == [PAYLOAD]


def test_contiki_pr_3135_a_doubled_first_fragment_takes_one_context() -> None:
    capture = Capture()
    for _ in range(5):
        capture.hear(PARTS[0])
    assert len(capture.dissector._reassembler) == 1
    assert capture.datagrams(*PARTS[1:]) == [PAYLOAD]


def test_contiki_pr_3135_a_cid_bit_without_its_byte() -> None:
    assert survives(b"\x7e\xb3") == ["truncated"]


def test_cve_2021_3319_missing_addresses() -> None:
    capture = Capture()
    assert reason(capture.hear(PARTS[1], src=None)) == "address-missing"
    assert reason(capture.hear(PARTS[0], src=None)) == "address-missing"
    assert reason(capture.hear(PARTS[1], dst=None)) == "address-missing"
    assert reason(capture.hear(b"\x7a\x33\x3b", src=None)) == "address-missing"


@pytest.mark.parametrize("kind", [FrameKind.ACK, FrameKind.BEACON, FrameKind.COMMAND])
def test_cve_2021_3320_an_ack_frame_is_not_data(kind: FrameKind) -> None:
    frame = MacFrame(kind, 1, 0x23F0, B, A, COMPRESSED[:80], version=1).emit()
    found = Dissector().frame(Record(0, IEEE802154_WITH_FCS, frame))
    assert (found.datagram, found.layers[0], len(found.layers)) == (None, "802.15.4", 2)


def test_cve_2021_3330_a_forged_fragment_list() -> None:
    """The RFC's rule on unauthenticated fragments: a conflict discards; nothing is put together wrongly."""
    capture = Capture()
    forged = [fragn(offset, bytes(96)) for offset in (17, 17, 18, 17, 30)]
    reasons = [reason(capture.hear(payload)) for payload in [PARTS[0], *forged]]
    assert reasons == [None, None, None, "frag-overlap", "frag-overlap", "frag-length"]
    assert capture.datagrams(*PARTS, *PARTS) == [PAYLOAD]


def test_cve_2020_10064_an_invalid_802_15_4_frame() -> None:
    frame = bytearray(MacFrame(FrameKind.DATA, 1, 0x23F0, B, A, PARTS[0], version=1).emit())
    for at, value, expected in (
        (0, 0x47, "frame-type"),
        (1, 0xF8, "frame-version"),
        (1, 0x94, "address-mode"),
    ):
        bad = bytearray(frame[:-2])
        bad[at] = value
        assert reason(Dissector().frame(Record(0, IEEE802154_NO_FCS, bytes(bad)))) == expected
    frame[-1] ^= 1
    assert reason(Dissector().frame(Record(0, IEEE802154_WITH_FCS, bytes(frame)))) == "bad-fcs"


def test_cve_2023_24822_and_33973_what_is_encoded_again_was_validated_first() -> None:
    """RIOT encoded what it had not checked. Here every accepted datagram compresses, and reads the same."""
    dissector = Dissector()
    for frame in captures.traffic(seed=3, datagrams=60).frames:
        found = dissector.frame(Record(0, IEEE802154_WITH_FCS, frame)).datagram
        if found is not None:
            header = Ipv6Header(found.src, found.dst, found.next_header, 0)
            again = iphc.decompress(iphc.compress(header, None, None), None, None).header
            assert (again.src, again.dst, again.next_header) == (found.src, found.dst, found.next_header)
    for address in (A[:3], b""):
        with pytest.raises(WireError):
            eui64.link_local(address)
        with pytest.raises(WireError):
            MacFrame(FrameKind.DATA, 1, 1, address, A, b"").emit()
    with pytest.raises(WireError):
        udp_frames(A, B, 1, 2, bytes(1233), 0, 0, 1)


def test_cve_2023_24826_and_33974_control_frames_out_of_turn() -> None:
    """RIOT's recovery met an abort or an acknowledgement in a state that it did not expect."""
    first, second, last = (part.emit() for part in captures.rfrags(COMPRESSED, tag=TAG, step=90))
    abort, acks = Rfrag(TAG, 3, 0, b"").emit(), [RfragAck(TAG, n).emit() for n in (0, 1, 0xFFFFFFFF)]
    capture = Capture()
    for payload in (abort, *acks, first, abort, abort, last, *acks, abort, second, abort):
        assert reason(capture.hear(payload)) is None
        for ack in acks:
            assert reason(capture.hear(ack, src=B, dst=A)) is None
    assert capture.datagrams(last, first, second) == [PAYLOAD]
    assert capture.datagrams(abort, second) == []


@pytest.mark.parametrize("size", [0, 1, 8, 39])
def test_openthread_pr_13274_datagram_size_below_40(size: int) -> None:
    assert survives(fragn(1, b"12345678", size=size)) == ["frag-size"]
    first = (0xC000 | size).to_bytes(2, "big") + PARTS[0][2:]
    assert survives(first) == ["frag-size"]


def test_a_size_that_differs_between_fragments_is_another_datagram() -> None:
    assert survives(fragn(17, PARTS[1][5:], size=SIZE + 8)) == [None]


def test_offset_0_in_fragn() -> None:
    assert survives(fragn(0, bytes(96))) == ["frag-offset"]


def test_a_middle_fragment_that_is_no_multiple_of_8() -> None:
    assert survives(fragn(17, bytes(95))) == ["frag-length"]


def test_a_zero_length_fragn() -> None:
    assert survives(fragn(17, b"")) == ["frag-empty"]


def test_the_same_tag_from_two_sources() -> None:
    capture = Capture()
    other = frag.cut(captures.compressed_udp(B, A, PAYLOAD[::-1])[:6], 48, PAYLOAD[::-1], TAG, 104)
    found = [
        one.datagram.payload
        for mine, theirs in zip(PARTS, other, strict=True)
        for one in (capture.hear(mine), capture.hear(theirs, src=B, dst=A))
        if one.datagram
    ]
    assert found == [PAYLOAD, PAYLOAD[::-1]]


def test_a_tag_reused_after_completion_and_late_duplicates() -> None:
    capture = Capture()
    again = frag.cut(captures.compressed_udp(A, B, PAYLOAD[::-1])[:6], 48, PAYLOAD[::-1], TAG, 104)
    assert capture.datagrams(*PARTS, PARTS[2], *again) == [PAYLOAD, PAYLOAD[::-1]]


def test_a_first_fragment_longer_than_its_datagram() -> None:
    assert survives((0xC000 | 48).to_bytes(2, "big") + PARTS[0][2:]) == ["datagram-size"]
