"""RFC 8931 §6: the fragments of a recoverable datagram, put together again in its compressed form.

    sequence     0          1          2      ...    each fragment has a number, and a retry keeps it
    octets    [0, 96)   [96, 192)  [192, 250)        of the compressed datagram, of which 0 tells the size
    bitmap    1 1 1 0 0 ...                          what an acknowledgement carries, sequence 0 at the left

`RecoverableDatagram` is what one end knows of one datagram, and nothing else: it has no clock and no peers.
`RecoveryReassembler` is the passive side of it, for captures: it hears both ends and trusts neither.

Reasons: `frag-size`, `frag-offset`, `frag-overlap`, `coverage-range`.
"""

from collections import OrderedDict
from dataclasses import dataclass

from wire.coverage import Added, Coverage
from wire.errors import WireError
from wire.reassembly import TIMEOUT_NS
from wire.rfrag import FULL_BITMAP, MAX_FRAGMENT, SEQUENCES, Rfrag

#: Octets that 32 fragments can carry; the size announced in sequence 0 cannot be more.
MAX_COMPRESSED = SEQUENCES * MAX_FRAGMENT

#: (source, destination, datagram_tag); addresses as on the link, 8 or 2 bytes.
Key = tuple[bytes, bytes, int]


class RecoverableDatagram:
    """What has arrived of one datagram. It holds the octets that arrived, and no more than 32 pieces."""

    __slots__ = ("_coverage", "_pieces", "_starts", "size")

    def __init__(self) -> None:
        #: Octets of the compressed datagram; None until sequence 0 told it.
        self.size: int | None = None
        self._coverage = Coverage(MAX_COMPRESSED, max_holes=SEQUENCES + 1)
        self._pieces: dict[int, bytes] = {}
        self._starts: dict[int, int] = {}

    def add(self, fragment: Rfrag) -> Added:
        """Add a fragment, in any order. A refused one changes nothing.

        Returns:
            NEW, or DUPLICATE for octets that are there already in the same place: a retry, or (a sender that
            renumbers) the same piece under another sequence, whose bit is then set too.

        Raises:
            WireError: `frag-offset` for an abort, which is the caller's to act on; `frag-size` if sequence 0
                announces more octets than 32 fragments carry; `coverage-range` if the fragment is empty or
                leaves its datagram; `frag-overlap` if it contradicts another: other octets, another place or
                another size.
        """
        sequence, length = fragment.sequence, len(fragment.payload)
        if fragment.is_abort:
            raise WireError("frag-offset", "fragment_offset 0: the sender gives the datagram up")
        start = 0 if sequence == 0 else fragment.offset
        size = fragment.offset if sequence == 0 else self.size
        if size is not None and size > MAX_COMPRESSED:
            raise WireError("frag-size", f"a compressed datagram of {size} octets: at most {MAX_COMPRESSED}")
        if size is not None and start + length > size:
            raise WireError("coverage-range", f"octets {start}..{start + length} of a datagram of {size}")
        if sequence in self._starts:
            if (
                size != self.size
                or start != self._starts[sequence]
                or self._pieces[start] != fragment.payload
            ):
                raise _contradiction(f"sequence {sequence} comes again with other octets, place or size")
            return Added.DUPLICATE
        if size is not None and any(at + len(piece) > size for at, piece in self._pieces.items()):
            raise _contradiction(f"sequence 0 announces {size} octets, and a fragment heard before has more")
        added = self._coverage.add(start, length)
        if added is Added.OVERLAP or (added is Added.DUPLICATE and self._pieces[start] != fragment.payload):
            raise _contradiction(f"octets {start}..{start + length} overlap those of another sequence")
        self._pieces[start] = fragment.payload
        self._starts[sequence] = start
        self.size = size
        return added

    @property
    def bitmap(self) -> int:
        """32 bits: the sequences that arrived, sequence 0 the most significant."""
        return sum(1 << SEQUENCES - 1 - sequence for sequence in self._starts)

    @property
    def ack_bitmap(self) -> int:
        """What an acknowledgement says of this state: `bitmap`, or all ones once nothing is missing."""
        return FULL_BITMAP if self.complete else self.bitmap

    @property
    def covered(self) -> int:
        """How many octets have arrived."""
        return self._coverage.covered

    @property
    def complete(self) -> bool:
        """Whether every octet has arrived."""
        return self._coverage.covered == self.size

    def holes(self) -> list[tuple[int, int]]:
        """The octets still missing, as [start, end) in order; until the size is known, the last is open."""
        end = MAX_COMPRESSED if self.size is None else self.size
        return [(start, min(stop, end)) for start, stop in self._coverage.holes() if start < end]

    def octets(self) -> bytes:
        """The compressed datagram.

        Raises:
            ValueError: not every octet has arrived.
        """
        if not self.complete:
            raise ValueError(f"{self.covered} octets have arrived, of a datagram of {self.size}")
        return b"".join(piece for _, piece in sorted(self._pieces.items()))


