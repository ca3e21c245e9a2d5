"""Shapes that broke other reassemblers, by the name they are known under; each ends in its reason."""

import pytest

from gateway.admission import Limits
from gateway.events import Kept
from tests.gateway.kit import GATEWAY, PAN, Node, accepted, feed, reasons, receiver, sealed_bytes
from wire import lowpan
from wire.ieee802154 import FrameKind, MacFrame
from wire.message import PORT

NODE = Node()
SEALED = sealed_bytes(343)
FRAMES = NODE.frames(1, SEALED)
SIZE = 48 + sum(map(len, NODE.slices(1, SEALED)))


def frame(payload: bytes, *, src: bytes | None = NODE.eui, seq: int = 0) -> bytes:
    return MacFrame(FrameKind.DATA, seq, PAN, GATEWAY, src, payload).emit()


def fragn(offset: int, data: bytes, *, size: int = SIZE, tag: int = 1) -> bytes:
    return frame((0xE000 | size).to_bytes(2, "big") + tag.to_bytes(2, "big") + bytes([offset]) + data)


def survives(attack: list[bytes]) -> list[str]:
    """Reasons of `attack`, heard after the first fragment; the message still arrives whole."""
    target = receiver(NODE)
    target.on_frame(FRAMES[0], 0.0)
    events = feed(target, attack)
    assert [message.sealed for message in accepted(feed(target, FRAMES[1:]))] == [SEALED]
    return reasons(events)


def test_cve_2019_8359_offset_beyond_the_datagram() -> None:
    assert survives([fragn(255, bytes(96))]) == ["bad-length"]


