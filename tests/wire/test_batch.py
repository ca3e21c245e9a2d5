"""HTTP bodies between gateway and edge server."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors.registry import case_name, claim
from wire import batch
from wire.batch import AnswerItem, IngestItem, Verdict
from wire.errors import WireError

u32 = st.integers(0, 2**32 - 1)
eui = st.binary(min_size=8, max_size=8)
sealed = st.binary(max_size=40)
first_form = st.lists(
    st.builds(IngestItem, eui, st.integers(0, 255), u32, u32, sealed, st.none()), max_size=8
)
whole = st.builds(
    lambda device, octet, counter, age, sealed, epoch: IngestItem(
        device, octet & 0xF3 | (epoch & 3) << 2, counter, age, sealed, epoch
    ),
    *(eui, st.integers(0, 255), u32, u32, sealed, u32),
)
requests = st.lists(whole, max_size=8)
responses = st.lists(
    st.builds(AnswerItem, eui, st.integers(0, 255), u32, st.sampled_from(Verdict), sealed), max_size=8
)
REASONS = {
    "bad-magic",
    "truncated",
    "too-many",
    "too-large",
    "trailing-bytes",
    "unknown-verdict",
    "bad-epoch",
}


@pytest.mark.parametrize("case", claim("batch.json", "wire"), ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    body = bytes.fromhex(case["bytes"])
    raw = [
        item | {"device": bytes.fromhex(item["device"]), "sealed": bytes.fromhex(item["sealed"])}
        for item in case["items"]
    ]
    if case["kind"] == "request":
        epochs = body.startswith(b"SWB2")
        assert batch.emit_request([IngestItem(**item) for item in raw], epochs=epochs) == body
        assert batch.parse_request(body) == [IngestItem(**item) for item in raw]
    else:
        assert batch.emit_response([AnswerItem(**item) for item in raw]) == body
        assert batch.parse_response(body) == [AnswerItem(**item) for item in raw]


def test_bodies_by_hand() -> None:
    device = bytes.fromhex("0200000000000001")
    item = IngestItem(device, 0x44, 7, 1500, b"seal", 0x12345671)
    assert batch.emit_request([item]) == (
        b"SWB2\x00\x01" + device + bytes.fromhex("44 00000007 000005dc 12345671 0004") + b"seal"
    )
    assert batch.emit_request([item], epochs=False) == (
        b"SWB1\x00\x01" + device + bytes.fromhex("44 00000007 000005dc 0004") + b"seal"
    )
    answer = AnswerItem(device, 0x40, 7, Verdict.BUSY, b"")
    assert batch.emit_response([answer]) == (b"SWA1\x00\x01" + device + bytes.fromhex("40 00000007 07 0000"))


@given(requests, first_form, responses)
def test_parse_inverts_emit(
    asked: list[IngestItem], before: list[IngestItem], answered: list[AnswerItem]
) -> None:
    assert batch.parse_request(batch.emit_request(asked)) == asked
    assert batch.parse_request(batch.emit_request(before, epochs=False)) == before
    assert batch.parse_response(batch.emit_response(answered)) == answered


@given(requests, st.data())
def test_a_cut_body_is_truncated_and_a_longer_one_has_trailing_bytes(
    asked: list[IngestItem], data: st.DataObject
) -> None:
    body = batch.emit_request(asked)
    with pytest.raises(WireError, match="truncated"):
        batch.parse_request(body[: data.draw(st.integers(0, len(body) - 1))])
    with pytest.raises(WireError, match="trailing-bytes"):
        batch.parse_request(body + b"\0")


@given(st.sampled_from([b"SWB2", b"SWB1", b"SWA1", b""]), st.binary(max_size=80))
def test_any_bytes_are_a_body_or_a_named_refusal(magic: bytes, rest: bytes) -> None:
    for parse, emit in (
        (batch.parse_request, partial(batch.emit_request, epochs=magic != b"SWB1")),
        (batch.parse_response, batch.emit_response),
    ):
        reason = None
        try:
            items = parse(magic + rest)
        except WireError as error:
            reason = error.reason
        if reason is None:
            assert emit(items) == magic + rest  # type: ignore[operator]
        else:
            assert reason in REASONS


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"SWA1\0\0", "bad-magic"),
        (b"SWB3\0\0", "bad-magic"),
        (b"SWB1\x04\x01", "too-many"),
        (b"SWB2\x04\x01", "too-many"),
        (b"SWB2\0\1" + bytes(8) + bytes.fromhex("44 00000007 00000000 00000000 0000"), "bad-epoch"),
        (b"SWB2\0\1" + bytes(21) + (1220).to_bytes(2, "big") + bytes(1220), "too-large"),
        (b"SWB1\0\1" + bytes(17) + (1220).to_bytes(2, "big") + bytes(1220), "too-large"),
    ],
)
def test_requests_are_bounded(body: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        batch.parse_request(body)
    assert caught.value.reason == reason


def test_the_largest_request_is_the_bound_that_servers_apply() -> None:
    item = IngestItem(bytes(8), 0x40, 1, 0, bytes(batch.MAX_SEALED), 0)
    body = batch.emit_request([item] * batch.MAX_ITEMS)
    assert len(body) == batch.MAX_BODY
    assert len(batch.parse_request(body)) == batch.MAX_ITEMS


@pytest.mark.parametrize(
    "items",
    [
        [IngestItem(bytes(8), 0x40, 1, 0, b"", 0)] * (batch.MAX_ITEMS + 1),
        [IngestItem(bytes(7), 0x40, 1, 0, b"", 0)],
        [IngestItem(bytes(8), 256, 1, 0, b"", 0)],
        [IngestItem(bytes(8), 0x40, 2**32, 0, b"", 0)],
        [IngestItem(bytes(8), 0x40, 1, -1, b"", 0)],
        [IngestItem(bytes(8), 0x40, 1, 0, bytes(batch.MAX_SEALED + 1), 0)],
        [IngestItem(bytes(8), 0x40, 1, 0, b"", 1)],
        [IngestItem(bytes(8), 0x40, 1, 0, b"")],
        [IngestItem(bytes(8), 0x40, 1, 0, b"", 2**32)],
    ],
)
def test_what_no_request_can_carry(items: list[IngestItem]) -> None:
    with pytest.raises(ValueError, match=r"batch|item"):
        batch.emit_request(items)
