"""Reassembly by RFC 4944 §5.3 in one pool of memory, behind the defences that bring none of their own.

A datagram is named by source, size and tag; only a first fragment opens one (RFC 8930), which takes its whole
size. When memory is short the oldest gives way. A fragment that overlaps another and differs throws away what
was collected, as the RFC asks. 3 s without a fragment end a datagram.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from lab.experiments.attack.defences.base import Delivered, Fate, Fragment, checksum_is_good
from lab.experiments.attack.formats import Format
from wire import lowpan
from wire.ipv6 import MTU, UDP_OFFSET

TIMEOUT = 3.0
_REMEMBERED = 64


@dataclass(slots=True, eq=False)
class Entry:
    """A datagram under reassembly; `parts`: offset in the UDP payload -> (octets, frame number)."""

    first: lowpan.First
    last: float
    parts: dict[int, tuple[bytes, int]] = field(default_factory=dict)


Key = tuple[bytes, int, int]


class Pool:
    """See the module.

    Args:
        memory: bytes of datagrams under reassembly.
        counters: where refusals are counted.
    """

    def __init__(self, memory: int, counters: Counter[str], fmt: Format) -> None:
        self.memory = memory
        self.used = 0
        self.entries: OrderedDict[Key, Entry] = OrderedDict()
        self._counters = counters
        self._fmt = fmt
        self._complete: OrderedDict[Key, float] = OrderedDict()

    def expire(self, now: float) -> list[Key]:
        """Drop what had no fragment for too long; returns which."""
        old = [key for key, entry in self.entries.items() if now - entry.last > TIMEOUT]
        for key in old:
            self.drop(key)
        self._counters["expired"] += len(old)
        return old

    def drop(self, key: Key) -> None:
        """Forget a datagram."""
        del self.entries[key]
        self.used -= key[1]

    def open(self, key: Key, first: lowpan.First, number: int, now: float) -> Fate:
        """Take a first fragment."""
        if self.late(key, now):
            return self.refuse("already-complete")
        entry = self.entries.get(key)
        if entry is not None:
            if entry.first.udp_payload_slice == first.udp_payload_slice:
                return self.refuse("duplicate")
            self.drop(key)
            return self.refuse("overlap")
        while self.used + key[1] > self.memory:
            self.drop(next(iter(self.entries)))
            self._counters["evicted"] += 1
        self.entries[key] = Entry(first, now, {0: (first.udp_payload_slice, number)})
        self.used += key[1]
        return Fate(len(first.udp_payload_slice))

    def fill(self, key: Key, part: Fragment, number: int, now: float) -> Fate:
        """Take a later fragment."""
        entry = self.entries.get(key)
        if entry is None:
            return self.refuse("already-complete" if self.late(key, now) else "no-datagram")
        start = part.offset - UDP_OFFSET
        end = start + len(part.data)
        if start < 0 or end > entry.first.payload_length:
            return self.refuse("beyond-datagram")
        for at, (data, _) in entry.parts.items():
            if at == start and data == part.data:
                return self.refuse("duplicate")
            if at < end and start < at + len(data):
                self.drop(key)
                return self.refuse("overlap")
        entry.parts[start] = (part.data, number)
        entry.last = now
        if sum(len(data) for data, _ in entry.parts.values()) < entry.first.payload_length:
            return Fate(len(part.data))
        self.drop(key)
        return self._finish(key, entry, len(part.data), now)

    def refuse(self, reason: str) -> Fate:
        """Count a refusal."""
        self._counters[reason] += 1
        return Fate(0, reason)

    def _finish(self, key: Key, entry: Entry, stored: int, now: float) -> Fate:
        parts = [entry.parts[at] for at in sorted(entry.parts)]
        payload = b"".join(data for data, _ in parts)
        if not checksum_is_good(entry.first, payload):
            self._counters["bad-checksum"] += 1
            return Fate(stored)
        self._complete[key] = now
        if len(self._complete) > _REMEMBERED:
            self._complete.popitem(last=False)
        octets = self._fmt.message_of(payload, [data for data, _ in parts])
        return Fate(stored, None, (Delivered(key[0], octets, tuple(number for _, number in parts)),))

    def late(self, key: Key, now: float) -> bool:
        """Whether a datagram of this name was complete a moment ago."""
        at = self._complete.get(key)
        return at is not None and now - at <= TIMEOUT


#: The largest datagram that is taken.
LARGEST = MTU
