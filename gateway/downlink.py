"""Answers on their way to devices: message kind 1 under K_frag_dn, cut, sent with a gap between frames."""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.links.base import Link
from gateway.reasons import Reason
from security import chain
from wire import eui64, ieee802154, lowpan
from wire.errors import WireError
from wire.message import PORT, FirstSlice, FrameRooms, Kind, datagram_tag, octet0

#: Octets of UDP payload per frame between EUI-64s: unfragmented, first fragment, later fragment.
SINGLE_ROOM, FIRST_ROOM, SLICE_ROOM = FrameRooms.of(ieee802154.room(bytes(8), bytes(8)))


@dataclass(frozen=True)
class DownlinkLimits:
    """Bounds of the downlink. Times in s."""

    #: Pause between two frames, so that a device's receiver keeps up (RFC 8930 §3).
    gap: float = 0.002
    #: Answers waiting at most; beyond, the oldest is dropped as `downlink-full`.
    queue: int = 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """A sealed answer for a device, and what its frames need."""

    device: bytes
    epoch: int
    counter: int
    sealed: bytes
    pan: int
    k_frag_dn: bytes


def reply_frames(gateway: bytes, reply: Reply, seq: int) -> list[bytes]:
    """The frames, with FCS, that carry a reply; each asks for a link-layer ack.

    Args:
        gateway: the gateway's EUI-64.
        reply: what to send.
        seq: sequence number of the first frame.

    Raises:
        WireError: `too-large`: the sealed answer does not fit one datagram.
    """
    slices = chain.make(
        reply.k_frag_dn,
        reply.device,
        eui64.link_local(gateway),
        eui64.link_local(reply.device),
        octet0=octet0(Kind.REPLY, reply.epoch),
        counter=reply.counter,
        sealed=reply.sealed,
        single_room=SINGLE_ROOM,
        first_room=FIRST_ROOM,
        slice_room=SLICE_ROOM,
    )
    payload = b"".join(slices)
    cut: Sequence[int | None] = (None, None)
    if len(slices) > 1:
        cut = (len(slices[0]), 8 * FirstSlice.parse(slices[0], len(payload)).step)
    frames = lowpan.udp_frames(
        gateway,
        reply.device,
        PORT,
        PORT,
        payload,
        datagram_tag(reply.counter),
        seq,
        reply.pan,
        first_slice=cut[0],
        step=cut[1],
        ack_request=True,
    )
    return [frame.emit() for frame in frames]


class Downlink:
    """A bounded queue of replies, and the task that sends them.

    Args:
        link: carries the frames.
        limits: bounds.
        counters: where reasons are counted.
    """

    def __init__(self, link: Link, limits: DownlinkLimits, counters: Counter[str]) -> None:
        self._link = link
        self._limits = limits
        self._counters = counters
        self._queue: deque[tuple[bytes, Reply]] = deque()
        self._wake = asyncio.Event()
        self._seq = 0
        self.sent = 0
        self.frames = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, gateway: bytes, reply: Reply) -> None:
        """Queue a reply of the gateway with this EUI-64."""
        if len(self._queue) >= self._limits.queue:
            self._queue.popleft()
            self._counters[Reason.DOWNLINK_FULL] += 1
        self._queue.append((gateway, reply))
        self._wake.set()

    async def run(self) -> None:
        """Send replies until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                gateway, reply = self._queue.popleft()
                try:
                    frames = reply_frames(gateway, reply, self._seq)
                except WireError:
                    self._counters[Reason.DOWNLINK_UNROUTABLE] += 1
                    continue
                self._seq = self._seq + len(frames) & 0xFF
                self.sent += 1
                for frame in frames:
                    await self._link.send(frame)
                    self.frames += 1
                    await asyncio.sleep(self._limits.gap)
