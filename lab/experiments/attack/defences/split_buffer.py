"""Hummen et al., "6LoWPAN fragmentation attacks and mitigation mechanisms" (WiSec 2013).

Content chaining: each fragment carries the hash of the next; one that is not the announced one is dropped
alone. The chain has no key, so a first fragment is anybody's to make; two first fragments under one name are
followed side by side, each with the later fragments that it announced.

Split buffer: memory is slots of one fragment each, taken as fragments come; in the public implementation for
Contiki as many as the largest datagram has fragments of 72 octets: 18 for 1280. When none is free, the
datagram with the worst sending behaviour gives way, unless the newcomer's is worse. Behaviour is scored as
there: a fragment at the datagram's usual pace (± 0.25 s) adds its share of the datagram in percent; one that
is late or early halves the score for each usual gap that passed, and so does waiting.
"""

from collections import Counter
from dataclasses import dataclass, field

from lab.experiments.attack.defences.base import (
    Delivered,
    Fate,
    Settings,
    checksum_is_good,
    data_frame,
    first_headers,
    fragment,
)
from lab.experiments.attack.formats import HASH, Format, content_hash
from wire import lowpan
from wire.ipv6 import MTU, UDP_OFFSET

SLOT = 110
SLOTS = 18
TIMEOUT = 3.0
WINDOW = 0.25
_MOST_HALVINGS = 20


@dataclass(slots=True, eq=False)
class _Datagram:
    name: tuple[bytes, int, int]
    first: lowpan.First
    began: float
    last: float
    slices: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    octets: int = 0
    score: float = 0.0

    @property
    def pace(self) -> float:
        """Usual gap between its fragments, s; 0 while there is only one."""
        return (self.last - self.began) / (len(self.slices) - 1) if len(self.slices) > 1 else 0.0

    @property
    def announced(self) -> bytes:
        """Hash of the fragment that must come next."""
        return self.slices[-1][-HASH:]

    def score_waiting(self, now: float) -> float:
        """Its score while nothing of it has come since `last`."""
        return self._fade(now, 0.0) if self.pace and now - self.last >= self.pace + WINDOW else self.score

    def score_with(self, octets: int, now: float) -> float:
        """Its score once a fragment of that many octets comes now."""
        gap, pace = now - self.last, self.pace
        if pace == 0.0 or pace - WINDOW < gap < pace + WINDOW:
            return self.score + 100 * octets / self.name[1]
        return self._fade(now, 1.0)

    def _fade(self, now: float, least: float) -> float:
        halvings: float = min(_MOST_HALVINGS, max(least, (now - self.last) / self.pace))
        return float(self.score / 2.0**halvings)


class SplitBuffer:
    """See the module.

    Args:
        large: as many slots as fit the memory that Slimwire reserves, instead of 18.
    """

    def __init__(self, settings: Settings, fmt: Format, *, large: bool = False) -> None:
        self.counters: Counter[str] = Counter()
        self._slots = settings.memory // SLOT if large else SLOTS
        self._fmt = fmt
        self._open: list[_Datagram] = []

    @property
    def used(self) -> int:
        """See `Defence`."""
        return self._taken * SLOT

    @property
    def bound(self) -> int:
        """See `Defence`."""
        return self._slots * SLOT

    @property
    def _taken(self) -> int:
        return sum(len(datagram.slices) for datagram in self._open)

    def trust(self, eui: bytes) -> float | None:
        """See `Defence`: behaviour is a datagram's, not an address'."""
        return None

    def answered(self, delivered: Delivered, *, opens: bool) -> None:
        """See `Defence`: nobody listens."""

    def tick(self, now: float) -> None:
        """See `Defence`."""
        kept = [datagram for datagram in self._open if now - datagram.last <= TIMEOUT]
        self.counters["expired"] += len(self._open) - len(kept)
        self._open = kept

    def receive(self, number: int, frame: bytes, now: float) -> Fate:
        """See `Defence`."""
        mac = data_frame(frame)
        part = fragment(mac.payload) if mac is not None else None
        if mac is None or part is None or not 48 <= part.size <= MTU:
            return self._refuse("malformed")
        assert mac.src is not None
        name = (mac.src, part.size, part.tag)
        mine = [datagram for datagram in self._open if datagram.name == name]
        if not part.first:
            return self._later(mine, part.offset - UDP_OFFSET, part.data, number, now)
        first = first_headers(mac.payload, mac)
        if first is None:
            return self._refuse("malformed")
        octets = first.udp_payload_slice
        if any(datagram.slices[0] == octets for datagram in mine):
            return self._refuse("duplicate")
        datagram = _Datagram(name, first, now, now)
        if not self._make_room(datagram, len(octets), now):
            return self._refuse("no-slot")
        self._open.append(datagram)
        datagram.slices.append(octets)
        datagram.numbers.append(number)
        datagram.octets = len(octets)
        return Fate(len(octets))

    def _later(self, mine: list[_Datagram], offset: int, data: bytes, number: int, now: float) -> Fate:
        if not mine:
            return self._refuse("no-datagram")
        hashed = content_hash(data)
        for datagram in mine:
            if datagram.octets == offset and datagram.announced == hashed:
                return self._append(datagram, data, number, now)
        if any(data in datagram.slices for datagram in mine):
            return self._refuse("duplicate")
        return self._refuse("bad-hash")

    def _append(self, datagram: _Datagram, data: bytes, number: int, now: float) -> Fate:
        score = datagram.score_with(len(data), now)
        if not self._make_room(datagram, len(data), now):
            return self._refuse("no-slot")
        datagram.score = score
        datagram.slices.append(data)
        datagram.numbers.append(number)
        datagram.octets += len(data)
        datagram.last = now
        if datagram.octets < datagram.first.payload_length:
            return Fate(len(data))
        self._open.remove(datagram)
        payload = b"".join(datagram.slices)
        if not checksum_is_good(datagram.first, payload):
            self.counters["bad-checksum"] += 1
            return Fate(len(data))
        message = self._fmt.message_of(payload, datagram.slices)
        return Fate(len(data), None, (Delivered(datagram.name[0], message, tuple(datagram.numbers)),))

    def _make_room(self, newcomer: _Datagram, octets: int, now: float) -> bool:
        if self._taken < self._slots:
            return True
        others = [datagram for datagram in self._open if datagram is not newcomer]
        if not others:
            return False
        worst = min(others, key=lambda datagram: datagram.score_waiting(now))
        own = newcomer.score_with(octets, now) if newcomer.slices else 0.0
        if worst.score_waiting(now) > own:
            return False
        self._open.remove(worst)
        self.counters["evicted"] += 1
        return True

    def _refuse(self, reason: str) -> Fate:
        self.counters[reason] += 1
        return Fate(0, reason)
