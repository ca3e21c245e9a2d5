"""Admission and reassembly on genuine frames, and on each way in which frames are wrong."""

from dataclasses import replace
from itertools import pairwise

import pytest

from gateway.admission import Limits
from gateway.events import Rejected, Revoked, Used
from gateway.reasons import Reason
from gateway.receiver import Receiver
from security import chain
from security.chain import KeyedChain
from security.keys import derive_gateway
from security.registry import Device
from security.trust import PaperTrust
from tests.gateway.kit import (
    GATEWAY,
    PAN,
    SITE,
    Node,
    accepted,
    feed,
    reasons,
    receiver,
    registry,
    sealed_bytes,
)
from wire import eui64, lowpan
from wire.ieee802154 import FrameKind, MacFrame
from wire.message import PORT, Kind, octet0


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.mark.parametrize("length", [1, 79, 85, 86, 159, 343, 1100])
def test_a_message_of_any_length_arrives_whole(node: Node, length: int) -> None:
    target = receiver(node)
    sealed = sealed_bytes(length)
    events = feed(target, node.frames(7, sealed))
    (message,) = accepted(events)
    assert message.sealed == sealed
    assert (message.device, message.counter, message.epoch, message.pan) == (node.eui, 7, 0, PAN)
    assert message.octet0 == octet0(Kind.DATA, 0)
    assert message.frames == target.fragments == len(node.frames(7, sealed))
    assert not message.retry
    assert target.memory_used == 0
    assert not target.counters


def test_later_fragments_arrive_in_any_order_even_before_the_first(node: Node) -> None:
    target = receiver(node)
    frames = node.frames(1, sealed_bytes(343))
    (message,) = accepted(feed(target, [frames[2], frames[1], frames[0], *frames[3:]]))
    assert message.sealed == sealed_bytes(343)
    assert not target.counters


def test_a_wrong_fragment_is_dropped_alone(node: Node) -> None:
    target = receiver(node)
    frames = node.frames(1, sealed_bytes(343))
    forged = MacFrame.parse(frames[2])
    forged.payload = forged.payload[:-1] + bytes([forged.payload[-1] ^ 1])
    events = feed(target, [*frames[:2], forged.emit(), *frames[2:]])
    assert reasons(events) == ["bad-tag"]
    assert [message.sealed for message in accepted(events)] == [sealed_bytes(343)]


def test_first_fragment_with_a_wrong_mac_reserves_nothing(node: Node) -> None:
    target = receiver(node)
    frame = MacFrame.parse(node.frames(1, sealed_bytes(343))[0])
    frame.payload = frame.payload[:-1] + bytes([frame.payload[-1] ^ 1])
    assert reasons(feed(target, [frame.emit()])) == ["bad-mac"]
    assert target.memory_used == 0


def test_a_stranger_is_remembered_for_whoever_enrols_it(node: Node) -> None:
    target = receiver()
    assert reasons(feed(target, node.frames(1, b"x" * 20))) == ["stranger"]
    assert list(target.strangers) == [node.eui]


def test_a_revoked_device_is_refused_and_told_so_if_it_has_its_keys(node: Node) -> None:
    target = receiver(revoked=(node,))
    told = Revoked(node.eui, 0, 1, PAN)
    frames = node.frames(1, sealed_bytes(300))
    assert feed(target, frames) == [
        Rejected(Reason.REVOKED, node.eui),
        told,
        *[Rejected(Reason.REVOKED, node.eui)] * (len(frames) - 1),
    ]
    assert told in feed(target, node.frames(1, b"x" * 20))
    assert told in feed(target, node.recoverable(1, sealed_bytes(300), ask=(0, 1)))
    forged = MacFrame.parse(frames[0])
    forged.payload = forged.payload[:-1] + bytes([forged.payload[-1] ^ 1])
    assert reasons(feed(target, [forged.emit()])) == ["bad-mac"]
    assert (
        feed(target, [node.mac(b"\xea\0\0\0\0\0"), node.mac(b"")]) == [Rejected(Reason.REVOKED, node.eui)] * 2
    )
    assert (target.memory_used, target.messages, target.fragments) == (0, 0, 0)


def test_words_to_a_revoked_device_are_rationed(node: Node) -> None:
    target = receiver(revoked=(node,))
    frames = [frame for counter in range(1, 101) for frame in node.frames(counter, b"x" * 20)]
    events = feed(target, frames, now=5.0)
    assert len([event for event in events if type(event) is Revoked]) == 16
    assert reasons(events) == ["revoked"] * 100


