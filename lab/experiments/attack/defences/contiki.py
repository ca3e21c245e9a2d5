"""Contiki-NG's reassembly, as its source has it (os/net/ipv6/sicslowpan.c, os/net/mac/mac-sequence.c).

Defaults: 2 contexts of 0.5 s from the first fragment, 12 fragment buffers, no check for overlaps ("it is a
SHALL in the RFC 4944 and should never happen"). Every first fragment takes a context of its own, also a copy;
expired contexts are freed only when one is looked for. A later fragment belongs to the first context with its
sender and tag. Octets are counted, not places: as soon as there are enough, the datagram is complete, later
buffers over earlier ones, gaps as they are. The MAC drops a sender's last sequence number when it comes again
within 20 s.
"""

from collections import Counter, OrderedDict
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
from lab.experiments.attack.formats import Format
from wire import lowpan
from wire.ipv6 import MTU, UDP_OFFSET

CONTEXTS = 2
TIMEOUT = 0.5
BUFFERS = 12
BUFFER_SIZE = 127 - 2 - 15
FIRST_SIZE = BUFFER_SIZE + 38
_SENDERS = 16
_SEQUENCE_AGE = 20.0


@dataclass(slots=True, eq=False)
class _Context:
    source: bytes
    tag: int
    size: int
    since: float
    first: lowpan.First
    number: int
    reassembled: int
    #: (offset in the datagram, octets, frame number), in the order of the buffers.
    parts: list[tuple[int, bytes, int]] = field(default_factory=list)


class Contiki:
    """See the module. Its memory is static; `used` is the part that holds something."""

    bound = CONTEXTS * FIRST_SIZE + BUFFERS * BUFFER_SIZE

    def __init__(self, settings: Settings, fmt: Format) -> None:
        self.counters: Counter[str] = Counter()
        self._fmt = fmt
        self._contexts: list[_Context] = []
        self._sequences: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    @property
    def used(self) -> int:
        """See `Defence`."""
        return len(self._contexts) * FIRST_SIZE + self._buffers * BUFFER_SIZE

    @property
    def _buffers(self) -> int:
        return sum(len(context.parts) for context in self._contexts)

    def trust(self, eui: bytes) -> float | None:
        """See `Defence`: none."""
        return None

    def answered(self, delivered: Delivered, *, opens: bool) -> None:
        """See `Defence`: nobody listens."""

    def tick(self, now: float) -> None:
        """See `Defence`: it has no timer of its own."""

    def receive(self, number: int, frame: bytes, now: float) -> Fate:
        """See `Defence`."""
        mac = data_frame(frame)
        part = fragment(mac.payload) if mac is not None else None
        if mac is None or part is None:
            return self._refuse("malformed")
        assert mac.src is not None
        if self._repeated(mac.src, mac.seq or 0, now):
            return self._refuse("duplicate")
        if part.first:
            first = first_headers(mac.payload, mac)
            if first is None:
                return self._refuse("malformed")
            self._expire(now, None)
            if len(self._contexts) >= CONTEXTS:
                return self._refuse("no-context")
            octets = UDP_OFFSET + len(first.udp_payload_slice)
            self._contexts.append(_Context(mac.src, part.tag, part.size, now, first, number, octets))
            return Fate(len(part.data))
        found = [c for c in self._contexts if c.tag == part.tag and c.source == mac.src]
        if not found:
            return self._refuse("no-context")
        context = found[0]
        if self._buffers >= BUFFERS and not self._expire(now, context):
            return self._refuse("no-buffer")
        context.parts.append((part.offset, part.data, number))
        context.reassembled += len(part.data)
        if part.offset + len(part.data) > MTU:
            # Noticed only once it is stored and counted.
            return self._refuse("beyond-buffer", len(part.data))
        # The size is the one this fragment names.
        if context.reassembled < part.size:
            return Fate(len(part.data))
        self._contexts.remove(context)
        return self._complete(context, part.size, len(part.data))

    def _complete(self, context: _Context, size: int, stored: int) -> Fate:
        first = context.first
        datagram = bytearray(MTU + BUFFER_SIZE)
        datagram[UDP_OFFSET : UDP_OFFSET + len(first.udp_payload_slice)] = first.udp_payload_slice
        for offset, data, _ in context.parts:
            datagram[offset : offset + len(data)] = data
        payload = bytes(datagram[UDP_OFFSET:size])
        if not checksum_is_good(first, payload):
            self.counters["bad-checksum"] += 1
            return Fate(stored)
        parts = [first.udp_payload_slice, *(data for _, data, _ in sorted(context.parts))]
        numbers = (context.number, *(number for _, _, number in context.parts))
        return Fate(stored, None, (Delivered(context.source, self._fmt.message_of(payload, parts), numbers),))

    def _expire(self, now: float, keep: _Context | None) -> int:
        old = [c for c in self._contexts if c is not keep and now - c.since >= TIMEOUT]
        self._contexts = [c for c in self._contexts if c not in old]
        self.counters["expired"] += len(old)
        return sum(len(context.parts) for context in old)

    def _repeated(self, source: bytes, sequence: int, now: float) -> bool:
        last = self._sequences.get(source)
        self._sequences[source] = (sequence, now)
        self._sequences.move_to_end(source)
        if len(self._sequences) > _SENDERS:
            self._sequences.popitem(last=False)
        return last is not None and last[0] == sequence and now - last[1] <= _SEQUENCE_AGE

    def _refuse(self, reason: str, stored: int = 0) -> Fate:
        self.counters[reason] += 1
        return Fate(stored, reason)
