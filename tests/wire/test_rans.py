"""The entropy code: exact bytes, its length against the cross-entropy, and what damaged bytes do."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vectors.registry import case_name, claim
from wire import rans
from wire.errors import WireError
from wire.rans import Tables


@st.composite
def tables(draw: st.DrawFn, max_symbols: int = 120) -> Tables:
    levels = draw(st.integers(2, 32))
    rows = draw(st.integers(1, 4))
    freqs = np.ones((rows, levels), dtype=np.int64)
    for k in range(rows):
        weights = np.array(
            draw(st.lists(st.integers(0, 1000), min_size=levels, max_size=levels)), dtype=float
        )
        weights[draw(st.integers(0, levels - 1))] += 1
        freqs[k] += np.floor(weights / weights.sum() * (rans.TOTAL - levels)).astype(np.int64)
        freqs[k, freqs[k].argmax()] += rans.TOTAL - freqs[k].sum()
    index = draw(st.lists(st.integers(0, rows - 1), max_size=max_symbols))
    return Tables(freqs, np.array(index, dtype=np.uint8))


@st.composite
def coded(draw: st.DrawFn) -> tuple[Tables, NDArray[np.uint8]]:
    t = draw(tables())
    symbols = draw(st.lists(st.integers(0, t.levels - 1), min_size=t.n, max_size=t.n))
    return t, np.array(symbols, dtype=np.uint8)


def cross_entropy_bytes(symbols: NDArray[np.uint8], t: Tables) -> float:
    return float(-np.log2(t.freqs[t.index, symbols] / rans.TOTAL).sum()) / 8


def outcome(decoded: NDArray[np.uint8] | WireError) -> bytes | str:
    return decoded.reason if isinstance(decoded, WireError) else decoded.tobytes()


def decoded_or_reason(message: bytes, t: Tables) -> bytes | str:
    try:
        return outcome(rans.decode(message, t))
    except WireError as error:
        return outcome(error)


@pytest.mark.parametrize("case", claim("rans.json", "wire"), ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    t = Tables(case["freqs"], np.frombuffer(bytes.fromhex(case["index"]), dtype=np.uint8))
    symbols = np.frombuffer(bytes.fromhex(case["symbols"]), dtype=np.uint8)
    assert rans.encode(symbols, t).hex() == case["coded"]
    assert rans.decode(bytes.fromhex(case["coded"]), t).tolist() == symbols.tolist()


def test_by_hand() -> None:
    """Three symbols of a table {A: 1/4, B: 3/4}, computed on paper: 1 -> 1025 -> 1366 -> 4438."""
    t = Tables([[1024, 3072]], [0, 0, 0])
    # last to first: B: (1//3072)·4096 + 1024 + 1; B: 1024 + 1025; A: (2049//1024)·4096 + 0 + 1
    assert rans.encode([0, 1, 1], t) == (2 * 4096 + 1).to_bytes(2, "big")


@given(coded())
def test_decode_inverts_encode(source: tuple[Tables, NDArray[np.uint8]]) -> None:
    t, symbols = source
    message = rans.encode(symbols, t)
    assert message[0] != 0
    assert rans.decode(message, t).tolist() == symbols.tolist()


@given(st.data())
@settings(max_examples=60)
def test_length_is_close_to_the_cross_entropy(data: st.DataObject) -> None:
    """Symbols that follow their tables cost at most 2 % + 2 bytes more than their information does."""
    t = data.draw(tables(max_symbols=400))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    p = t.freqs / rans.TOTAL
    symbols = np.array([rng.choice(t.levels, p=p[i]) for i in t.index], dtype=np.uint8)
    assert len(rans.encode(symbols, t)) <= math.ceil(1.02 * cross_entropy_bytes(symbols, t)) + 2


@given(coded())
def test_any_length_is_close_to_its_own_information(source: tuple[Tables, NDArray[np.uint8]]) -> None:
    """The code spends on each symbol what its table says, likely or not."""
    t, symbols = source
    assert len(rans.encode(symbols, t)) <= math.ceil(1.02 * cross_entropy_bytes(symbols, t)) + 2


@given(coded(), st.data())
def test_damaged_messages_are_refused_or_decode_to_something_else(
    source: tuple[Tables, NDArray[np.uint8]], data: st.DataObject
) -> None:
    t, symbols = source
    message = bytearray(rans.encode(symbols, t))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))
    result = decoded_or_reason(bytes(message), t)
    assert result != symbols.tobytes()
    assert result == "bad-code" or (len(result) == t.n and max(result, default=0) < t.levels)


@given(coded(), st.binary(min_size=1, max_size=5), st.integers(1, 8))
def test_longer_and_shorter_messages_do_not_decode_to_the_same(
    source: tuple[Tables, NDArray[np.uint8]], extra: bytes, fewer: int
) -> None:
    """Every message has one encoding: nothing can be put after it or taken from it."""
    t, symbols = source
    message = rans.encode(symbols, t)
    for other in (message + extra, message[:-fewer], b"\0" + message):
        assert decoded_or_reason(other, t) != symbols.tobytes()


@given(tables(), st.lists(st.binary(max_size=60), max_size=12))
def test_random_bytes_end_in_symbols_or_a_refusal_and_both_paths_agree(
    t: Tables, messages: list[bytes]
) -> None:
    one_by_one = [outcome(result) for result in rans.decode_batch(messages, t)]
    together = [outcome(result) for result in rans._decode_vectorised(messages, t)]
    assert one_by_one == together
    for result in one_by_one:
        assert result == "bad-code" or len(result) == t.n


@given(coded())
def test_what_decodes_encodes_to_the_same_bytes(source: tuple[Tables, NDArray[np.uint8]]) -> None:
    """Decoding accepts exactly what encoding makes: no two messages mean the same symbols."""
    t, symbols = source
    for flip in range(256):
        message = bytes([flip]) + rans.encode(symbols, t)[1:]
        result = decoded_or_reason(message, t)
        if isinstance(result, bytes):
            assert rans.encode(np.frombuffer(result, dtype=np.uint8), t) == message


def test_a_large_batch_goes_lane_by_lane_and_a_bad_message_spoils_no_other() -> None:
    rng = np.random.default_rng(1)
    t = Tables([[4000, 32, 32, 32], [1024] * 4], rng.integers(0, 2, 50))
    symbols = rng.integers(0, 4, (rans.VECTOR_THRESHOLD + 30, 50)).astype(np.uint8)
    messages = [rans.encode(row, t) for row in symbols]
    bad = {0: b"", 5: messages[5][:-1], 17: b"\0" + messages[17], len(messages) - 1: b""}
    for lane, message in bad.items():
        messages[lane] = message
    for lane, result in enumerate(rans.decode_batch(messages, t)):
        if lane in bad:
            assert isinstance(result, WireError)
        else:
            assert not isinstance(result, WireError)
            assert result.tolist() == symbols[lane].tolist()


@pytest.mark.parametrize(
    ("freqs", "index"),
    [
        ([[4096, 0]], [0]),
        ([[4095, 2]], [0]),
        ([[4096]], [0]),
        ([[2048, 2048]], [1]),
        ([[2048, 2048]], [-1]),
        ([[2048, 2048]], [[0]]),
        ([[2048.0, 2048.0]], [0]),
        ([[2048, 2048]] * 5, [0]),
        ([[1] * 32 + [4064]], [0]),
        ([2048, 2048], [0]),
    ],
)
def test_impossible_tables_are_refused(freqs: Any, index: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|must"):
        Tables(freqs, index)


@pytest.mark.parametrize("symbols", [[0], [0, 0, 0], [0, 2], [0, -1], [[0, 0]], [0.0, 1.0]])
def test_symbols_that_do_not_fit_the_tables_are_refused(symbols: Any) -> None:
    with pytest.raises(ValueError, match="symbols"):
        rans.encode(symbols, Tables([[2048, 2048]], [0, 0]))


def test_tables_compare_by_value_and_cannot_be_changed() -> None:
    t = Tables([[2048, 2048]], [0, 0])
    assert t == Tables(np.array([[2048, 2048]], dtype=np.uint16), [0, 0])
    assert t != Tables([[2047, 2049]], [0, 0])
    with pytest.raises(ValueError, match="read-only"):
        t.freqs[0, 0] = 1
