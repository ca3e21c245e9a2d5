"""A flood in the process: 10,000 forged frames/s, and twenty devices that go on sending.

Time is simulated, so nothing is dropped for want of processor; `cpu_share` is what of one core the flood
and the messages took. Half of the forged frames are first fragments from enrolled addresses; the others aim
later fragments at the datagrams under way, overtake them, come from strangers, or are broken.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gateway.admission import Limits
from gateway.events import Accepted
from gateway.receiver import Receiver
from lab.experiments.attack.defences.slimwire import memory_for
from lab.experiments.attack.formats import GATEWAY, SITE, Manifest, Member, Message
from security.chain import KeyedChain
from security.registry import Device, GatewayRegistry
from security.trust import PredictiveTrust
from wire import frag
from wire.ieee802154 import MacFrame
from wire.message import datagram_tag

RATE = 10_000  # forged frames/s
DEVICES = 20
#: A device sends a message of four frames every second, a frame every 100 ms.
_GAP = 0.1
_SEALED = 340
#: Forged frames made in advance; which of them comes next is random.
_MADE = 4000


class Result(NamedTuple):
    """What a flood did. `growth_bytes`: of the process' resident memory, after the first tenth."""

    forged: int
    datagrams: int
    completed: int
    forged_accepted: int
    peak_bytes: int
    bound_bytes: int
    growth_bytes: int
    cpu_share: float


def measure(seconds: float, seed: int = 1) -> Result:
    """Flood for `seconds` of simulated time (more than 1)."""
    rng = random.Random(f"flood {seed}")
    members = [Member(number) for number in range(1, DEVICES + 1)]
    devices = {m.eui: Device(m.eui, str(m.number), {0: m.keys}) for m in members}
    limits = Limits(memory=memory_for(DEVICES))
    registry = GatewayRegistry(GATEWAY, SITE, devices=devices)
    receiver = Receiver(registry, KeyedChain(), PredictiveTrust(), limits)
    flood = _forged(members, rng)
    schedule = _Schedule(members, rng)
    completed = forged_accepted = peak = 0
    count = int(seconds * RATE)
    settled = 0
    began = time.process_time()
    for n in range(count):
        now = n / RATE
        for frame in schedule.due(now):
            for event in receiver.on_frame(frame, now):
                if isinstance(event, Accepted):
                    genuine = schedule.sent.pop((event.device, event.counter), None) == event.sealed
                    completed += genuine
                    forged_accepted += not genuine
                    receiver.mark_used(event.device, event.epoch, event.counter)
        target = schedule.open[n % DEVICES]
        frame = _aimed(target, rng) if target is not None and n % 8 == 1 else next(flood)
        forged_accepted += any(isinstance(event, Accepted) for event in receiver.on_frame(frame, now))
        peak = max(peak, receiver.memory_used)
        if n % RATE == 0:
            receiver.tick(now)
        if n == count // 10:
            settled = resident()
    share = (time.process_time() - began) / seconds
    return Result(
        count,
        schedule.finished,
        completed,
        forged_accepted,
        peak,
        receiver.memory_bound,
        resident() - settled,
        round(share, 3),
    )


class _Schedule:
    """The devices' genuine frames, when they are due.

    Attributes:
        sent: sealed bytes under way or lost, by (device, counter).
        open: per device, a genuine later frame of its datagram under way.
        finished: datagrams whose last frame was handed out.
    """

    def __init__(self, members: list[Member], rng: random.Random) -> None:
        self.sent: dict[tuple[bytes, int], bytes] = {}
        self.open: list[bytes | None] = [None] * len(members)
        self.finished = 0
        self._members = members
        self._rng = rng
        self._fmt = Manifest()
        self._counter = 0
        self._frames: list[list[bytes]] = [[] for _ in members]
        self._next = [i / len(members) for i in range(len(members))]
        self._first_due = 0.0

    def due(self, now: float) -> Iterator[bytes]:
        """Frames to be heard now."""
        if now < self._first_due:
            return
        for i, at in enumerate(self._next):
            if at > now:
                continue
            if not self._frames[i]:
                self._begin(i)
            yield self._frames[i].pop(0)
            left = self._frames[i]
            self.open[i] = left[0] if left else None
            self.finished += not left
            # The pause makes it a second from message to message.
            self._next[i] = at + (_GAP if left else 1.0 - 3 * _GAP)
        self._first_due = min(self._next)

    def _begin(self, i: int) -> None:
        self._counter += 1
        member = self._members[i]
        message = Message(self._counter, self._rng.randbytes(_SEALED))
        self.sent[member.eui, message.counter] = message.sealed
        pieces = self._fmt.pieces(member, message)
        self._frames[i] = [self._fmt.frame(member, piece).frame for piece in pieces]


def _aimed(genuine: bytes, rng: random.Random) -> bytes:
    """A later fragment at the place of a genuine one that is still to come, with other octets."""
    mac = MacFrame.parse(genuine)
    head = mac.payload[: frag.FRAGN_SIZE]
    return replace(mac, payload=head + rng.randbytes(len(mac.payload) - len(head))).emit()


def _forged(members: list[Member], rng: random.Random) -> Iterator[bytes]:
    """Without end: four first fragments of enrolled addresses for three frames of other kinds."""
    fmt = Manifest()
    firsts, others = [], []
    for n in range(_MADE):
        source = rng.choice(members).eui
        pieces = fmt.counterfeit(source, datagram_tag(rng.randrange(1 << 32)), rng.randrange(200, 1100), rng)
        firsts.append(fmt.frame_of_stranger(source, pieces[0], rng).frame)
        if n % 3 == 0:
            others.append(fmt.frame_of_stranger(source, pieces[1], rng).frame)
        elif n % 3 == 1:
            others.append(fmt.frame_of_stranger(b"\x02" + rng.randbytes(7), pieces[0], rng).frame)
        else:
            broken = pieces[0][: rng.randrange(1, 30)] + rng.randbytes(rng.randrange(60))
            others.append(fmt.frame_of_stranger(source, broken, rng).frame)
    while True:
        for kind in (firsts, others, firsts, others, firsts, others, firsts):
            yield rng.choice(kind)


def resident() -> int:
    """Resident memory of this process, bytes (Linux; 0 elsewhere)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * 4096
