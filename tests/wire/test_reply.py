"""Answers and custody acks."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors.registry import case_name, claim
from wire.errors import WireError
from wire.reply import MAX_DETAIL, Answer, Custody, CustodyStatus, Status, custody_mac_input, is_custody

answers = st.builds(
    Answer,
    next_width=st.integers(0, 15),
    status=st.sampled_from(Status),
    cls=st.integers(0, 65535),
    confidence=st.integers(0, 65535),
    unix_time=st.none() | st.integers(0, 2**32 - 1),
    next_epoch=st.none() | st.integers(0, 2**32 - 1),
    detail=st.text(max_size=80),
)


@pytest.mark.parametrize("case", claim("answer.json", "wire"), ids=case_name)
def test_answer_vectors(case: dict[str, Any]) -> None:
    fields = {k: v for k, v in case.items() if k not in ("name", "bytes")}
    data = bytes.fromhex(case["bytes"])
    assert Answer(**fields).emit() == data
    assert Answer.parse(data) == Answer(**fields)


def test_answers_by_hand() -> None:
    assert Answer(next_width=2, cls=9, confidence=65535).emit().hex() == "00200009ffff"
    timed = Answer(1, Status.UNKNOWN_MODEL, unix_time=0x6AB0C0D0, detail="é")
    assert timed.emit().hex() == "0111000000006ab0c0d0c3a9"
    assert Answer.parse(bytes.fromhex("00200009ffff")).probability == 1.0


@given(answers)
def test_parse_inverts_emit(answer: Answer) -> None:
    assert Answer.parse(answer.emit()) == answer


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "truncated"),
        ("0020000900", "truncated"),
        ("01200009ffff000000", "truncated"),
        ("02200009ffff000000", "truncated"),
        ("03200009ffff0000000000", "truncated"),
        ("04200009ffff", "reserved-bit"),
        ("00230009ffff", "unknown-status"),
        ("00200009ffff" + "ff", "bad-utf8"),
        ("00200009ffff" + "c3", "bad-utf8"),
        ("00200009ffff" + "61" * (MAX_DETAIL + 1), "bad-length"),
    ],
)
def test_what_is_no_answer(data: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        Answer.parse(bytes.fromhex(data))
    assert caught.value.reason == reason


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_a_named_refusal(data: bytes) -> None:
    reason = None
    try:
        answer = Answer.parse(data)
    except WireError as error:
        reason = error.reason
    if reason is None:
        assert answer.emit() == data
    else:
        assert reason in {"truncated", "reserved-bit", "unknown-status", "bad-utf8"}


@pytest.mark.parametrize(
    "fields",
    [
        {"next_width": 16},
        {"next_width": 0, "status": 3},
        {"next_width": 0, "cls": 65536},
        {"next_width": 0, "confidence": 0.5},
        {"next_width": 0, "confidence": 65536},
        {"next_width": 0, "unix_time": 2**32},
        {"next_width": 0, "next_epoch": -1},
        {"next_width": 0, "detail": "é" * 513},
    ],
)
def test_an_answer_refuses_what_it_cannot_carry(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"answer|Status"):
        Answer(**fields)


def test_a_custody_ack_by_hand() -> None:
    data = bytes.fromhex("5c 01020304 02 a1a2a3a4a5a6a7a8")
    ack = Custody.parse(data)
    assert ack == Custody(0x5C, 0x01020304, CustodyStatus.FULL, bytes.fromhex("a1a2a3a4a5a6a7a8"))
    assert ack.emit() == data
    assert is_custody(data)
    assert not is_custody(data + bytes(21))
    assert custody_mac_input(b"GATEWAY.", b"..DEVICE", data[:6]) == b"\x03GATEWAY...DEVICE" + data[:6]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("5c0102030402a1a2a3a4a5a6a7", "bad-length"),
        ("5c0102030402a1a2a3a4a5a6a7a8a9", "bad-length"),
        ("1c0102030402a1a2a3a4a5a6a7a8", "bad-version"),
        ("5d0102030402a1a2a3a4a5a6a7a8", "reserved-bit"),
        ("4c0102030402a1a2a3a4a5a6a7a8", "bad-kind"),
        ("5e0102030402a1a2a3a4a5a6a7a8", "bad-kind"),
        ("5c0102030404a1a2a3a4a5a6a7a8", "unknown-status"),
    ],
)
def test_what_is_no_custody_ack(data: str, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        Custody.parse(bytes.fromhex(data))
    assert caught.value.reason == reason


@given(st.binary(min_size=14, max_size=14))
def test_any_fourteen_bytes_are_a_custody_ack_or_a_named_refusal(data: bytes) -> None:
    reason = None
    try:
        ack = Custody.parse(data)
    except WireError as error:
        reason = error.reason
    if reason is None:
        assert ack.emit() == data
    else:
        assert reason in {"bad-version", "reserved-bit", "bad-kind", "unknown-status"}
