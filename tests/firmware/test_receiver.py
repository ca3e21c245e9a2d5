"""The downlink's receiver against everything that can arrive (frames made by `wire` and `security`)."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.ccm import block_cipher
from firmware.hmac import pad
from firmware.hop import downlink
from firmware.receiver import ANSWER, CUSTODY, Receiver
from tests.firmware.loopback import DEVICE, EPOCH, GATEWAY, PAN, Hub
from wire.eui64 import link_local
from wire.message import PORT, FirstSlice, Kind, mac_input, octet0
from wire.reply import Answer, CustodyStatus

HUB = Hub()
HUB.close()
LONG = Answer(1, cls=3, confidence=40000, unix_time=1_790_000_000, detail="a long remark " * 19)


def receiver(counter: int = 9) -> Receiver:
    made = Receiver(
        DEVICE,
        GATEWAY,
        EPOCH,
        pad(HUB.gateway_keys.frag_dn),
        block_cipher(HUB.edge_keys.msg_dn),
        downlink(DEVICE, GATEWAY, PAN),
    )
    if counter:
        made.expect(counter)
    return made


def state(made: Receiver) -> tuple[object, ...]:
    """Everything that decides about later frames, but the counts."""
    return (
        made._size,
        made._missing,
        made._awaited,
        made._answered,
        bytes(made._payload[: made._size]),
    )


def rejected(made: Receiver, frame: bytes) -> str:
    """The reason for which a frame is refused."""
    before = dict(made.rejected)
    assert made.on_frame(frame) == 0
    changed = [reason for reason in made.rejected if made.rejected[reason] != before.get(reason, 0)]
    assert len(changed) == 1
    return changed[0]


@given(st.permutations(range(1, 4)), st.data())
def test_fragments_in_any_order_doubled_among_forgeries(order, data):
    """Whatever else arrives, the answer is opened exactly when the last genuine fragment is there, and only
    once.
    """
    frames = HUB.answer(9, LONG)
    assert len(frames) == 4
    made = receiver()
    assert made.on_frame(frames[0]) == 0
    for position, i in enumerate(order):
        for _ in range(data.draw(st.integers(0, 3))):
            j = data.draw(st.integers(0, 3))
            kind = data.draw(st.sampled_from(["again", "flip", "cut", "noise"]))
            frame = frames[j]
            if kind == "again" and j in (0, *order[:position]):
                assert rejected(made, frame) == "duplicate"
                continue
            if kind == "noise":
                frame = data.draw(st.binary(max_size=140))
            elif kind == "cut":
                frame = frame[: data.draw(st.integers(0, len(frame) - 1))]
            else:
                # Where a changed bit must matter: in the 802.15.4 addresses and all after the compressed
                # headers.
                at = data.draw(st.integers(37, len(frame) - 1))
                frame = frame[:at] + bytes((frame[at] ^ 1 << data.draw(st.integers(0, 7)),)) + frame[at + 1 :]
            before = state(made)
            rejected(made, frame)
            assert state(made) == before
        assert made.on_frame(frames[i]) == (ANSWER if position == 2 else 0)
    assert made.answer == (1, 0, 3, 40000, 1_790_000_000, LONG.detail)
    assert made.accepted == 4
    for frame in frames:
        assert made.on_frame(frame) == 0
    assert made.accepted == 4


@given(st.lists(st.binary(max_size=200), max_size=30), st.integers(0, 2**32 - 1))
def test_noise_is_counted_and_changes_nothing(frames, counter):
    made = receiver(counter)
    before = state(made)
    for frame in frames:
        rejected(made, frame)
    assert state(made) == before
    assert made.accepted == 0


@given(st.binary(max_size=125), st.integers(0, 125))
def test_any_bytes_behind_the_right_addresses(rest, cut):
    """The parser's inside: headers that reach it, in every length."""
    genuine = HUB.answer(9, LONG)[0]
    made = receiver()
    made.on_frame((genuine[:21] + rest)[:125])
    made.on_frame(genuine[: 21 + cut] + rest[: max(0, 104 - cut)])
    assert made.accepted == 0 or genuine in (
        genuine[:21] + rest,
        genuine[: 21 + cut] + rest[: max(0, 104 - cut)],
    )