def test_frames_for_others_and_frames_without_data_are_not_ours(node: Node) -> None:
    target = receiver(node)
    other = node.carry(node.slices(1, b"x" * 20), 1, dst=bytes.fromhex("0200000000000002"))
    ack = MacFrame(FrameKind.ACK, 1, None, None, None, b"").emit()
    assert reasons(feed(target, [*other, ack])) == ["not-ours", "not-ours"]


def test_a_gateway_of_one_pan_hears_no_other(node: Node) -> None:
    frame = MacFrame.parse(node.frames(1, b"x" * 20)[0])
    frame.pan = PAN + 1
    target = Receiver(registry(node), KeyedChain(), PaperTrust(), pan=PAN)
    assert reasons(target.on_frame(frame.emit(), 0.0)) == ["not-ours"]
    assert len(accepted(feed(target, node.frames(1, b"x" * 20)))) == 1


@pytest.mark.parametrize("frame", [b"", b"\x41", b"\x41\x88\x01", b"\xff" * 127, bytes(128), bytes(300)])
def test_what_is_no_frame_is_malformed(node: Node, frame: bytes) -> None:
    assert reasons(receiver(node).on_frame(frame, 0.0)) == ["malformed-frame"]


def test_a_secured_frame_is_refused(node: Node) -> None:
    frame = MacFrame.parse(node.frames(1, b"x" * 20)[0])
    frame.secured = True
    frame.security = bytes.fromhex("0d0000000001")
    assert reasons(receiver(node).on_frame(frame.emit(), 0.0)) == ["malformed-frame"]


def test_ports_addresses_and_tag_are_checked(node: Node) -> None:
    target = receiver(node)
    slices = node.slices(5, sealed_bytes(150))
    assert reasons(feed(target, node.carry(slices, 5, ports=(0xF0B0, 0xF0B1)))[:1]) == ["bad-port"]
    assert reasons(feed(target, node.carry(slices, 6))[:1]) == ["tag-mismatch"]
    # The same datagram from another enrolled device's link-layer address: its IPv6 source follows the frame.
    other = Node(2)
    both = receiver(node, other)
    assert reasons(feed(both, node.carry(slices, 5, src=other.eui))[:1]) == ["bad-mac"]


def test_an_inline_ipv6_address_other_than_the_frames_is_refused(node: Node) -> None:
    frame = MacFrame.parse(node.frames(1, b"x" * 20)[0])
    # IPHC 7e 33: both addresses elided. 7e 13: the source's 8 bytes in line (RFC 6282 §3.1.1, SAM = 01).
    assert frame.payload[:2] == b"\x7e\x33"
    frame.payload = b"\x7e\x13" + bytes(8) + frame.payload[2:]
    assert reasons(receiver(node).on_frame(frame.emit(), 0.0)) == ["bad-source"]
    frame.payload = b"\x7e\x31" + bytes(8) + node_payload(node)[2:]
    assert reasons(receiver(node).on_frame(frame.emit(), 0.0)) == ["bad-destination"]


def node_payload(node: Node) -> bytes:
    return MacFrame.parse(node.frames(1, b"x" * 20)[0]).payload


@pytest.mark.parametrize("kind", [Kind.REPLY, Kind.HELLO, Kind.UPDATE])
def test_kinds_of_other_directions_and_later_versions_are_unknown(node: Node, kind: Kind) -> None:
    assert reasons(feed(receiver(node), node.frames(1, b"x" * 20, kind=kind))) == ["unknown-kind"]


def test_fragments_without_a_manifest_are_refused_whoever_signed_them(node: Node) -> None:
    """F = 0, with a MAC that is right for what the first fragment carries: nothing covers the later bytes."""
    sealed = sealed_bytes(100)
    (whole,) = chain.make(
        node.keys.frag_up,
        node.eui,
        eui64.link_local(node.eui),
        eui64.link_local(GATEWAY),
        octet0=octet0(Kind.DATA, node.epoch),
        counter=5,
        sealed=sealed,
        single_room=200,
        first_room=88,
        slice_room=96,
    )
    target = receiver(node)
    first, *_ = lowpan.udp_frames(node.eui, GATEWAY, PORT, PORT, whole, 5, 0, PAN, first_slice=80, step=32)
    assert reasons(target.on_frame(first.emit(), 0.0)) == ["no-manifest"]
    assert target.memory_used == 0


