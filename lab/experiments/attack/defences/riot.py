"""RIOT's reassembly buffer, as its source has it (sys/net/gnrc/network_layer/sixlowpan/frag/rb, 2026-08).

Defaults: 4 entries, 3 s since the last fragment, the oldest entry overridden by a new datagram. An entry is
named by both addresses, size and tag; any fragment may open one, and memory for the whole datagram is taken
then. A fragment that reaches beyond the datagram, or overlaps another one without being the same interval,
throws the datagram away; in the latter case a new one begins with that fragment. The same interval again is
dropped, whatever is in it: first come, first kept. 52 intervals in all.
"""

from collections import Counter
from dataclasses import dataclass, field

from lab.experiments.attack.defences.base import (
    Delivered,
    Fate,
    Fragment,
    Settings,
    checksum_is_good,
    data_frame,
    first_headers,
    fragment,
)
from lab.experiments.attack.formats import Format
from wire import lowpan
from wire.ipv6 import MTU, UDP_OFFSET

ENTRIES = 4
TIMEOUT = 3.0
#: ceil(1280 / 99) intervals for each entry, shared.
INTERVALS = 13 * ENTRIES


@dataclass(slots=True, eq=False)
class _Entry:
    size: int
    arrival: float
    intervals: list[tuple[int, int]] = field(default_factory=list)
    current: int = 0
    first: lowpan.First | None = None
    #: (offset in the datagram, octets, frame number)
    parts: list[tuple[int, bytes, int]] = field(default_factory=list)


class Riot:
    """See the module. Memory is counted as RIOT takes it: a datagram's size while its entry lives."""

    bound = ENTRIES * MTU

    def __init__(self, settings: Settings, fmt: Format) -> None:
        self.counters: Counter[str] = Counter()
        self._fmt = fmt
        self._entries: dict[tuple[bytes, int, int], _Entry] = {}

    @property
    def used(self) -> int:
        """See `Defence`."""
        return sum(entry.size for entry in self._entries.values())

    def trust(self, eui: bytes) -> float | None:
        """See `Defence`: none."""
        return None

    def answered(self, delivered: Delivered, *, opens: bool) -> None:
        """See `Defence`: nobody listens."""

    def tick(self, now: float) -> None:
        """See `Defence`."""
        for key in [key for key, entry in self._entries.items() if now - entry.arrival > TIMEOUT]:
            del self._entries[key]
            self.counters["expired"] += 1

    def receive(self, number: int, frame: bytes, now: float) -> Fate:
        """See `Defence`."""
        mac = data_frame(frame)
        part = fragment(mac.payload) if mac is not None else None
        if mac is None or part is None or not 40 <= part.size <= MTU:
            return self._refuse("malformed")
        assert mac.src is not None
        self.tick(now)
        key = (mac.src, part.size, part.tag)
        first = None
        if part.first:
            first = first_headers(mac.payload, mac)
            if first is None:
                return self._refuse("malformed")
        fate = self._add(key, part, first, number, now)
        if fate is None:  # overlap: begin anew with this fragment
            fate = self._add(key, part, first, number, now)
        assert fate is not None
        return fate

    def _add(
        self, key: tuple[bytes, int, int], part: Fragment, first: lowpan.First | None, number: int, now: float
    ) -> Fate | None:
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= ENTRIES:
                del self._entries[min(self._entries, key=lambda k: self._entries[k].arrival)]
                self.counters["evicted"] += 1
            entry = self._entries[key] = _Entry(part.size, now)
        entry.arrival = now
        start, end = part.offset, part.offset + len(part.data) - 1
        if end >= entry.size:
            del self._entries[key]
            return self._refuse("beyond-datagram")
        for other in entry.intervals:
            if other[0] <= end and start <= other[1] and other != (start, end):
                del self._entries[key]
                self.counters["overlap"] += 1
                return None
            if other[0] == start:
                return self._refuse("duplicate")
        if sum(len(one.intervals) for one in self._entries.values()) >= INTERVALS:
            del self._entries[key]
            return self._refuse("no-interval")
        entry.intervals.append((start, end))
        if first is not None:
            entry.first = first
            entry.parts.append((UDP_OFFSET, first.udp_payload_slice, number))
            entry.current += UDP_OFFSET + len(first.udp_payload_slice)
        else:
            entry.parts.append((start, part.data, number))
            entry.current += len(part.data)
        if entry.current != entry.size or entry.first is None:
            return Fate(len(part.data))
        del self._entries[key]
        return self._complete(key[0], entry, entry.first, len(part.data))

    def _complete(self, source: bytes, entry: _Entry, first: lowpan.First, stored: int) -> Fate:
        datagram = bytearray(entry.size)
        parts = sorted(entry.parts)
        for offset, data, _ in parts:
            datagram[offset : offset + len(data)] = data
        payload = bytes(datagram[UDP_OFFSET:])
        if not checksum_is_good(first, payload):
            self.counters["bad-checksum"] += 1
            return Fate(stored)
        octets = self._fmt.message_of(payload, [data for _, data, _ in parts])
        return Fate(stored, None, (Delivered(source, octets, tuple(number for _, _, number in parts)),))

    def _refuse(self, reason: str) -> Fate:
        self.counters[reason] += 1
        return Fate(0, reason)
