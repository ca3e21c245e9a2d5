"""The air's record: which genuine datagrams were open when an attacker's frame was on the air, and one line a
frame.

A datagram (source, destination, size, tag: RFC 4944 §5.3) is open from the moment the node it is addressed to
has heard a fragment of it that a genuine node sent, until that node has heard every byte of it, or for
`OPEN_SECONDS`. An attacker's fragment with the same four values in between was sent at an open datagram.

Lines are JSON objects:

    {"e": "frame", "t", "n", "forged", "bytes", "attempts", "delivered", "open", "src", "dst", "sha"}
    {"e": "rate", "t", "kbps", "waiting"}

the first when a frame's last transmission has ended (`sha`: the first 16 hex digits of the frame's SHA-256;
`src` and `dst`: link-layer addresses in hex, or null), the second twice a second. `t`: seconds since the air
began.
"""

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Any

from lab.sim.medium import Heard
from wire import lowpan
from wire.coverage import Coverage
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame
from wire.ipv6 import UDP_OFFSET

OPEN_SECONDS = 5.0
_MOST_OPEN = 1024
_MOST_COMPLETE = 4096
_MAX_HOLES = 64

Key = tuple[bytes, bytes, int, int]


@dataclass(frozen=True)
class Fragment:
    """Where a frame's octets of UDP payload belong."""

    key: Key
    offset: int
    length: int
    payload_length: int


def fragment_of(mac: MacFrame | None) -> Fragment | None:
    """The fragment that a data frame carries; None if it carries something else or nothing that parses."""
    if mac is None or mac.kind != FrameKind.DATA or mac.src is None or mac.dst is None:
        return None
    try:
        part = lowpan.parse(mac.payload, mac.src, mac.dst)
    except WireError:
        return None
    if isinstance(part, lowpan.Unfragmented):
        return None
    key = (mac.src, mac.dst, part.datagram_size, part.tag)
    length = part.datagram_size - UDP_OFFSET
    if isinstance(part, lowpan.First):
        return Fragment(key, 0, len(part.udp_payload_slice), length)
    return Fragment(key, part.udp_payload_offset, len(part.data), length)


class OpenDatagrams:
    """Genuine datagrams between their first fragment that was heard and their last.

    Times must not decrease.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Key, tuple[float, Coverage]] = OrderedDict()
        self._complete: OrderedDict[Key, None] = OrderedDict()

    def heard(self, fragment: Fragment, now: float) -> None:
        """The addressed node heard a genuine fragment."""
        self._expire(now)
        key = fragment.key
        if key in self._complete:
            return
        if key not in self._open:
            self._open[key] = (now, Coverage(fragment.payload_length, _MAX_HOLES))
        coverage = self._open[key][1]
        coverage.add(fragment.offset, fragment.length)
        if coverage.complete:
            del self._open[key]
            self._complete[key] = None
            if len(self._complete) > _MOST_COMPLETE:
                self._complete.popitem(last=False)

    def __contains__(self, fragment: Fragment | None) -> bool:
        """Whether the fragment claims to belong to an open datagram."""
        return fragment is not None and fragment.key in self._open

    def _expire(self, now: float) -> None:
        while self._open:
            key, (since, _) = next(iter(self._open.items()))
            if now - since <= OPEN_SECONDS and len(self._open) <= _MOST_OPEN:
                return
            del self._open[key]


class Record:
    """Writes the lines to `out` (binary; None: nothing is written)."""

    def __init__(self, out: IO[bytes] | None) -> None:
        self._out = out
        self._open = OpenDatagrams()

    def transmitted(self, heard: Heard[Any], *, forged: bool) -> None:
        """A transmission has ended.

        Keep track of open datagrams, and write a line after a frame's last one.
        """
        flight = heard.flight
        mac = mac_of(flight.frame)
        fragment = fragment_of(mac)
        at_open = forged and fragment in self._open
        if not forged and fragment is not None and heard.delivered is not False:
            self._open.heard(fragment, heard.at)
        if heard.last:
            self._line(
                {
                    "e": "frame",
                    "t": round(heard.at, 6),
                    "n": flight.number,
                    "forged": forged,
                    "bytes": len(flight.frame),
                    "attempts": heard.attempt,
                    "delivered": heard.delivered,
                    "open": at_open,
                    "src": mac.src.hex() if mac and mac.src else None,
                    "dst": mac.dst.hex() if mac and mac.dst else None,
                    "sha": frame_id(flight.frame),
                }
            )

    def rate(self, now: float, kbps: float, waiting: int) -> None:
        """The channel's rate and the number of waiting frames at a moment."""
        self._line({"e": "rate", "t": round(now, 3), "kbps": round(kbps, 1), "waiting": waiting})

    def _line(self, value: dict[str, Any]) -> None:
        if self._out is not None:
            self._out.write(json.dumps(value).encode() + b"\n")
            self._out.flush()


def mac_of(frame: bytes) -> MacFrame | None:
    """The frame taken apart, or None if it is none."""
    try:
        return MacFrame.parse(frame)
    except WireError:
        return None


def frame_id(frame: bytes) -> str:
    """What a frame goes by in records: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(frame).hexdigest()[:16]