def test_an_epoch_without_keys_is_unknown(node: Node) -> None:
    target = receiver(node)
    later = Node(1, epoch=1)
    assert reasons(feed(target, later.frames(1, b"x" * 20))) == ["unknown-epoch"]


def test_a_copy_right_after_completion_is_late_and_a_copy_after_that_a_retry(node: Node) -> None:
    target = receiver(node)
    frames = node.frames(9, sealed_bytes(343))
    assert len(accepted(feed(target, frames, 10.0))) == 1
    late = feed(target, frames, 10.1)
    assert reasons(late) == ["already-complete"] * len(frames)
    assert target.memory_used == 0
    (again,) = accepted(feed(target, frames, 11.0))
    assert again.retry
    assert again.sealed == sealed_bytes(343)


def test_whoever_replays_a_message_gets_few_answers_out_of_it(node: Node) -> None:
    target = receiver(node)
    frames = node.frames(9, sealed_bytes(20))
    answered = []
    for tick in range(3200):  # 200 s, in sixteenths
        events = feed(target, frames, tick / 16)
        if accepted(events):
            target.mark_used(node.eui, 0, 9)
        if Used(node.eui, 0, 9, PAN) in events:
            answered.append(tick / 16)
    # Each gap at least twice the one before, up to one a minute.
    gaps = [later - earlier for earlier, later in pairwise(answered)]
    assert all(b >= 1.5 * a or b >= 60 for a, b in pairwise(gaps))
    assert 8 <= len(answered) <= 12
    assert set(target.counters) == {"already-complete", "replayed"}


def test_the_counters_of_a_new_identity_start_over(node: Node) -> None:
    target = receiver(node)
    accepted(feed(target, node.frames(1000, sealed_bytes(20)), 1.0))
    known = registry(node)
    known.devices[node.eui] = replace(known.devices[node.eui], epochs={5: node.keys})
    target.update(known)
    assert target.peers[node.eui].highest == -1
    target.restore_used(node.eui, 0, [1, 1000])
    assert target.peers[node.eui].highest == -1
    target.restore_used(node.eui, 5, [1, 7])
    assert target.peers[node.eui].highest == 7


def test_a_used_counter_is_never_taken_again_and_its_first_fragment_is_enough_to_be_told_so(
    node: Node,
) -> None:
    target = receiver(node)
    target.restore_used(node.eui, 0, [3, 8, 10, 20])
    assert target.peers[node.eui].highest == 20
    for counter, used in ((8, True), (9, False), (10, True), (21, False)):
        first, *later = node.frames(counter, sealed_bytes(300))
        events = feed(target, [first], 30.0)
        assert (Used(node.eui, 0, counter, PAN) in events) == used
        assert reasons(events) == (["replayed"] if used else [])
        assert len(accepted(feed(target, later, 30.1))) == (not used)
    assert target.memory_used == 0
    assert target.counters["already-complete"] == 6  # what follows such a first fragment takes no room


def test_replaying_many_recorded_messages_draws_few_words_out_of_the_gateway(node: Node) -> None:
    target = receiver(node)
    target.restore_used(node.eui, 0, [1, 5000])
    told = 0
    for counter in range(1, 5001):
        told += len(feed(target, node.frames(counter, b"x" * 20), 30.0 + counter / 500)) - 1
    assert 16 <= told <= 16 + 16 * 10 + 1
    assert target.counters["replayed"] == 5000


def test_a_counter_the_edge_server_never_took_may_come_any_time(node: Node) -> None:
    target = receiver(node)
    frames = node.frames(9, sealed_bytes(20))
    feed(target, frames, 0.0)
    assert len(accepted(feed(target, frames, 4000.0))) == 1


def test_a_backlog_of_older_unused_counters_is_no_replay(node: Node) -> None:
    target = receiver(node)
    for counter in (100, 1, 2, 99):
        assert (
            len(accepted(feed(target, node.frames(counter, sealed_bytes(200, counter)), float(counter)))) == 1
        )


def test_an_unfinished_datagram_expires_and_says_so_once(node: Node) -> None:
    target = receiver(node)
    frames = node.frames(1, sealed_bytes(343))
    feed(target, frames[:2], 0.0)
    assert target.tick(14.9) == []
    assert reasons(target.tick(15.0)) == ["expired"]
    assert target.memory_used == 0
    assert target.tick(61.0) == []