def test_every_reason():
    """One frame for each way to be wrong."""
    frames = HUB.answer(9, LONG)
    whole = HUB.answer(9)[0]
    first, second, _, last = frames
    made = receiver()
    patched = lambda frame, at, value: frame[:at] + value + frame[at + len(value) :]  # noqa: E731
    assert rejected(made, b"") == "truncated"
    assert rejected(made, whole[:21]) == "truncated"
    assert rejected(made, whole[:27]) == "truncated"
    assert rejected(made, whole[:35]) == "truncated"
    assert rejected(made, second[:25]) == "truncated"
    assert rejected(made, second[:26]) == "truncated"
    assert rejected(made, first + bytes(30)) == "oversized"
    assert rejected(made, patched(whole, 0, b"\x62")) == "not-data"
    assert rejected(made, patched(whole, 3, b"\x24\xf0")) == "foreign"
    assert rejected(made, patched(whole, 5, b"\xff")) == "foreign"
    assert rejected(made, patched(whole, 14, b"\xff")) == "foreign"
    assert rejected(made, patched(whole, 0, b"\x69")) == "foreign"  # security
    assert rejected(made, patched(whole, 21, b"\x41")) == "bad-header"
    assert rejected(made, patched(whole, 21, b"\xe8")) == "bad-header"  # RFRAG
    assert rejected(made, patched(whole, 22, b"\x73")) == "bad-header"
    assert rejected(made, patched(first, 21, b"\xc0\x30")) == "bad-size"  # no payload
    assert rejected(made, patched(first, 21, b"\xc7\xff")) == "bad-size"  # more than 1280
    assert rejected(made, first[:-1]) == "bad-size"  # no multiple of 8
    assert rejected(made, patched(second, 25, b"\x06")) == "bad-offset"  # the UDP header
    assert rejected(made, patched(last, 25, b"\xff")) == "bad-offset"
    assert rejected(made, patched(whole, 27, b"\x90")) == "bad-version"
    assert rejected(made, patched(whole, 27, b"\x51")) == "reserved-bit"
    assert rejected(made, patched(whole, 27, b"\x40")) == "unknown-kind"
    assert rejected(made, patched(whole, 27, b"\x54")) == "wrong-epoch"
    assert rejected(made, patched(first, 31, b"\x50")) == "no-manifest"
    assert rejected(made, patched(first, 23, b"\xff\xff")) == "wrong-tag"
    assert rejected(made, patched(whole, 40, b"\xff")) == "bad-mac"
    assert rejected(made, HUB.answer(10)[0]) == "unknown-counter"
    assert rejected(made, HUB.answer(8)[0]) == "unknown-counter"
    assert rejected(made, patched(second, 23, b"\xff\xff")) == "no-first"
    assert made.on_frame(first) == 0
    assert rejected(made, first) == "duplicate"
    assert rejected(made, patched(second, 23, b"\xff\xff")) == "no-first"
    assert rejected(made, patched(second, 22, bytes((second[22] ^ 8,)))) in ("wrong-size", "bad-offset")
    assert rejected(made, second[:-8]) == "wrong-cut"
    assert rejected(made, patched(second, 60, b"\0\0\0")) == "bad-tag"
    assert made.on_frame(second) == 0
    assert rejected(made, second) == "duplicate"
    assert rejected(made, patched(second, 60, b"\0\0\0")) == "overlap"
    assert made.on_frame(last) == 0
    made.expect(10)
    assert made.rejected["unfinished"] == 1
    assert rejected(made, HUB.answer(9)[0]) == "late"
    assert made.on_frame(HUB.answer(10)[0]) == ANSWER
    assert rejected(made, HUB.answer(10)[0]) == "duplicate"
    assert rejected(made, HUB.answer(11)[0]) == "unknown-counter"
    made.expect(11)
    assert rejected(made, HUB.reply_frames(11, bytes(40))[0]) == "bad-seal"
    assert rejected(made, HUB.reply_frames(11, bytes(20))[0]) == "bad-answer"
    assert made.on_frame(HUB.answer(11)[0]) == ANSWER


@pytest.mark.parametrize(
    ("tags", "step", "length"),
    [
        (2, 1, 216),  # more bytes than two slices of 8 hold
        (0, 12, 88),  # no slice after the first, and yet F
        (1, 0, 120),  # slices of no length
    ],
)
def test_a_manifest_that_is_authentic_and_impossible(tags: int, step: int, length: int):
    key, addresses = HUB.gateway_keys.frag_dn, (link_local(GATEWAY), link_local(DEVICE))
    header = bytes((octet0(Kind.REPLY, EPOCH) | 2, 0, 0, 0, 9, tags, step)) + bytes(4 * tags)
    blank = FirstSlice.parse(header + bytes(88 - len(header)), length)
    mac = hmac.digest(key, mac_input(*addresses, PORT, PORT, blank), "sha256")[:8]
    payload = (header + mac).ljust(length, b"\0")
    made = receiver()
    assert rejected(made, HUB.frames(9, payload, 88 if tags else None)[0]) == "bad-manifest"


