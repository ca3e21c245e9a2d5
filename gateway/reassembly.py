"""One datagram under reassembly, whose first fragment is verified.

The manifest in the first fragment says where every later slice starts and how long it is, so coverage is one
bit per slice, set only after that slice's tag was verified: no byte counter, no holes to sort, no overlap to
resolve (the shapes behind Contiki-NG PR 3135 and CVE-2021-3330). Offsets
are those of the UDP payload; sizes those of the uncompressed IPv6 datagram (RFC 4944 §5.3).
"""

from gateway.reasons import Reason
from wire.ipv6 import UDP_OFFSET
from wire.message import FirstSlice, datagram_tag


class Datagram:
    """Slices of one datagram, each kept only once verified.

    Args:
        first: the verified first slice, whose manifest has no `cut_problem`.
        epoch: the full epoch number of the keys that verified it.
        k_frag: the device's K_frag_up of that epoch.
        pan: the PAN it came from.
        now: monotonic time of the first fragment, s.
        retry: whether a message with this counter was complete before.
    """

    __slots__ = (
        "_start",
        "_stride",
        "counter",
        "epoch",
        "first",
        "fragments",
        "k_frag",
        "missing",
        "opened",
        "pan",
        "parts",
        "retry",
        "size",
        "started",
        "tag",
    )

    def __init__(
        self, first: FirstSlice, epoch: int, k_frag: bytes, pan: int | None, now: float, *, retry: bool
    ) -> None:
        self.first = first
        self.counter = first.counter
        self.size = first.payload_length + UDP_OFFSET
        self.tag = datagram_tag(first.counter)
        self.epoch = epoch
        self.k_frag = k_frag
        self.pan = pan
        self.retry = retry
        self.opened = now
        #: Restarted by a copy of the first fragment: a replayed one must not time a genuine retry out.
        self.started = now
        self.fragments = 1
        self.parts: list[bytes | None] = [None] * first.n
        self.missing = (1 << first.n) - 1
        self._start = len(first.data)
        self._stride = 8 * first.step

    def place(self, offset: int, data: bytes) -> int | Reason:
        """The slice, 1..n, that `data` at `offset` octets of the UDP payload is, or why it cannot be one.

        Checked before any HMAC is spent: `bad-offset` and `bad-length` against the manifest, `duplicate` and
        `overlap` (other bytes at a verified place) against what is kept.
        """
        index, beside = divmod(offset - self._start, self._stride)
        index += 1
        if beside or not 1 <= index <= self.first.n:
            return Reason.BAD_OFFSET
        if len(data) != min(self._stride, self.first.payload_length - offset):
            return Reason.BAD_LENGTH
        kept = self.parts[index - 1]
        if kept is not None:
            return Reason.DUPLICATE if kept == data else Reason.OVERLAP
        return index

    def offset_of(self, index: int) -> int:
        """Where in the UDP payload slice `index`, 1 or more, would begin; `place` says if there is one."""
        return self._start + (index - 1) * self._stride

    def keep(self, index: int, data: bytes) -> None:
        """Keep a slice whose tag was verified."""
        self.parts[index - 1] = bytes(data)
        self.missing &= ~(1 << index - 1)
        self.fragments += 1

    @property
    def complete(self) -> bool:
        """Whether every slice is there."""
        return not self.missing

    def sealed(self) -> bytes:
        """The sealed bytes of the message; only once complete."""
        return self.first.sealed + b"".join(part for part in self.parts if part is not None)
