"""Static-table range ANS, the entropy code of a latent's symbols (docs/protocol.md, section 5).

Duda, "Asymmetric numeral systems" (arXiv 1311.2540), with Giesen's byte renormalisation (arXiv 1402.3392).
Probabilities have 12 bits. Each position of the latent names one of a few tables. The state starts at 1 and
ends with the message, so a message carries no flush: it costs about a byte and a half over the cross-entropy.

```
encode   state = 1; symbols last to first:  while state >= freq << 19: put(state & 255); state >>= 8
                                            state = (state // freq << 12) + start + state % freq
message  the state's used bytes, most significant first | the bytes put, last one first
```

The state is below 2**31 throughout, so the same arithmetic fits the small integers of a 32-bit MicroPython.

Reasons: `bad-code` (the bytes are no encoding of n symbols under these tables).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wire.errors import WireError

PROBABILITY_BITS = 12
TOTAL = 1 << PROBABILITY_BITS
LOWER = 1 << 23
MAX_TABLES = 4
MAX_LEVELS = 32

# Below this many messages a plain loop per message is faster than numpy across the batch
# (measured with 98 and 392 symbols a message: equal at 64, seven times faster at 1,024).
VECTOR_THRESHOLD = 64

_MASK = TOTAL - 1


class Tables:
    """Frequency tables and the map that gives each symbol position its table. Immutable.

    Args:
        freqs: (NT, levels) integers, NT 1..4, levels 2..32; every one >= 1, each row sums to 4096.
        index: (n,) integers < NT: the table of each position, in symbol order.

    Raises:
        ValueError: the tables are not of that shape, or do not sum to 4096.
    """

    __slots__ = ("_numpy", "_plan_decode", "_plan_encode", "freqs", "index", "levels", "n")

    def __init__(self, freqs: ArrayLike, index: ArrayLike) -> None:
        f = np.array(freqs)
        i = np.array(index)
        if f.ndim != 2 or not 1 <= f.shape[0] <= MAX_TABLES or not 2 <= f.shape[1] <= MAX_LEVELS:
            raise ValueError(f"frequencies have shape {f.shape}, expected (1..{MAX_TABLES}, 2..{MAX_LEVELS})")
        if f.dtype.kind not in "iu" or f.min() < 1 or (f.sum(axis=1) != TOTAL).any():
            raise ValueError(f"every frequency must be an integer >= 1 and each table must sum to {TOTAL}")
        if i.ndim != 1 or (i.size and (i.dtype.kind not in "iu" or i.min() < 0 or i.max() >= f.shape[0])):
            raise ValueError(f"the map must be one-dimensional, with entries below {f.shape[0]}")
        self.freqs: NDArray[np.uint16] = f.astype(np.uint16)
        self.index: NDArray[np.uint8] = i.astype(np.uint8)
        self.freqs.flags.writeable = False
        self.index.flags.writeable = False
        self.levels: int = f.shape[1]
        self.n: int = i.size

        starts = np.zeros_like(f, dtype=np.int64)
        starts[:, 1:] = np.cumsum(f, axis=1)[:, :-1]
        symbol_of = np.stack([np.repeat(np.arange(self.levels, dtype=np.uint8), row) for row in f])
        # By slot (state mod 4096): the symbol, its frequency, and the slot's place within the symbol.
        slot_freq = np.take_along_axis(f.astype(np.int64), symbol_of.astype(np.int64), axis=1)
        slot_rest = np.arange(TOTAL) - np.take_along_axis(starts, symbol_of.astype(np.int64), axis=1)
        decoders = [
            (symbol_of[t].tobytes(), slot_freq[t].tolist(), slot_rest[t].tolist()) for t in range(f.shape[0])
        ]
        encoders = [list(zip(f[t].tolist(), starts[t].tolist(), strict=True)) for t in range(f.shape[0])]
        order = self.index.tolist()
        self._plan_decode = [decoders[t] for t in order]
        self._plan_encode = [encoders[t] for t in order]
        self._numpy = (symbol_of, slot_freq, slot_rest)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tables):
            return NotImplemented
        return np.array_equal(self.freqs, other.freqs) and np.array_equal(self.index, other.index)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Tables({self.freqs.shape[0]} tables of {self.levels} levels, {self.n} symbols)"


def encode(symbols: ArrayLike, tables: Tables) -> bytes:
    """Code `tables.n` symbols.

    Args:
        symbols: (n,) integers below `tables.levels`, in symbol order (y, x, channel).

    Raises:
        ValueError: the symbols do not fit the tables.
    """
    array = np.asarray(symbols)
    if array.shape != (tables.n,):
        raise ValueError(f"symbols have shape {array.shape}, the tables code ({tables.n},)")
    if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= tables.levels):
        raise ValueError(f"symbols must be integers below {tables.levels}")
    state = 1
    put = bytearray()
    for symbol, table in zip(reversed(array.tolist()), reversed(tables._plan_encode), strict=True):
        freq, start = table[symbol]
        while state >= freq << 19:
            put.append(state & 255)
            state >>= 8
        quotient, rest = divmod(state, freq)
        state = (quotient << PROBABILITY_BITS) + start + rest
    put.reverse()
    return state.to_bytes((state.bit_length() + 7) // 8, "big") + put


def decode(data: bytes, tables: Tables) -> NDArray[np.uint8]:
    """Decode one message.

    Returns:
        (n,) uint8 symbols.

    Raises:
        WireError: `bad-code`: the bytes are not exactly one encoding of n symbols.
    """
    if not data or data[0] == 0:
        raise _bad("is empty" if not data else "starts with a zero byte")
    out = bytearray(tables.n)
    state = 0
    at = 0
    end = len(data)
    for k, (symbol_of, freq, rest) in enumerate(tables._plan_decode):
        while state < LOWER and at < end:
            state = state << 8 | data[at]
            at += 1
        slot = state & _MASK
        out[k] = symbol_of[slot]
        state = freq[slot] * (state >> PROBABILITY_BITS) + rest[slot]
    while state < LOWER and at < end:
        state = state << 8 | data[at]
        at += 1
    if state != 1 or at != end:
        raise _bad("does not end in the state it began with")
    return np.frombuffer(out, dtype=np.uint8)


def decode_batch(messages: Sequence[bytes], tables: Tables) -> list[NDArray[np.uint8] | WireError]:
    """Decode many messages under the same tables; a bad one spoils no other.

    Returns:
        for each message, in order, its (n,) uint8 symbols or the `bad-code` error that `decode` would raise.
    """
    if len(messages) >= VECTOR_THRESHOLD:
        return _decode_vectorised(messages, tables)
    results: list[NDArray[np.uint8] | WireError] = []
    for message in messages:
        try:
            results.append(decode(message, tables))
        except WireError as error:
            results.append(error)
    return results


def _decode_vectorised(messages: Sequence[bytes], tables: Tables) -> list[NDArray[np.uint8] | WireError]:
    """`decode` with one lane a message: each numpy operation serves one position of the whole batch."""
    lengths = np.array([len(m) for m in messages], dtype=np.int64)
    # One zero byte at the end: a lane that has read everything may still look, and ignores what it sees.
    joined = np.frombuffer(b"".join(messages) + b"\0", dtype=np.uint8).astype(np.int64)
    end = np.cumsum(lengths)
    at = end - lengths
    bad_start = (lengths == 0) | (joined[at] == 0)
    state = np.zeros(len(messages), dtype=np.int64)
    out = np.empty((tables.n, len(messages)), dtype=np.uint8)
    symbol_of, slot_freq, slot_rest = tables._numpy

    def refill(times: int) -> None:
        for _ in range(times):
            need = (state < LOWER) & (at < end)
            np.copyto(state, state << 8 | joined[at], where=need)
            np.add(at, 1, out=at, where=need)

    # The first byte is not zero, so four bytes reach 2**24; later a state is >= 2**11 while bytes are left.
    refill(4)
    for k, t in enumerate(tables.index.tolist()):
        slot = state & _MASK
        out[k] = symbol_of[t][slot]
        state >>= PROBABILITY_BITS
        state *= slot_freq[t][slot]
        state += slot_rest[t][slot]
        refill(2)
    rows = np.ascontiguousarray(out.T)
    bad_end = (state != 1) | (at != end)
    results: list[NDArray[np.uint8] | WireError] = list(rows)
    for lane in np.flatnonzero(bad_start | bad_end).tolist():
        what = "is empty" if not messages[lane] else "starts with a zero byte"
        results[lane] = _bad(what if bad_start[lane] else "does not end in the state it began with")
    return results


def _bad(what: str) -> WireError:
    return WireError("bad-code", f"a coded latent {what}")
