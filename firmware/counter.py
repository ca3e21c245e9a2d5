"""Message counters that no power cut can make the device use twice.

A counter seals one plaintext once, ever. Counters are reserved on flash in blocks before the first of a block is used, and
a start throws the rest of the last block away. Two slots, `counter.a` and `counter.b`, take turns: a write that a power
cut spoils leaves the other one. The slots are written in place and flushed, since a rename is durable only once its
directory is, which MicroPython cannot ask for everywhere.

slot, 12 bytes, big endian: "SWN1" | upper u32 | CRC-32 u32 of the 8 before

Counters below `upper` may have been used; each write adds BLOCK. Of two good slots the higher one counts. If one slot is missing or spoilt, it may
have been the higher one, by one block; that block is skipped, in a write of its own, so that the two slots never
differ by more. Without any good slot the device refuses to send: only a new enrolment, with new keys, makes counting
from 1 safe again.

    counter = Counter(store)            # CounterLost if the slots are gone
    number = counter.next()             # writes flash once in BLOCK calls
"""

from binascii import crc32
from struct import pack, unpack

from .compat import const

BLOCK = const(64)  # part of the slots' format: see above
SLOTS = ("counter.a", "counter.b")
_LIMIT = 0xFFFFFFFF
_MAGIC = b"SWN1"


class CounterLost(Exception):
    """No slot is good, or the last counter is used."""


def slot(upper):
    """The 12 bytes of a slot. A new enrolment writes slot(1) to both."""
    data = _MAGIC + pack(">I", upper)
    return data + pack(">I", crc32(data))


def _upper(data):
    """`upper` of a good slot, else 0."""
    if data is None or len(data) != 12:
        return 0
    upper = unpack(">I", data[4:8])[0]
    return upper if slot(upper) == data else 0


class Counter:
    """store: `read(name)` -> bytes, or None if there is no such file; `write(name, data)`, which returns once the data
    is on the medium (`firmware.ports`).
    """

    def __init__(self, store):
        self._store = store
        a, b = [_upper(store.read(name)) for name in SLOTS]
        if not a and not b:
            raise CounterLost(
                "counter.a and counter.b are missing or spoilt; at least one good slot was expected. This device might use a "
                "counter again, so it does not send. Enrol it anew: a new identity, with new keys"
            )
        self._upper = max(a, b)
        self._turn = 0 if a < b else 1
        if not a or not b:
            self._reserve()  # the block that the lost slot may have reserved; it is not used
        self._next = self._upper  # the first `next` reserves a block

    def _reserve(self):
        upper = self._upper + BLOCK
        if upper > _LIMIT:
            raise CounterLost("all counters of this identity are used. Enrol the device anew")
        self._store.write(SLOTS[self._turn], slot(upper))
        self._turn ^= 1
        self._upper = upper

    def next(self):
        """A counter never handed out before, 1 or more."""
        if self._next == self._upper:
            self._reserve()
        number = self._next
        self._next += 1
        return number
