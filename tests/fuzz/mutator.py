"""Seeded mutations of a corpus: for every test run, and where no coverage-guided fuzzer is installed."""

import random
from collections.abc import Iterator

#: Bytes that parsers compare with: dispatches, frame controls, flags, limits.
_BYTES = bytes.fromhex("00017f80ff40414250607e7f7a33c0c1c4e0e1e4e8e9eaebeef0f3f7fe6182d80323")
#: Longer pieces of the formats, so that a mutation can stack headers.
_TOKENS = tuple(
    bytes.fromhex(text)
    for text in (
        "7e33f300", "7a333a", "7700", "c0400001", "e04000010c", "e8010060", "e801840000c0", "ea0100000000",
        "eaffffffffff", "b100010002", "5007", "f0", "4160000000", "e10600", "ee7e33", "4188", "41cc23f0",
        "69d8", "455802010b", "a1b2c3d4", "0a0d0d0a", "53574231", "53574131", "53574831", "fffe", "7fff",
        "0500", "ffffffff", "00000000", "80000000",
    )
)  # fmt: skip


def mutations(corpus: list[bytes], seed: int, longest: int) -> Iterator[bytes]:
    """Inputs without end, the same for the same arguments; none is longer than `longest` bytes."""
    random_ = random.Random(seed)
    while True:
        data = bytearray(random_.choice(corpus))
        for _ in range(random_.choice((1, 1, 1, 2, 2, 3, 5, 8))):
            _mutate(data, random_, corpus)
        yield bytes(data[:longest])


def _mutate(data: bytearray, random_: random.Random, corpus: list[bytes]) -> None:
    size = len(data)
    at = int(random_.random() * (size + 1))
    kind = random_.randrange(10)
    if kind < 3 and at < size:
        data[at] ^= 1 << random_.randrange(8)
    elif kind < 5 and at < size:
        data[at] = random_.choice(_BYTES)
    elif kind == 5:
        data[at:at] = random_.randbytes(random_.randrange(1, 9))
    elif kind == 6:
        del data[at : at + random_.randrange(1, 17)]
    elif kind == 7:
        token = random_.choice(_TOKENS)
        data[at : at + (len(token) if random_.random() < 0.7 else 0)] = token
    elif kind == 8:
        data[at : at + random_.choice((1, 2, 4))] = random_.randbytes(random_.choice((1, 2, 4)))
    else:
        other = random_.choice(corpus)
        start = int(random_.random() * (len(other) + 1))
        data[at:] = other[start:]
