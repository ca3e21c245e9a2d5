"""RFC 4944 §5.3 reassembly of whatever a capture holds, for `slimwire wire dump`.

Nothing here is authenticated, so the RFC's rules hold as they stand: a datagram is keyed by (source,
destination, size, tag); a fragment that overlaps another and differs discards what was collected, and starts
anew; what is not whole 60 s after its first fragment arrived is dropped. The gateway's own reassembly,
behind its admission, is another one.

Reasons: `frag-size`, `frag-overlap`, and `coverage-range` of `wire.coverage`.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from wire.coverage import Added, Coverage
from wire.errors import WireError
from wire.frag import MAX_DATAGRAM, MIN_DATAGRAM

TIMEOUT_NS = 60_000_000_000

#: (source, destination, datagram_size, datagram_tag, and under a mesh header the receiver of this hop).
#: Addresses are as on the link, 8 or 2 bytes.
Key = tuple[bytes, bytes, int, int] | tuple[bytes, bytes, int, int, bytes | None]


@dataclass(slots=True)
class _Partial:
    started: int
    buffer: bytearray
    coverage: Coverage
    #: The datagram of the same key that was completed before, if every piece so far repeats it.
    previous: bytes | None = field(default=None)


class Reassembler:
    """Collects fragments until their datagrams are whole, in bounded memory.

    Args:
        max_datagrams: most datagrams under way, and as many completed ones remembered to know late
            duplicates; each takes about its size. The oldest goes first.
        timeout_ns: how long after its first fragment a datagram is given up.
    """

    def __init__(self, max_datagrams: int = 1024, timeout_ns: int = TIMEOUT_NS) -> None:
        self._max = max_datagrams
        self._timeout = timeout_ns
        self._open: OrderedDict[Key, _Partial] = OrderedDict()
        self._done: OrderedDict[Key, tuple[int, bytes]] = OrderedDict()

    def __len__(self) -> int:
        """How many datagrams are under way."""
        return len(self._open)

    def add(self, now_ns: int, key: Key, offset: int, octets: bytes) -> bytes | None:
        """Add a fragment's octets, uncompressed, which start at `offset`; the first fragment's at 0.

        Args:
            now_ns: time of the frame in ns; it may go backwards (then nothing times out).
            key: whose fragment of what it is.
            offset: in octets.
            octets: at least one.

        Returns:
            The datagram's octets once this completes them, else None.

        Raises:
            WireError: `frag-size` if the datagram's size is not 40..2047; `frag-overlap` if the fragment
                overlaps and differs: what was collected is gone, and this fragment is the first of a new
                collection.
        """
        size = key[2]
        if not MIN_DATAGRAM <= size <= MAX_DATAGRAM:
            raise WireError("frag-size", f"datagram_size {size}: expected {MIN_DATAGRAM}..{MAX_DATAGRAM}")
        partial = self._open.get(key)
        if partial is not None and now_ns - partial.started > self._timeout:
            del self._open[key]
            partial = None
        repeats = self._repeats(now_ns, key, offset, octets)
        if partial is not None and partial.previous is not None and repeats is None:
            # The pieces so far were late duplicates of the last datagram, and this is another one.
            del self._open[key]
            partial = None
        conflict = ""
        if partial is not None:
            added = partial.coverage.add(offset, len(octets))
            if added is Added.DUPLICATE and partial.buffer[offset : offset + len(octets)] == octets:
                return None
            if added is not Added.NEW:
                conflict = (
                    f"octets {offset}..{offset + len(octets)} overlap and differ: the datagram is discarded"
                )
                partial = None
        if partial is None:
            partial = _Partial(now_ns, bytearray(size), Coverage(size, max_holes=size), repeats)
            partial.coverage.add(offset, len(octets))
            self._open[key] = partial
            self._open.move_to_end(key)
            if len(self._open) > self._max:
                self._open.popitem(last=False)
        partial.buffer[offset : offset + len(octets)] = octets
        if conflict:
            raise WireError("frag-overlap", conflict)
        if not partial.coverage.complete:
            return None
        del self._open[key]
        whole = bytes(partial.buffer)
        self._done[key] = (now_ns, whole)
        self._done.move_to_end(key)
        if len(self._done) > self._max:
            self._done.popitem(last=False)
        return whole

    def _repeats(self, now_ns: int, key: Key, offset: int, octets: bytes) -> bytes | None:
        """The datagram completed before under this key, if it had these octets in this place."""
        done = self._done.get(key)
        if done is None or now_ns - done[0] > self._timeout:
            return None
        return done[1] if done[1][offset : offset + len(octets)] == octets else None
