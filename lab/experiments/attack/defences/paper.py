"""Predictive-CSM as its abstract can be read (arXiv 2506.01767); docs/attack-lab.md lists the readings.

Every fragment is checked by the validator: its value must be the SHA-256 of the previous value and its
octets. What the claimed link-layer address did so far is its trust, T ← 0.8·T + 0.2·O, from 0.5; O is 1 for a
fragment that passes, 0 for one that fails and for a datagram that stays unfinished. Below 0.5 the address'
fragments are refused. Only what passes both is buffered, in a pool as large as Slimwire's whole memory. No
key exists.
"""

from collections import Counter, OrderedDict

from lab.experiments.attack.defences.base import (
    HARMLESS,
    Delivered,
    Fate,
    Fragment,
    Settings,
    data_frame,
    first_headers,
    fragment,
)
from lab.experiments.attack.defences.pool import LARGEST, Key, Pool
from lab.experiments.attack.formats import HASH, Format, running_hash, running_start
from wire import lowpan
from wire.ipv6 import UDP_OFFSET

LAMBDA = 0.8
THRESHOLD = 0.5
INITIAL = 0.5
_ADDRESSES = 1024


class Paper:
    """See the module."""

    def __init__(self, settings: Settings, fmt: Format) -> None:
        self.counters: Counter[str] = Counter()
        self._pool = Pool(settings.memory, self.counters, fmt)
        self._levels: OrderedDict[bytes, float] = OrderedDict()
        #: (value, offset of the next fragment) of each datagram that the validator follows.
        self._chains: OrderedDict[Key, tuple[bytes, int]] = OrderedDict()

    @property
    def used(self) -> int:
        """See `Defence`."""
        return self._pool.used

    @property
    def bound(self) -> int:
        """See `Defence`."""
        return self._pool.memory

    def trust(self, eui: bytes) -> float | None:
        """See `Defence`."""
        return self._levels.get(eui, INITIAL)

    def answered(self, delivered: Delivered, *, opens: bool) -> None:
        """See `Defence`: the paper's evidence is the fragments'."""

    def tick(self, now: float) -> None:
        """See `Defence`: an incomplete sequence is a failure of its source."""
        for key in self._pool.expire(now):
            self._observe(key[0], passed=False)

    def receive(self, number: int, frame: bytes, now: float) -> Fate:
        """See `Defence`."""
        mac = data_frame(frame)
        part = fragment(mac.payload) if mac is not None else None
        if mac is None:
            return self._pool.refuse("malformed")
        if part is None:
            # Nothing for a validator of fragments: no evidence either.
            return self._pool.refuse("no-fragment")
        assert mac.src is not None
        if not 48 <= part.size <= LARGEST:
            return self._fail(mac.src, "malformed")
        first = first_headers(mac.payload, mac) if part.first else None
        if part.first and first is None:
            return self._fail(mac.src, "malformed")
        key = (mac.src, part.size, part.tag)
        problem = self._validate(key, part, first, now)
        if problem in HARMLESS:
            return self._pool.refuse(problem)
        if problem is not None:
            return self._fail(mac.src, problem)
        trusted = self._levels.get(mac.src, INITIAL) >= THRESHOLD
        self._observe(mac.src, passed=True)
        if not trusted:
            return self._pool.refuse("untrusted")
        if first is not None:
            return self._pool.open(key, first, number, now)
        return self._pool.fill(key, part, number, now)

    def _validate(self, key: Key, part: Fragment, first: lowpan.First | None, now: float) -> str | None:
        octets = part.data if first is None else first.udp_payload_slice
        at = 0 if first is not None else part.offset - UDP_OFFSET
        entry = self._pool.entries.get(key)
        if entry is not None and at in entry.parts and entry.parts[at][0] == octets:
            return "duplicate"
        if self._pool.late(key, now):
            return "already-complete"
        if first is not None:
            value, expected = running_start(key[0], key[2]), 0
        elif key in self._chains:
            value, expected = self._chains[key]
        else:
            return "no-chain"
        if at != expected or running_hash(value, octets[:-HASH]) != octets[-HASH:]:
            return "bad-hash"
        self._chains[key] = (octets[-HASH:], at + len(octets))
        self._chains.move_to_end(key)
        if len(self._chains) > _ADDRESSES:
            self._chains.popitem(last=False)
        return None

    def _fail(self, source: bytes, reason: str) -> Fate:
        self._observe(source, passed=False)
        return self._pool.refuse(reason)

    def _observe(self, source: bytes, *, passed: bool) -> None:
        level = self._levels.get(source, INITIAL)
        self._levels[source] = LAMBDA * level + (1 - LAMBDA) * passed
        self._levels.move_to_end(source)
        if len(self._levels) > _ADDRESSES:
            self._levels.popitem(last=False)