def test_riot_a_bogus_out_of_range_fragn_does_not_kill_the_datagram() -> None:
    assert survives([fragn(SIZE // 8, bytes(96)), fragn(3, bytes(96))]) == ["bad-length", "bad-offset"]


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\xc1\x80\x00", b"\xe1\x80\x00\x01", b"\xc1\x80\x00\x01"])
def test_cve_2019_9183_and_cve_2021_3321_shorter_than_its_own_header(payload: bytes) -> None:
    # Four bytes are a whole FRAG1 header, with nothing after it.
    whole = payload == b"\xc1\x80\x00\x01"
    assert survives([frame(payload)]) == ["bad-length" if whole else "malformed-lowpan"]


def test_cve_2021_21280_a_long_extension_header_chain() -> None:
    # IPHC with a compressed next header, then destination options one after the other.
    chain = b"\x7e\x33" + b"\xe7\x02\x01\x00" * 20 + b"\xf3\x00\x00\x00"
    assert survives([frame(chain)]) == ["malformed-lowpan"]


@pytest.mark.parametrize("length", range(2, 6))
def test_cve_2021_21410_and_cve_2021_3323_iphc_promises_bytes_that_are_not_there(length: int) -> None:
    for form in (b"\x60\x00", b"\x7e\x33", b"\x7e\xb3", b"\x60\xff", b"\x64\x80"):
        assert survives([frame((form + b"\xf3\x00\x00\x00")[:length])]) == ["malformed-lowpan"]


def test_contiki_pr_3135_a_doubled_fragment_does_not_complete_the_datagram() -> None:
    target = receiver(NODE)
    # As many octets as the datagram has, and the last fragment missing.
    events = feed(target, [*FRAMES[:-1], *FRAMES[1:-1], *FRAMES[1:-1]])
    assert accepted(events) == []
    assert set(reasons(events)) == {"duplicate"}
    assert len(accepted(feed(target, FRAMES[-1:]))) == 1


def test_contiki_pr_3135_a_doubled_first_fragment_takes_one_context() -> None:
    target = receiver(NODE)
    feed(target, [FRAMES[0]])
    held = target.memory_used
    assert reasons(feed(target, [FRAMES[0]] * 5)) == ["duplicate"] * 5
    assert target.memory_used == held


def test_contiki_pr_3135_a_cid_bit_without_its_byte() -> None:
    assert survives([frame(b"\x7e\xb3")]) == ["malformed-lowpan"]


def test_cve_2021_3319_and_3320_missing_addresses() -> None:
    target = receiver(NODE)
    nobody = MacFrame(FrameKind.DATA, 0, PAN, GATEWAY, None, b"\x7e\x33\xf3\x00\0\0" + bytes(30)).emit()
    assert reasons(target.on_frame(nobody, 0.0)) == ["stranger"]
    to_nobody = MacFrame(FrameKind.DATA, 0, PAN, None, NODE.eui, b"\x7e\x33\xf3\x00\0\0" + bytes(30)).emit()
    assert reasons(target.on_frame(to_nobody, 0.0)) == ["not-ours"]


def test_cve_2021_3320_an_ack_frame_is_not_data() -> None:
    ack = MacFrame.parse(FRAMES[0])
    ack.kind = FrameKind.ACK
    assert reasons(receiver(NODE).on_frame(ack.emit(), 0.0)) == ["not-ours"]


def test_cve_2021_3330_a_forged_fragment_list() -> None:
    forged = [fragn(offset, bytes(96)) for offset in (17, 17, 29, 17, 29)]
    assert set(survives(forged)) == {"bad-tag"}


def test_cve_2020_10064_an_invalid_802_15_4_frame() -> None:
    bad = bytearray(FRAMES[1])
    bad[-1] ^= 1
    assert survives([bytes(bad)]) == ["malformed-frame"]


@pytest.mark.parametrize("size", [0, 8, 39])
def test_openthread_pr_13274_datagram_size_below_40(size: int) -> None:
    assert survives([fragn(1, b"12345678", size=size)]) == ["bad-size"]


def test_size_above_1280() -> None:
    assert survives([fragn(17, bytes(96), size=1281)]) == ["bad-size"]


def test_a_size_that_differs_between_fragments_is_another_datagram() -> None:
    target = receiver(NODE)
    target.on_frame(FRAMES[0], 0.0)
    later = lowpan.parse(MacFrame.parse(FRAMES[1]).payload, NODE.eui, GATEWAY)
    assert isinstance(later, lowpan.Next)
    assert feed(target, [fragn((later.udp_payload_offset + 48) // 8, later.data, size=SIZE + 8)]) == [
        Kept(NODE.eui)
    ]
    assert len(accepted(feed(target, FRAMES[1:]))) == 1


def test_offset_0_in_fragn() -> None:
    assert survives([fragn(0, bytes(96))]) == ["bad-offset"]


def test_a_middle_fragment_that_is_no_multiple_of_8() -> None:
    assert survives([fragn(17, bytes(95))]) == ["bad-length"]


def test_a_zero_length_fragn() -> None:
    assert survives([fragn(17, b"")]) == ["bad-length"]


def test_a_fragment_shorter_than_its_slice() -> None:
    assert survives([fragn(17, bytes(88))]) == ["bad-length"]


def test_other_bytes_at_a_verified_place_change_nothing() -> None:
    target = receiver(NODE)
    feed(target, FRAMES[:2])
    assert reasons(target.on_frame(fragn(17, bytes(96)), 0.0)) == ["overlap"]
    assert [message.sealed for message in accepted(feed(target, FRAMES[2:]))] == [SEALED]


def test_the_same_tag_from_two_sources() -> None:
    other = Node(2)
    target = receiver(NODE, other)
    theirs = sealed_bytes(343, 7)
    mixed = [item for pair in zip(FRAMES, other.frames(1, theirs), strict=True) for item in pair]
    assert {m.device: m.sealed for m in accepted(feed(target, mixed))} == {
        NODE.eui: SEALED,
        other.eui: theirs,
    }


def test_a_tag_reused_after_completion() -> None:
    target = receiver(NODE)
    feed(target, FRAMES)
    again = NODE.frames(1 + 65536, sealed_bytes(343, 3))
    assert [m.sealed for m in accepted(feed(target, again))] == [sealed_bytes(343, 3)]


def test_late_duplicates_reserve_nothing() -> None:
    target = receiver(NODE)
    feed(target, FRAMES)
    assert reasons(feed(target, [FRAMES[2], FRAMES[0]])) == ["already-complete"] * 2
    assert target.memory_used == 0


def test_early_fragment_injection() -> None:
    target = receiver(NODE)
    feed(target, [fragn(17, bytes(96)), fragn(29, bytes(96))])
    events = feed(target, FRAMES)
    assert reasons(events) == ["bad-tag", "bad-tag"]
    assert [message.sealed for message in accepted(events)] == [SEALED]


def test_flooding_with_fake_first_fragments_reserves_nothing() -> None:
    target = receiver(NODE)
    for n in range(200):
        fake = MacFrame.parse(NODE.frames(1000 + n, SEALED)[0])
        fake.payload = fake.payload[:-8] + n.to_bytes(8, "big")
        target.on_frame(fake.emit(), 0.0)
    assert target.memory_used == 0
    assert len(accepted(feed(target, FRAMES))) == 1


def test_flooding_with_fake_later_fragments_leaves_genuine_messages_alone() -> None:
    target = receiver(NODE)
    for n in range(500):
        feed(target, [fragn(17, n.to_bytes(96, "big"), tag=n)])
    assert target.memory_used <= 4096
    assert len(accepted(feed(target, FRAMES))) == 1


def test_framing_a_victim_costs_it_no_trust_and_no_memory() -> None:
    target = receiver(NODE)
    before = target.trust.level(NODE.eui), target.trust.budget(NODE.eui, 1000)
    feed(target, [fragn(17, n.to_bytes(96, "big")) for n in range(300)])
    assert (target.trust.level(NODE.eui), target.trust.budget(NODE.eui, 1000)) == before
    assert len(accepted(feed(target, FRAMES))) == 1


def test_slow_drip_holds_only_the_devices_own_reserve() -> None:
    other = Node(2)
    target = receiver(NODE, other, limits=Limits(memory=2 * 2560 + 4096))
    for counter in range(1, 50):
        target.on_frame(NODE.frames(counter, sealed_bytes(1100))[0], 0.0)
    assert target.peers[NODE.eui].account.used <= 2560
    assert len(accepted(feed(target, other.frames(1, sealed_bytes(1100))))) == 1


def test_replay_of_an_old_valid_datagram() -> None:
    target = receiver(NODE)
    feed(target, FRAMES, 0.0)
    target.mark_used(NODE.eui, 0, 1)
    replayed = feed(target, FRAMES, 3600.0)
    assert accepted(replayed) == []
    assert reasons(replayed)[0] == "replayed"


def test_a_genuine_first_fragment_under_another_datagram_tag() -> None:
    first = MacFrame.parse(FRAMES[0])
    first.payload = first.payload[:2] + b"\x00\x02" + first.payload[4:]
    assert survives([first.emit()]) == ["tag-mismatch"]


def test_a_genuine_first_fragment_with_another_size() -> None:
    first = MacFrame.parse(FRAMES[0])
    first.payload = (0xC000 | (SIZE + 8)).to_bytes(2, "big") + first.payload[2:]
    assert survives([first.emit()]) == ["bad-mac"]


def test_forged_selective_recovery_control_frames() -> None:
    # RFC 8931 §5: RFRAG-ACKs that abort and complete, and the sender's abort. None of them frees anything.
    forged = [b"\xea\x01" + bytes(4), b"\xea\x01" + b"\xff" * 4, b"\xe8\x01" + bytes(4)]
    assert survives([frame(payload) for payload in forged]) == ["recovery-abort"]


def test_uncompressed_ipv6_is_understood() -> None:
    from wire.ipv6 import UDP, Ipv6Header, UdpHeader, udp_checksum

    (payload,) = NODE.slices(3, b"x" * 20)
    packet = lowpan.parse(MacFrame.parse(NODE.frames(3, b"x" * 20)[0]).payload, NODE.eui, GATEWAY)
    assert isinstance(packet, lowpan.Unfragmented)
    length = 8 + len(payload)
    header = Ipv6Header(packet.src16, packet.dst16, UDP, length).emit()
    checksum = udp_checksum(packet.src16, packet.dst16, PORT, PORT, payload)
    udp = UdpHeader(PORT, PORT, length, checksum).emit()
    assert [m.sealed for m in accepted(feed(receiver(NODE), [frame(b"\x41" + header + udp + payload)]))] == [
        b"x" * 20
    ]