def test_a_fragment_after_the_time_does_not_complete_a_datagram_even_before_the_tick(node: Node) -> None:
    target = receiver(node)
    frames = node.frames(1, sealed_bytes(150))
    feed(target, frames[:1], 0.0)
    assert reasons(target.on_frame(frames[1], 15.0)) == ["expired"]


def test_a_verified_copy_of_the_first_fragment_restarts_the_time(node: Node) -> None:
    target = receiver(node)
    frames = node.frames(1, sealed_bytes(150))
    feed(target, frames[:1], 0.0)
    assert reasons(target.on_frame(frames[0], 14.0)) == ["duplicate"]
    assert len(accepted(target.on_frame(frames[1], 16.0))) == 1


def test_a_newer_datagram_evicts_the_devices_own_oldest(node: Node) -> None:
    other = Node(2)
    target = receiver(node, other, limits=Limits(memory=2 * 2560 + 4096))
    feed(target, node.frames(1, sealed_bytes(1100))[:1])
    feed(target, node.frames(2, sealed_bytes(1100))[:1])
    feed(target, other.frames(1, sealed_bytes(1100))[:1])
    events = feed(target, node.frames(3, sealed_bytes(1100)))
    assert reasons(events) == ["evicted"]
    assert len(accepted(events)) == 1
    # The other two are still there.
    assert len(accepted(feed(target, node.frames(2, sealed_bytes(1100))[1:]))) == 1
    assert len(accepted(feed(target, other.frames(1, sealed_bytes(1100))[1:]))) == 1
    # Of the evicted one, fragments are early again.
    assert accepted(feed(target, node.frames(1, sealed_bytes(1100))[1:])) == []


def test_an_older_datagram_evicts_nothing(node: Node) -> None:
    target = receiver(node, limits=Limits(memory=2560 + 4096))
    for counter in (5, 6):
        feed(target, node.frames(counter, sealed_bytes(1100))[:1])
    assert reasons(feed(target, node.frames(4, sealed_bytes(1100))[:1])) == ["quota"]
    assert len(accepted(feed(target, node.frames(5, sealed_bytes(1100))[1:]))) == 1


def test_trust_adds_from_the_shared_remainder(node: Node) -> None:
    limits = Limits(memory=2560 + 4096 + 1280)
    target = receiver(node, limits=limits)
    for counter in (1, 2, 3):  # the only device gets all of the remainder
        assert reasons(feed(target, node.frames(counter, sealed_bytes(1100))[:1])) == []
    assert target.memory_used <= limits.memory
    assert reasons(feed(target, node.frames(4, sealed_bytes(1100))[:1])) == ["evicted"]


def test_a_datagram_cut_anew_replaces_its_first_cut(node: Node) -> None:
    target = receiver(node)
    sealed = sealed_bytes(343)
    feed(target, node.frames(1, sealed)[:2])
    events = feed(target, node.frames(1, sealed, attempt=1))
    assert reasons(events) == ["evicted"]
    assert [message.sealed for message in accepted(events)] == [sealed]
    feed(target, node.frames(2, sealed, attempt=1)[:1])
    assert reasons(feed(target, node.frames(2, sealed, attempt=0)[:1])) == ["stale"]


def test_a_tag_that_wraps_belongs_to_the_newer_counter(node: Node) -> None:
    target = receiver(node)
    old, new = node.frames(5, sealed_bytes(150, 1)), node.frames(5 + 65536, sealed_bytes(150, 2))
    feed(target, old[:1])
    events = feed(target, new[:1])
    assert reasons(events) == ["evicted"]
    assert reasons(feed(target, old[:1])) == ["stale"]
    assert [message.sealed for message in accepted(feed(target, new[1:]))] == [sealed_bytes(150, 2)]


