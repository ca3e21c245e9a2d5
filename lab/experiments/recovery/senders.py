"""The ways to get one datagram across: RFC 8931, and RFC 4944 that sends all of it again.

RFC 4944 has no acknowledgements. Its sender is told by a genie, at once and at no airtime, whether the
gateway has the datagram; a real one waits for an answer, and repeats itself when only that was lost.
"""

from collections.abc import Callable
from typing import Protocol

from gateway.downlink import FIRST_ROOM, SINGLE_ROOM, SLICE_ROOM
from lab.experiments.attack.clock import Clock
from lab.experiments.attack.formats import GATEWAY, PAN, Member, Message
from lab.experiments.attack.radio import Sent
from lab.experiments.recovery.station import Station
from security import chain
from wire import eui64, lowpan
from wire.ieee802154 import FrameKind, MacFrame
from wire.message import PORT, FirstSlice, Kind, datagram_tag, octet0
from wire.recovery_sender import Progress, RecoverySender
from wire.rfrag import RfragAck

#: Whole-datagram retries of RFC 4944.
RETRIES = 3
#: Counters that a datagram has for itself: retries under new ones are `rfc4944-anew`.
COUNTERS = RETRIES + 1
#: s that an RFRAG-ACK is waited for.
ACK_WAIT_TIME = 0.1


def slices_of(member: Member, message: Message) -> list[bytes]:
    """The message's slices of UDP payload, as the device cuts them."""
    return chain.make(
        member.keys.frag_up,
        member.eui,
        eui64.link_local(member.eui),
        eui64.link_local(GATEWAY),
        octet0=octet0(Kind.DATA, 0),
        counter=message.counter,
        sealed=message.sealed,
        single_room=SINGLE_ROOM,
        first_room=FIRST_ROOM,
        slice_room=SLICE_ROOM,
    )


def cut_of(slices: list[bytes]) -> tuple[int, int]:
    """Octets of the first slice, and of each later one."""
    return len(slices[0]), 8 * FirstSlice.parse(slices[0], sum(map(len, slices))).step


def frame_of(member: Member, payload: bytes) -> Sent:
    """A frame of the device around a 6LoWPAN payload, with the next sequence number."""
    member.sequence = (member.sequence + 1) & 0xFF
    frame = MacFrame(FrameKind.DATA, member.sequence, PAN, GATEWAY, member.eui, payload, True, version=1)
    return Sent(frame.emit(), payload, member.eui)


class Sender(Protocol):
    """One datagram on its way."""

    def start(self) -> None: ...

    def on_ack(self, ack: RfragAck) -> None:
        """An RFRAG-ACK was heard."""


class Plain:
    """RFC 4944: all frames, and all again while the genie says so.

    Args:
        anew: each retry is a datagram of its own, with a new tag, as other stacks do it: nothing of those
            before counts.
        there: the genie: whether the gateway has the datagram.
        done: called at the end.
    """

    def __init__(
        self,
        station: Station,
        member: Member,
        message: Message,
        there: Callable[[], bool],
        done: Callable[[], None],
        *,
        anew: bool = False,
        retries: int = RETRIES,
    ) -> None:
        self._station = station
        self._member = member
        self._message = message
        self._there = there
        self._done = done
        self._anew = anew
        self._retries = retries
        self._attempt = 0

    def start(self) -> None:
        """See `Sender`."""
        counter = self._message.counter + (self._attempt if self._anew else 0)
        slices = slices_of(self._member, Message(counter, self._message.sealed))
        payload = b"".join(slices)
        frames = lowpan.udp_frames(
            self._member.eui,
            GATEWAY,
            PORT,
            PORT,
            payload,
            datagram_tag(counter),
            0,
            PAN,
            *cut_of(slices),
        )
        for frame in frames[:-1]:
            self._station.send(frame_of(self._member, frame.payload))
        self._station.send(frame_of(self._member, frames[-1].payload), self._sent)

    def on_ack(self, ack: RfragAck) -> None:
        """See `Sender`: not spoken."""

    def _sent(self) -> None:
        if self._there() or self._attempt == self._retries:
            self._done()
            return
        self._attempt += 1
        self.start()


class Recovering:
    """RFC 8931, as `wire.recovery_sender` decides; RFC 4944 once where that falls back.

    Args:
        done: called at the end.
        fell_back: called when it falls back.
    """

    def __init__(
        self,
        clock: Clock,
        station: Station,
        member: Member,
        message: Message,
        done: Callable[[], None],
        fell_back: Callable[[], None] = lambda: None,
        window: int = 32,
    ) -> None:
        self._clock = clock
        self._station = station
        self._member = member
        self._message = message
        self._done = done
        self._fell_back = fell_back
        slices = slices_of(member, message)
        self._fragments = lowpan.recoverable(
            member.eui,
            GATEWAY,
            PORT,
            PORT,
            b"".join(slices),
            datagram_tag(message.counter),
            *cut_of(slices),
        )
        self._sender = RecoverySender(len(self._fragments), window)
        self._round = 0
        self._sending = False
        self._due = False
        self._over = False

    def start(self) -> None:
        """See `Sender`."""
        self._burst()

    def on_ack(self, ack: RfragAck) -> None:
        """See `Sender`."""
        if self._over or ack.tag != self._fragments[0].tag or not self._sender.on_ack(ack.bitmap):
            return
        if self._sending:
            self._due = True
        else:
            self._burst()

    def _burst(self) -> None:
        self._round += 1
        self._due = False
        burst = self._sender.burst()
        if not burst:
            self._over = True
            if self._sender.progress is Progress.DONE:
                self._done()
                return
            self._fell_back()
            Plain(self._station, self._member, self._message, lambda: True, self._done, retries=0).start()
            return
        self._sending = True
        for sequence, ack_request in burst:
            fragment = self._fragments[sequence]
            fragment.ack_request = ack_request
            sent = frame_of(self._member, fragment.emit())
            if ack_request:
                self._station.send(sent, self._sent)
            else:
                self._station.send(sent)

    def _sent(self) -> None:
        self._sending = False
        if self._due:
            self._burst()
        else:
            self._clock.after(ACK_WAIT_TIME, self._silence, self._round)

    def _silence(self, number: int) -> None:
        if not self._over and number == self._round and not self._sending:
            self._sender.on_silence()
            self._burst()
