"""Answers and custody acks on their way to devices: message kind 1 under K_frag_dn.

An answer is cut, and sent with a gap between frames to the same device. Custody acks are single frames; they
overtake answers, since a device holds its message until then.

An answer of several frames to a device that speaks selective recovery goes in recoverable fragments (RFC
8931): what its RFRAG-ACKs say is missing is sent again. They are hints; where they do not help, the answer
goes by RFC 4944. RFRAG-ACKs of the gateway's own go out before anything else: somebody waits for them.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.links.base import Link
from gateway.reasons import Reason
from security import chain, custody
from wire import eui64, ieee802154, lowpan
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame
from wire.message import PORT, FirstSlice, FrameRooms, Kind, datagram_tag, octet0
from wire.recovery_sender import SETTLE, Progress, RecoverySender
from wire.reply import CustodyStatus
from wire.rfrag import Rfrag, RfragAck

#: Octets of UDP payload per frame between EUI-64s: unfragmented, first fragment, later fragment.
SINGLE_ROOM, FIRST_ROOM, SLICE_ROOM = FrameRooms.of(ieee802154.room(bytes(8), bytes(8)))


#: Devices whose last frame is remembered.
_RESTING = 4096
#: Custody acks sent in a row before other tasks get their turn.
_BURST = 32


@dataclass(frozen=True)
class DownlinkLimits:
    """Bounds of the downlink. Times in s."""

    #: Pause between two frames, so that a device's receiver keeps up (RFC 8930 §3).
    gap: float = 0.002
    #: Answers waiting at most; beyond, the oldest is dropped as `downlink-full`.
    queue: int = 1024
    #: Whoever brings answers waits for room at most so long: custody acks go first, thousands of them after a
    #: burst; yet a radio that takes nothing holds up no uplink.
    patience: float = 2.0
    #: How long an RFRAG-ACK is waited for at first; twice as long after each silence, up to eight times.
    ack_wait: float = 0.25
    #: Answers under way in recoverable fragments at most; others go by RFC 4944.
    exchanges: int = 64
    #: RFRAG-ACKs of the gateway waiting at most; beyond, the oldest is not sent.
    acks: int = 256
    #: Custody acks waiting at most; beyond, the oldest is dropped as `downlink-full`: its device asks again.
    custody: int = 8192


@dataclass(frozen=True, slots=True)
class Reply:
    """A sealed answer for a device, and what its frames need."""

    device: bytes
    epoch: int
    counter: int
    sealed: bytes
    pan: int
    k_frag_dn: bytes
    #: Whether the device was heard to speak RFC 8931.
    recoverable: bool = False


@dataclass(frozen=True, slots=True)
class Ack:
    """A custody ack for a device, and what its frame needs."""

    device: bytes
    epoch: int
    counter: int
    status: CustodyStatus
    pan: int
    k_frag_dn: bytes


def ack_frame(gateway: bytes, ack: Ack) -> MacFrame:
    """The frame that carries a custody ack (docs/protocol.md, section 2.3); its sequence number is 0."""
    made = custody.make(
        ack.k_frag_dn, gateway, ack.device, epoch=ack.epoch, counter=ack.counter, status=ack.status
    )
    tag = datagram_tag(ack.counter)
    (frame,) = lowpan.udp_frames(
        gateway, ack.device, PORT, PORT, made.emit(), tag, 0, ack.pan, ack_request=True
    )
    return frame


def reply_frames(gateway: bytes, reply: Reply, seq: int) -> list[bytes]:
    """The frames, with FCS, that carry a reply; each asks for a link-layer ack.

    Args:
        gateway: the gateway's EUI-64.
        reply: what to send.
        seq: sequence number of the first frame.

    Raises:
        WireError: `too-large`: the sealed answer does not fit one datagram.
    """
    slices = _slices(gateway, reply)
    payload = b"".join(slices)
    cut: Sequence[int | None] = (None, None)
    if len(slices) > 1:
        cut = _cut(slices)
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


def reply_fragments(gateway: bytes, reply: Reply) -> list[Rfrag]:
    """The recoverable fragments of a reply; one, or none that would fit a frame, has no need of them.

    Raises:
        WireError: as `reply_frames`.
    """
    slices = _slices(gateway, reply)
    if len(slices) == 1:
        return []
    tag = datagram_tag(reply.counter)
    return lowpan.recoverable(gateway, reply.device, PORT, PORT, b"".join(slices), tag, *_cut(slices))


def _cut(slices: list[bytes]) -> tuple[int, int]:
    """Octets of the first slice, and of each later one."""
    return len(slices[0]), 8 * FirstSlice.parse(slices[0], sum(map(len, slices))).step


def _slices(gateway: bytes, reply: Reply) -> list[bytes]:
    return chain.make(
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


@dataclass(slots=True)
class _Exchange:
    """An answer under way in recoverable fragments.

    Attributes:
        heard: whether something was heard since the last burst began, that makes sense.
        due: when the next burst is; loop time, s.
    """

    gateway: bytes
    reply: Reply
    fragments: list[Rfrag]
    sender: RecoverySender
    heard: bool = False
    due: float = 0.0


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
        self._queue: deque[tuple[bytes, Reply] | Callable[[], None]] = deque()
        self._acks: deque[MacFrame] = deque(maxlen=limits.acks)
        self._custody: deque[tuple[bytes, Ack]] = deque()
        #: Until when a device's receiver is given time for the last frame; loop time, s.
        self._resting: dict[bytes, float] = {}
        self._exchanges: dict[tuple[bytes, int], _Exchange] = {}
        self._wake = asyncio.Event()
        #: Set whenever an answer leaves the queue.
        self._left = asyncio.Event()
        self._seq = 0
        self._between = self._burst = 0
        self.sent = 0
        self.frames = 0
        #: RFRAG-ACKs sent.
        self.acks = 0
        #: Custody acks sent, by status.
        self.custody: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._queue) + len(self._exchanges) + len(self._custody)

    def adjust(self, limits: DownlinkLimits) -> None:
        """Other bounds, from now on."""
        self._limits = limits

    async def room(self, answers: int) -> int:
        """Until so many more answers may wait; `limits.patience` s at most.

        Returns:
            How many may be brought: those, or as many as ever wait.
        """
        answers = min(answers, self._limits.queue)
        if len(self._queue) + answers > self._limits.queue:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.patience):
                    while len(self._queue) + answers > self._limits.queue:
                        self._left.clear()
                        await self._left.wait()
        return answers

    def put(self, gateway: bytes, reply: Reply) -> None:
        """Queue a reply of the gateway with this EUI-64."""
        while len(self._queue) >= self._limits.queue:
            oldest = self._queue.popleft()
            if callable(oldest):
                oldest()
                continue
            self._counters[Reason.DOWNLINK_FULL] += 1
        self._queue.append((gateway, reply))
        self._wake.set()

    def then(self, action: Callable[[], None]) -> None:
        """Do this when every reply queued until now has gone out, or was given up."""
        self._queue.append(action)
        self._wake.set()

    def promise(self, gateway: bytes, ack: Ack) -> None:
        """Queue a custody ack of the gateway with this EUI-64; it overtakes replies."""
        if len(self._custody) >= self._limits.custody:
            self._custody.popleft()
            self._counters[Reason.DOWNLINK_FULL] += 1
        self._custody.append((gateway, ack))
        self._wake.set()

    def acknowledge(self, gateway: bytes, device: bytes, pan: int, tag: int, bitmap: int) -> None:
        """Queue an RFRAG-ACK; it overtakes replies."""
        ack = RfragAck(tag, bitmap).emit()
        self._acks.append(MacFrame(FrameKind.DATA, 0, pan, device, gateway, ack, True, version=1))
        self._wake.set()

    def on_hint(self, device: bytes, tag: int, bitmap: int) -> None:
        """An RFRAG-ACK came in the name of a device; one about nothing under way is counted."""
        exchange = self._exchanges.get((device, tag))
        if exchange is None:
            self._counters[Reason.STRAY_ACK] += 1
        elif exchange.sender.on_ack(bitmap) and not exchange.heard:
            exchange.heard = True
            exchange.due = min(exchange.due, asyncio.get_running_loop().time() + SETTLE)
            self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            self._wake.clear()
            await self._send_acks()
            now = asyncio.get_running_loop().time()
            exchange = min(self._exchanges.values(), key=lambda one: one.due, default=None)
            if exchange is not None and exchange.due <= now:
                await self._go_on(exchange)
            elif self._queue:
                following = self._queue.popleft()
                self._left.set()
                if callable(following):
                    following()
                else:
                    await self._begin(*following)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), exchange.due - now if exchange else None)

    async def _begin(self, gateway: bytes, reply: Reply) -> None:
        key = (reply.device, datagram_tag(reply.counter) & 0xFF)
        try:
            fragments = reply_fragments(gateway, reply) if reply.recoverable else []
            if not fragments or (
                key not in self._exchanges and len(self._exchanges) >= self._limits.exchanges
            ):
                frames = reply_frames(gateway, reply, self._seq)
                self.sent += 1
                await self._send_plain(frames, reply.device)
                return
        except WireError:
            self._counters[Reason.DOWNLINK_UNROUTABLE] += 1
            return
        self.sent += 1
        # A second answer under this tag takes the place of the first: the device acts on one.
        self._exchanges[key] = _Exchange(gateway, reply, fragments, RecoverySender(len(fragments)))

    async def _go_on(self, exchange: _Exchange) -> None:
        """The next burst, or the end of it."""
        gateway, reply = exchange.gateway, exchange.reply
        if exchange.due:
            exchange.sender.settle()
        burst = exchange.sender.burst()
        if not burst:
            fell_back = exchange.sender.progress is Progress.FALLBACK
            del self._exchanges[(reply.device, exchange.fragments[0].tag)]
            if fell_back:
                await self._send_plain(reply_frames(gateway, reply, self._seq), reply.device)
            return
        exchange.heard, exchange.due = False, float("inf")
        for sequence, ack_request in burst:
            fragment = exchange.fragments[sequence]
            fragment.ack_request = ack_request
            frame = MacFrame(
                FrameKind.DATA, self._seq, reply.pan, reply.device, gateway, fragment.emit(), True, version=1
            )
            await self._send_frame(frame.emit(), reply.device)
        wait = SETTLE if exchange.heard else self._limits.ack_wait * exchange.sender.patience
        exchange.due = asyncio.get_running_loop().time() + wait

    async def _send_plain(self, frames: list[bytes], device: bytes) -> None:
        for frame in frames:
            await self._send_frame(frame, device)

    async def _send_frame(self, frame: bytes, device: bytes) -> None:
        await self._rest(device)
        self._seq = self._seq + 1 & 0xFF
        await self._link.send(frame)
        self.frames += 1
        await self._send_acks()

    async def _rest(self, device: bytes) -> None:
        """Wait until this device's receiver had its time for the frame before; the others go on."""
        loop = asyncio.get_running_loop()
        resting = self._resting
        while (left := resting.get(device, 0.0) - loop.time()) > 0:
            await asyncio.sleep(left)
            await self._send_acks()
        if len(resting) >= _RESTING:
            resting.clear()
        resting[device] = loop.time() + self._limits.gap

    async def _send_acks(self) -> None:
        while self._acks or self._custody:
            if self._acks:
                frame = self._acks.popleft()
                self.acks += 1
            else:
                gateway, ack = self._custody.popleft()
                frame = ack_frame(gateway, ack)
                self.custody[ack.status.name.lower()] += 1
                self._resting[ack.device] = asyncio.get_running_loop().time() + self._limits.gap
            # Never the number of a frame before or after it: a radio must not take one for a copy.
            self._between = self._between + 1 & 127
            frame.seq = self._seq + 64 + self._between & 0xFF
            await self._link.send(frame.emit())
            self._burst += 1
            if self._burst % _BURST == 0:
                await asyncio.sleep(0)
