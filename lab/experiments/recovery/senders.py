"""The ways to get one datagram across: RFC 8931, and RFC 4944 that sends all of it again.

RFC 4944 has no acknowledgements. Its sender is told by a genie, at once and at no airtime, whether the
gateway has the datagram; a real one waits for an answer, and repeats itself when only that was lost.
"""

import random
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
from wire.recovery_sender import SETTLE, Progress, RecoverySender
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

    def _sent(self, was_sent: bool) -> None:
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
        confirm_wait: s that something authenticated (`confirmed`) is waited for when all is said to be there;
            without it the other end is asked what it has, and after that gets all of it by RFC 4944, twice.
            None: an RFRAG-ACK is believed.
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
        confirm_wait: float | None = None,
    ) -> None:
        self._clock = clock
        self._station = station
        self._member = member
        self._message = message
        self._done = done
        self._fell_back = fell_back
        self._window = window
        self._confirm_wait = confirm_wait
        self._rng = random.Random(f"waits {member.number} {message.counter}")
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
        self._retries = 0
        self._sending = False
        self._said = False
        self._halted = False
        self._over = False
        self._listening: float | None = None

    def start(self) -> None:
        """See `Sender`."""
        self._burst()

    def on_ack(self, ack: RfragAck) -> None:
        """See `Sender`."""
        if self._over or ack.tag != self._fragments[0].tag or not self._sender.on_ack(ack.bitmap):
            return
        first, self._said = not self._said, True
        if first and not self._sending and not self._halted:
            self._clock.after(SETTLE, self._settle, self._round)

    def confirmed(self) -> None:
        """Something authenticated said that the datagram is there."""
        if not self._over:
            self._end()

    def _end(self) -> None:
        self._heard()
        self._over = True
        self._done()

    def _heard(self) -> None:
        """The radio no longer waits for an RFRAG-ACK."""
        if self._listening is not None:
            self._station.meter.rx += self._clock.now - self._listening
            self._listening = None

    def _burst(self) -> None:
        self._heard()
        self._round += 1
        self._said = False
        burst = self._sender.burst()
        if not burst:
            self._halt()
            return
        self._sending = True
        for sequence, ack_request in burst:
            fragment = self._fragments[sequence]
            fragment.ack_request = ack_request
            sent = frame_of(self._member, fragment.emit())
            self._station.send(sent, self._last_sent if ack_request else self._one_sent)

    def _one_sent(self, was_sent: bool) -> None:
        """A full channel ends a burst: what follows would only make it fuller."""
        if not was_sent:
            self._station.drop()
            self._last_sent(was_sent)

    def _last_sent(self, was_sent: bool) -> None:
        self._sending = False
        if self._over:
            return
        self._listening = self._clock.now
        # Not equally long on two devices that collided.
        wait = ACK_WAIT_TIME * self._sender.patience * self._rng.uniform(0.75, 1.25)
        self._clock.after(SETTLE if self._said and was_sent else wait, self._settle, self._round)

    def _settle(self, number: int) -> None:
        if not self._over and number == self._round and not self._sending and not self._halted:
            self._sender.settle()
            self._burst()

    def _halt(self) -> None:
        """Nothing more to send: it is said to be there, or recovery does not get it there."""
        self._halted = True
        if self._sender.progress is Progress.DONE:
            self._confirm()
        else:
            self._fell_back()
            self._plainly()

    def _plainly(self) -> None:
        """All of it by RFC 4944."""
        Plain(self._station, self._member, self._message, lambda: True, self._confirm, retries=0).start()

    def _confirm(self) -> None:
        if self._over:
            return
        if self._confirm_wait is None:
            self._end()
            return
        wait = self._confirm_wait * self._rng.uniform(0.75, 1.25) * (1 << self._retries)
        self._clock.after(wait, self._doubt, self._round)

    def _doubt(self, number: int) -> None:
        if self._over or number != self._round:
            return
        self._retries += 1
        if self._retries > RETRIES:
            self._end()
        elif self._retries == 1:
            self._halted = False
            self._sender = RecoverySender(len(self._fragments), self._window, probe=True)
            self._burst()
        else:
            self._round += 1
            self._plainly()