def test_one_fragment_may_overtake_the_first():
    first, second = HUB.answer(9, Answer(2, detail="x" * 90))
    made = receiver()
    assert made.on_frame(second) == 0
    assert made.rejected == {}
    assert made.on_frame(first) == ANSWER
    assert made.rejected == {}
    assert made.accepted == 2


def test_a_forgery_in_the_place_of_an_early_fragment_costs_only_that():
    first, second = HUB.answer(9, Answer(2, detail="x" * 90))
    forged = second[:-1] + bytes((second[-1] ^ 1,))
    made = receiver()
    made.on_frame(second)
    made.on_frame(forged)
    assert made.rejected == {"no-first": 1}
    assert made.on_frame(first) == 0
    assert made.rejected == {"no-first": 1, "bad-tag": 1}
    assert made.on_frame(second) == ANSWER


def test_a_newer_verified_first_fragment_takes_the_place():
    """Two edge workers may answer one message differently; what is verified last is collected."""
    old, new = HUB.answer(9, LONG), HUB.answer(9, Answer(3, unix_time=1, detail=LONG.detail[::-1]))
    made = receiver()
    made.on_frame(old[0])
    made.on_frame(old[1])
    made.on_frame(new[0])
    assert made.rejected == {"replaced": 1}
    assert rejected(made, old[1]) == "bad-tag"
    assert [made.on_frame(frame) for frame in new[1:]][-1] == ANSWER
    assert made.answer[0] == 3


def test_the_udp_checksum_protects_nothing_that_the_mac_does_not():
    """Changed in flight, it must not let anyone spoil a genuine answer."""
    whole = HUB.answer(9)[0]
    made = receiver()
    assert made.on_frame(whole[:25] + b"\xde\xad" + whole[27:]) == ANSWER


def test_custody():
    made = receiver()
    (ack,) = HUB.custody(9, CustodyStatus.FULL)
    assert made.on_frame(ack) == CUSTODY
    assert made.custody == CustodyStatus.FULL
    assert rejected(made, ack[:-1] + bytes((ack[-1] ^ 1,))) == "bad-mac"
    assert rejected(made, HUB.custody(8, CustodyStatus.COMMITTED)[0]) == "unknown-counter"
    assert made.on_frame(HUB.answer(9)[0]) == ANSWER


def test_trust_rises_slowly_with_answers_and_stays_within_a_byte():
    made = receiver(0)
    levels = [made.trust]
    for counter in range(1, 60):
        made.expect(counter)
        assert made.on_frame(HUB.answer(counter)[0]) == ANSWER
        levels.append(made.trust)
    assert levels[0] == 128
    assert levels == sorted(levels)
    assert levels[5] < 200
    assert levels[-1] == 255


def test_trust_falls_by_what_the_gateway_authenticated_once_a_message():
    made = receiver(9)
    unopened = HUB.reply_frames(9, bytes(40))[0]
    for _ in range(5):  # a replay of it is no further evidence
        assert rejected(made, unopened) == "bad-seal"
    assert made.trust == 64
    made.expect(10)
    assert rejected(made, HUB.reply_frames(10, bytes(20))[0]) == "bad-answer"
    assert made.trust == 32
    # Yet a genuine answer is looked at, and taken.
    assert made.on_frame(HUB.answer(10)[0]) == ANSWER
    assert made.trust > 32


def test_nothing_that_a_forger_can_send_moves_trust():
    made = receiver(9)
    frames = HUB.answer(9, LONG)
    made.on_frame(frames[0])
    for frame in (*frames, *HUB.answer(9), *HUB.answer(8)):
        for at in range(len(frame)):
            made.on_frame(frame[:at] + bytes((frame[at] ^ 0xFF,)) + frame[at + 1 :])
    made.on_frame(HUB.reply_frames(9, bytes(40), key=bytes(32))[0])
    assert made.trust in (128, 128 + 16)  # 16: a frame whose checksum was changed is a genuine answer
    made.expect(10)
    made.expect(0)  # silence
    assert made.trust in (128, 128 + 16)
