"""Message counters that no power cut can make the device use twice.

A counter seals one plaintext once, ever. Counters are reserved on flash in blocks before the first of a
block is used, and a start throws the rest of the last block away. Two slots, `counter.a` and `counter.b`,
take turns: a write that a power cut spoils leaves the other one. The slots are written in place and
flushed, since a rename is durable only once its directory is, which MicroPython cannot ask for everywhere.

slot, 12 bytes, big endian: "SWN1" | upper u32 | CRC-32 u32 of the 8 before

Counters below `upper` may have been used; each write adds BLOCK. Of two good slots the higher one counts.
If one slot is missing or spoilt, it may have been the higher one, by one block; that block is skipped, in a
write of its own, so that the two slots never differ by more. Without any good slot the device refuses to
send: only a new enrolment, with new keys, makes counting from 1 safe again.

    counter = Counter(directory, flush)     # SettingsError if the slots are gone
    number = counter.next()                 # writes flash once in BLOCK calls
"""

from binascii import crc32
from struct import pack

from .compat import const

BLOCK = const(64)  # part of the slots' format: see above


def slot(upper):
    """The 12 bytes of a slot. A new enrolment writes slot(1) to both."""
    data = b"SWN1" + pack(">I", upper)
    return data + pack(">I", crc32(data))


class Counter:
    """directory: where the slots are, with its slash; flush: `firmware.ports` says how a file gets to the
    medium; open: the builtin, or what stands for a medium in a test.
    """

    def __init__(self, directory, flush, open=open):
        self._names = directory + "counter.a", directory + "counter.b"
        self._flush = flush
        self._open = open
        a, b = [self._read(name) for name in self._names]
        if not a and not b:
            from .errors import refuse  # here: a device that runs drops it

            refuse(
                "counter.a and counter.b are missing or spoilt: the device might use a counter again, "
                "so it does not send",
                "at least one good slot",
                "enrol it anew: a new identity, with new keys",
            )
        self._upper = max(a, b)
        self._turn = 0 if a < b else 1
        if not a or not b:
            self._reserve()  # the block that the lost slot may have reserved; it is not used
        self._next = self._upper  # the first `next` reserves a block

    def _read(self, name):
        """`upper` of a good slot, else 0. OSError where the medium does not work."""
        try:
            with self._open(name, "rb") as file:
                data = file.read()
        except OSError as error:
            if error.errno != 2:  # ENOENT
                raise
            return 0
        upper = int.from_bytes(data[4:8], "big")
        return upper if slot(upper) == data else 0

    def _reserve(self):
        upper = self._upper + BLOCK
        if upper >> 32:
            from .errors import SettingsError

            raise SettingsError("all counters of this identity are used; enrol the device anew")
        with self._open(self._names[self._turn], "wb") as file:
            file.write(slot(upper))
            self._flush(file)
        self._turn ^= 1
        self._upper = upper

    def next(self):
        """A counter never handed out before, 1 or more."""
        if self._next == self._upper:
            self._reserve()
        self._next += 1
        return self._next - 1
