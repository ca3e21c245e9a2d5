"""The one pool that nobody is charged for: fragments that overtook their first one.

Nothing here is authenticated, so the pool is small, shared, and lossy on purpose: a flood can only push out
other unauthenticated fragments. When it is full, the source that holds the most gives way, its oldest
fragment first.
"""

from collections import OrderedDict

#: Bytes charged per kept fragment beside its own: what its bookkeeping roughly weighs on the wire's scale.
OVERHEAD = 32

_Key = tuple[int, int, int, bytes]  # datagram size, datagram tag, offset, slice


class EarlyPool:
    """Fragments kept until their first one is verified, at most `capacity` bytes in all.

    Args:
        capacity: bytes, `OVERHEAD` per fragment included.
        timeout: s a fragment is kept.
    """

    def __init__(self, capacity: int = 4096, timeout: float = 10.0) -> None:
        self.capacity = capacity
        self.timeout = timeout
        self.used = 0
        self._held: dict[bytes, int] = {}
        self._by_source: dict[bytes, OrderedDict[_Key, float]] = {}

    def add(
        self, source: bytes, size: int, tag: int, offset: int, data: bytes, now: float, share: int
    ) -> tuple[bool, int]:
        """Keep a fragment of `source`, which may hold at most `share` bytes of the pool.

        Returns:
            Whether it is a new one that was kept, and how many older fragments gave way.
        """
        charge = len(data) + OVERHEAD
        if charge > min(share, self.capacity):
            return False, 0
        mine = self._by_source.get(source)
        key = (size, tag, offset, bytes(data))
        if mine is not None and key in mine:
            return False, 0
        evicted = 0
        while self._held.get(source, 0) + charge > share:
            self._evict(source)
            evicted += 1
        while self.used + charge > self.capacity:
            self._evict(max(self._held, key=self._held.__getitem__))
            evicted += 1
        self._by_source.setdefault(source, OrderedDict())[key] = now
        self._held[source] = self._held.get(source, 0) + charge
        self.used += charge
        return True, evicted

    def take(self, source: bytes, size: int, tag: int) -> list[tuple[int, bytes]]:
        """Remove and return (offset, slice) of one datagram's early fragments."""
        mine = self._by_source.get(source)
        if mine is None:
            return []
        keys = [key for key in mine if key[0] == size and key[1] == tag]
        for key in keys:
            self._remove(source, key)
        return [(key[2], key[3]) for key in keys]

    def expire(self, now: float) -> int:
        """Drop what is older than `timeout`; returns how many."""
        limit = now - self.timeout
        old = [
            (source, key)
            for source, mine in self._by_source.items()
            for key, at in mine.items()
            if at <= limit
        ]
        for source, key in old:
            self._remove(source, key)
        return len(old)

    def _evict(self, source: bytes) -> None:
        self._remove(source, next(iter(self._by_source[source])))

    def _remove(self, source: bytes, key: _Key) -> None:
        mine = self._by_source[source]
        del mine[key]
        charge = len(key[3]) + OVERHEAD
        self.used -= charge
        self._held[source] -= charge
        if not mine:
            del self._by_source[source], self._held[source]