def test_an_impossible_manifest_is_evidence_once(node: Node) -> None:
    import hmac

    from wire import eui64
    from wire.message import PORT, FirstSlice, emit_header, mac_input

    # Verified, and yet its two slices of 8 bytes do not make what datagram_size says.
    header = emit_header(octet0(Kind.DATA, 0), 1, [bytes(4), bytes(4)], step=1)
    first = header + bytes(8) + bytes(88 - len(header) - 8)
    blank = FirstSlice.parse(first, 300)
    covered = mac_input(eui64.link_local(node.eui), eui64.link_local(GATEWAY), PORT, PORT, blank)
    mac = hmac.digest(node.keys.frag_up, covered, "sha256")[:8]
    data = header + mac + first[len(header) + 8 :]
    from wire import lowpan

    frame = lowpan.udp_frames(
        node.eui, GATEWAY, PORT, PORT, data + bytes(300 - 88), 1, 0, PAN, first_slice=88, step=96
    )[0].emit()
    target = receiver(node)
    before = target.trust.level(node.eui)
    assert reasons(target.on_frame(frame, 0.0)) == ["bad-manifest"]
    after = target.trust.level(node.eui)
    assert after < before
    # A replay of it is no evidence: anyone can send it.
    assert reasons(target.on_frame(frame, 1.0)) == ["bad-manifest"]
    assert target.trust.level(node.eui) == after
    assert target.memory_used == 0


def test_a_rate_above_the_quota_is_evidence_and_is_served(node: Node) -> None:
    target = receiver(node, limits=Limits(rate=1.0, burst=2.0))
    before = target.trust.level(node.eui)
    for counter in range(1, 4):
        assert len(accepted(feed(target, node.frames(counter, sealed_bytes(20)), 0.0))) == 1
    assert target.counters == {"over-rate": 1}
    assert target.trust.level(node.eui) < before


def test_replays_and_bad_tags_are_no_evidence(node: Node) -> None:
    target = receiver(node)
    frames = node.frames(1, sealed_bytes(343))
    feed(target, frames)
    bad = MacFrame.parse(node.frames(2, sealed_bytes(343))[1])
    bad.payload = bad.payload[:-1] + b"?"
    feed(target, [node.frames(2, sealed_bytes(343))[0], bad.emit(), *frames, *frames])
    assert target.trust.history(node.eui) == []


def test_a_changed_registry_takes_and_gives_devices(node: Node) -> None:
    other = Node(2)
    target = receiver(node)
    feed(target, node.frames(1, sealed_bytes(343))[:1])
    assert target.memory_used
    target.update(registry(other))
    assert target.memory_used == 0
    assert reasons(feed(target, node.frames(1, sealed_bytes(343))[1:2])) == ["stranger"]
    assert len(accepted(feed(target, other.frames(1, b"x" * 20)))) == 1


@pytest.mark.parametrize("change", ["replaced", "rotated out", "revoked", "gone"])
def test_a_datagram_begun_under_a_key_that_left_the_registry_is_dropped(node: Node, change: str) -> None:
    """Whoever has the old key must not finish a message after the operator took it away."""
    target = receiver(node)
    frames = node.frames(9, sealed_bytes(300))
    feed(target, frames[:-1])
    assert target.memory_used > 0
    other = Node(node.number, epoch=4)
    other.keys = derive_gateway(b"\x77" * 32, node.eui, 4, SITE)
    if change == "replaced":
        other.epoch = node.epoch
    after = {
        "replaced": lambda: registry(other),
        "rotated out": lambda: registry(other),
        "revoked": lambda: registry(revoked=(node,)),
        "gone": registry,
    }[change]()
    target.update(after)
    assert (target.memory_used, target.counters["key-gone"]) == (0, 1)
    assert not accepted(feed(target, frames[-1:]))


def test_a_datagram_goes_on_while_its_key_stays_in_the_registry(node: Node) -> None:
    target = receiver(node)
    frames = node.frames(9, sealed_bytes(300))
    feed(target, frames[:-1])
    more = registry(node, Node(2))
    later = derive_gateway(node.root, node.eui, node.epoch + 1, SITE)
    more.devices[node.eui] = Device(node.eui, "", {node.epoch: node.keys, node.epoch + 1: later})
    target.update(more)
    assert len(accepted(feed(target, frames[-1:]))) == 1
    assert target.counters["key-gone"] == 0


def test_reserves_that_do_not_fit_are_refused_with_the_size_that_would() -> None:
    from gateway.errors import GatewayError

    with pytest.raises(GatewayError, match=r"2 enrolled devices need 9216 bytes.*\n.*at least 9216"):
        receiver(Node(1), Node(2), limits=Limits(memory=9215))


def test_every_reason_has_a_line_of_its_own() -> None:
    assert len({reason.about for reason in Reason}) == len(Reason)
    assert all(reason.about.endswith(".") and reason == reason.value for reason in Reason)
