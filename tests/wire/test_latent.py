"""The inner header and its link report."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors.registry import case_name, claim
from wire import latent
from wire.errors import WireError
from wire.latent import InnerHeader, LinkReport


@pytest.mark.parametrize("case", claim("latent.json", "wire"), ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    data, coded = bytes.fromhex(case["bytes"]), bytes.fromhex(case["coded"])
    header = InnerHeader(case["model_tag"], case["width"], case["coder"], LinkReport(**case["report"]))
    assert latent.emit(header, coded) == data
    read = InnerHeader(case["model_tag"], case["width"], case["coder"], LinkReport(**case["report_read"]))
    assert latent.parse(data) == (read, coded)


def test_a_header_by_hand() -> None:
    """1,000 ms is 250 << 2."""
    header = InnerHeader(0xBEEF, 3, 0, LinkReport(duration_ms=1000, retries=1, queue=2, battery=15))
    assert header.pack().hex() == "beef302fa12f"
    assert InnerHeader.unpack(header.pack()) == header


@given(st.integers(0, 255 << 15), st.integers(0, 15), st.integers(0, 15), st.integers(0, 15))
def test_a_report_keeps_eight_bits_of_the_duration(
    duration: int, retries: int, queue: int, battery: int
) -> None:
    bits = LinkReport(duration, retries, queue, battery).pack()
    read = LinkReport.unpack(bits)
    assert (read.retries, read.queue, read.battery) == (retries, queue, battery)
    assert 0 <= duration - read.duration_ms <= duration / 128
    assert (read.duration_ms == 0) == (duration == 0)
    assert read.pack() == bits


@given(st.integers(min_value=-5), st.integers(), st.integers(), st.integers())
def test_a_report_saturates(duration: int, retries: int, queue: int, battery: int) -> None:
    read = LinkReport.unpack(LinkReport(duration, retries, queue, battery).pack())
    assert read.duration_ms <= 255 << 15
    for value, wanted in ((read.retries, retries), (read.queue, queue), (read.battery, battery)):
        assert value == min(max(wanted, 0), 15)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_latent_or_a_named_refusal(data: bytes) -> None:
    reason = None
    try:
        header, coded = latent.parse(data)
    except WireError as error:
        reason = error.reason
    if len(data) < 6:
        assert reason == "truncated"
    elif data[2] & 15:
        assert reason == "unknown-coder"
    else:
        assert reason is None
        assert (header.model_tag, header.width, coded) == (data[0] << 8 | data[1], data[2] >> 4, data[6:])


@pytest.mark.parametrize("fields", [(65536, 0, 0), (-1, 0, 0), (0, 16, 0), (0, 0, 16)])
def test_a_header_refuses_what_it_cannot_carry(fields: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="inner header"):
        InnerHeader(*fields)