def _contradiction(what: str) -> WireError:
    return WireError("frag-overlap", f"{what}: the fragments contradict each other")


@dataclass(slots=True)
class _Partial:
    started: int
    datagram: RecoverableDatagram
    #: Whether every fragment so far repeats one of the datagram that was completed before under this key.
    repeats: bool


class RecoveryReassembler:
    """Collects recoverable fragments of any number of datagrams until they are whole, in bounded memory.

    A tag has 8 bits and soon comes again: a fragment that contradicts what was collected under its key starts
    a new collection, as in `wire.reassembly`.

    Args:
        max_datagrams: most datagrams under way, and as many completed ones remembered to know late retries;
            each takes what arrived of it. The oldest goes first.
        timeout_ns: how long after its first fragment a datagram is given up.
    """

    def __init__(self, max_datagrams: int = 1024, timeout_ns: int = TIMEOUT_NS) -> None:
        self._max = max_datagrams
        self._timeout = timeout_ns
        self._open: OrderedDict[Key, _Partial] = OrderedDict()
        self._done: OrderedDict[Key, tuple[int, RecoverableDatagram]] = OrderedDict()

    def __len__(self) -> int:
        """How many datagrams are under way."""
        return len(self._open)

    def add(self, now_ns: int, key: Key, fragment: Rfrag) -> bytes | None:
        """Add a fragment. The sender's abort drops what was collected of its datagram.

        Args:
            now_ns: time of the frame in ns; it may go backwards (then nothing times out).
            key: whose fragment of what it is.
            fragment: as parsed.

        Returns:
            The compressed datagram's octets once this completes them, else None.

        Raises:
            WireError: as `RecoverableDatagram.add`, but for aborts; after `frag-overlap`, what was collected
                is gone, and this fragment is the first of a new collection.
        """
        if fragment.is_abort:
            self.abort(key)
            return None
        partial = self._open.get(key)
        if partial is not None and now_ns - partial.started > self._timeout:
            del self._open[key]
            partial = None
        repeats = self._repeats(now_ns, key, fragment)
        if partial is not None and partial.repeats and not repeats:
            # The fragments so far were late retries of the last datagram, and this is another one.
            del self._open[key]
            partial = None
        conflict: WireError | None = None
        if partial is not None:
            try:
                partial.datagram.add(fragment)
            except WireError as error:
                if error.reason != "frag-overlap":
                    raise
                conflict, partial = error, None
        if partial is None:
            partial = _Partial(now_ns, RecoverableDatagram(), repeats)
            partial.datagram.add(fragment)
            self._open[key] = partial
            self._open.move_to_end(key)
            if len(self._open) > self._max:
                self._open.popitem(last=False)
        if conflict is not None:
            raise conflict
        if not partial.datagram.complete:
            return None
        del self._open[key]
        self._done[key] = (now_ns, partial.datagram)
        self._done.move_to_end(key)
        if len(self._done) > self._max:
            self._done.popitem(last=False)
        return partial.datagram.octets()

    def abort(self, key: Key) -> None:
        """Drop what was collected under this key: an end gave the datagram up."""
        self._open.pop(key, None)

    def _repeats(self, now_ns: int, key: Key, fragment: Rfrag) -> bool:
        """Whether the datagram completed before under this key had this very fragment."""
        done = self._done.get(key)
        if done is None or now_ns - done[0] > self._timeout:
            return False
        try:
            return done[1].add(fragment) is Added.DUPLICATE
        except WireError:
            return False
