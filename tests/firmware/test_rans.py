"""The device's entropy coder: wire.rans's bytes, in 32-bit arithmetic, on MicroPython and CPython."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware.rans import encode_into
from tests import headgen, viper32
from wire.rans import Tables, decode, encode


def section(tables: Tables) -> bytes:
    """Coder tables as a width's section of the head file has them."""
    padded = np.zeros(-(-tables.n // 4) * 4, np.int64)
    padded[: tables.n] = tables.index
    packed = (padded.reshape(-1, 4) << np.array([0, 2, 4, 6])).sum(axis=1).astype(np.uint8)
    return bytes([len(tables.freqs)]) + tables.freqs.astype("<u2").tobytes() + packed.tobytes()


def head(tables: Tables, before: bytes = b"\xff\xff") -> SimpleNamespace:
    """What the coder asks of a head."""
    return SimpleNamespace(
        section=before + section(tables), tables_at=len(before), levels=tables.levels, n_symbols=tables.n
    )


def random_case(seed: int) -> tuple[np.ndarray, Tables]:
    """Symbols, likely and unlikely ones, and tables from flat to as skewed as they can be."""
    rng = np.random.default_rng(seed)
    levels, count, n = int(rng.integers(2, 33)), int(rng.integers(1, 5)), int(rng.integers(1, 400))
    freqs = np.stack([headgen.frequencies(rng, levels) for _ in range(count)])
    freqs[0] = 1
    freqs[0, rng.integers(levels)] = 4096 - (levels - 1)
    index = rng.integers(0, count, n)
    likely = np.array([rng.choice(levels, p=freqs[t] / 4096) for t in index])
    symbols = np.where(rng.random(n) < rng.choice([0, 0.1, 1]), rng.integers(0, levels, n), likely)
    return symbols.astype(np.uint8), Tables(freqs, index)


RUN = """
import struct, sys
from firmware.rans import encode_into
class Head:
    pass
head = Head()
head.tables_at = 0
buffer = bytearray(1200)
with open("cases", "rb") as cases:
    while True:
        sizes = cases.read(6)
        if not sizes:
            break
        size, head.n_symbols, head.levels = struct.unpack("<HHH", sizes)
        head.section = cases.read(size)
        n = encode_into(cases.read(head.n_symbols), head.n_symbols, head, buffer)
        sys.stdout.buffer.write(struct.pack("<H", n))
        sys.stdout.buffer.write(memoryview(buffer)[:n])
"""


def test_micropython_writes_the_bytes_of_wire_rans(run_micropython):
    cases = [random_case(seed) for seed in range(300)]
    data, expected = b"", b""
    for symbols, tables in cases:
        packed, message = section(tables), encode(symbols, tables)
        data += struct.pack("<HHH", len(packed), tables.n, tables.levels) + packed + symbols.tobytes()
        expected += struct.pack("<H", len(message)) + message
        assert np.array_equal(decode(message, tables), symbols)
    assert run_micropython(RUN, files={"cases": data}) == expected


@pytest.mark.parametrize("seed", range(40))
def test_nothing_overflows_32_bits(seed):
    symbols, tables = random_case(seed)
    buffer = bytearray(1200)
    n = viper32.load("rans").encode_into(symbols.tobytes(), tables.n, head(tables), buffer)
    assert bytes(buffer[:n]) == encode(symbols, tables)


@given(st.integers(0, 1 << 32))
def test_a_message_takes_at_most_twelve_bits_a_symbol(seed):
    symbols, tables = random_case(seed)
    buffer = bytearray(tables.n * 3 // 2 + 4)
    n = encode_into(symbols.tobytes(), tables.n, head(tables), buffer)
    assert bytes(buffer[:n]) == encode(symbols, tables)


def test_a_buffer_too_small_is_refused_and_one_that_just_fits_is_not():
    symbols, tables = random_case(5)
    message = encode(symbols, tables)
    for size in range(len(message)):
        with pytest.raises(ValueError, match=f"does not fit {size} bytes"):
            encode_into(symbols.tobytes(), tables.n, head(tables), bytearray(size))
    buffer = bytearray(len(message))
    assert encode_into(symbols.tobytes(), tables.n, head(tables), buffer) == len(message)
    assert buffer == message


def test_another_number_of_symbols_is_refused():
    symbols, tables = random_case(5)
    with pytest.raises(ValueError, match=f"expected the {tables.n} of this width"):
        encode_into(symbols.tobytes(), tables.n - 1, head(tables), bytearray(1200))
