"""The shared channel: who transmits next, how long it takes, and who hears it. Pure: time is passed in,
frames are opaque bytes.

One 802.15.4 channel. Every node has a bounded queue of its own, served in order. When the channel falls free,
the nodes with something to send contend: after a back-off one of them wins, at random, in proportion to its
weight (1 for a node that keeps to CSMA-CA; more for one that cheats). A frame then takes `6 + its length`
bytes (preamble, SFD, PHY header) at the rate of the moment, and the spaces around it (IEEE 802.15.4 §8.1,
O-QPSK, 4 bits a symbol) shrink and grow with that rate:

    back-off 0..7 slots of 20 symbols | frame | turnaround 12 symbols + 11 bytes of ack, if one is asked
    for | LIFS 40 symbols

Every other node hears each transmission or loses it by its own fading (`lab.sim.loss`). A frame that asks for
an ack is sent again, up to `MAX_RETRIES` times and in a new contention each time, until the node it is
addressed to has heard it. A node is handed a frame once, however often it heard it (receivers drop repeated
sequence numbers). Acks themselves are not lost: nothing here sends a frame again that was heard.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lab.sim.loss import GilbertElliott, LossModel

N = TypeVar("N", bound=Hashable)

MAX_RETRIES = 3  # macMaxFrameRetries
_PHY_BYTES = 6
_ACK_BITS = 12 * 4 + 11 * 8
_LIFS_BITS = 40 * 4
_SLOT_BITS = 20 * 4
_SLOTS = 8


@dataclass(frozen=True)
class Addressed:
    """What the medium must know of a frame.

    Who it is for and who it says it is from (None: nobody in particular).
    """

    destination: bytes | None
    source: bytes | None
    ack: bool


@dataclass
class Flight(Generic[N]):
    """A frame from its first transmission to its last."""

    number: int
    node: N
    frame: bytes
    to: Addressed
    attempts: int = 0
    heard: set[N] = field(default_factory=set)
    #: The addressed node heard it. None if there is none (broadcast, or an address no node has used yet).
    delivered: bool | None = None


@dataclass(frozen=True)
class Heard(Generic[N]):
    """One transmission's end.

    The flight, which transmission of it this was (1 is the first), whether the addressed node had heard it by
    then, the nodes that are to be handed the frame now, and whether it was the flight's last.
    """

    at: float
    flight: Flight[N]
    attempt: int
    delivered: bool | None
    receivers: tuple[N, ...]
    last: bool


@dataclass
class _Node(Generic[N]):
    weight: float
    honest: bool
    fading: GilbertElliott
    queue: deque[Flight[N]]


class Medium(Generic[N]):
    """One channel and its nodes.

    Args:
        rate: kb/s at a time in seconds; must be > 0.
        loss: how each receiver fades.
        seed: of fading, back-off and contention.
        queue: frames a node may have waiting; more are refused and counted as `queue-full`.
        max_nodes: nodes that may join.
    """

    def __init__(
        self,
        rate: Callable[[float], float],
        loss: LossModel,
        seed: int,
        *,
        queue: int = 64,
        max_nodes: int = 256,
    ) -> None:
        self._rate = rate
        self._loss = loss
        self._seed = seed
        self._rng = random.Random(f"medium {seed}")
        self._queue = queue
        self._max_nodes = max_nodes
        self._nodes: dict[N, _Node[N]] = {}
        self._owner: dict[bytes, N] = {}
        self._flights = 0
        self._on_air: Flight[N] | None = None
        self._due: float | None = None  # when the transmission ends, or the contention is decided
        self._free_at = 0.0
        self.counters: Counter[str] = Counter()

    def join(self, node: N, now: float, *, weight: float = 1.0, honest: bool = True) -> bool:
        """Make `node` known.

        Addresses are only ever learned from honest nodes. False if there are too many.
        """
        if node in self._nodes:
            return True
        if len(self._nodes) >= self._max_nodes:
            self.counters["too-many-nodes"] += 1
            return False
        rng = random.Random(f"fading {self._seed} {len(self._nodes)}")
        self._nodes[node] = _Node(weight, honest, GilbertElliott(self._loss, rng, now), deque())
        return True

    def offer(self, node: N, frame: bytes, to: Addressed, now: float) -> bool:
        """Queue a frame of a node that has joined. False if its queue is full (the frame is dropped)."""
        sender = self._nodes[node]
        if len(sender.queue) >= self._queue:
            self.counters["queue-full"] += 1
            return False
        if sender.honest and to.source is not None:
            self._owner[to.source] = node
        self._flights += 1
        sender.queue.append(Flight(self._flights, node, frame, to))
        if self._due is None:
            self._contend(max(now, self._free_at))
        return True

    @property
    def due(self) -> float | None:
        """When `step` is to be called next; None while there is nothing to send."""
        return self._due

    @property
    def waiting(self) -> int:
        """Frames in all queues and on the air."""
        return sum(len(node.queue) for node in self._nodes.values())

    def step(self, now: float) -> list[Heard[N]]:
        """Do what is due by `now`: transmissions that ended, in order."""
        ended = []
        while self._due is not None and self._due <= now:
            at = self._due
            if self._on_air is None:
                self._transmit(at)
            else:
                ended.append(self._finish(at))
        return ended

    def _contend(self, at: float) -> None:
        self._on_air = None
        self._due = at + self._rng.randrange(_SLOTS) * self._seconds(_SLOT_BITS, at)

    def _transmit(self, at: float) -> None:
        ready = [node for node in self._nodes.values() if node.queue]
        winner = self._rng.choices(ready, [node.weight for node in ready])[0]
        flight = winner.queue[0]
        flight.attempts += 1
        self._on_air = flight
        self._due = at + self._seconds((_PHY_BYTES + len(flight.frame)) * 8, at)

    def _finish(self, at: float) -> Heard[N]:
        flight = self._on_air
        assert flight is not None
        heard = {
            name
            for name, node in self._nodes.items()
            if name != flight.node and name not in flight.heard and not node.fading.lost(at)
        }
        flight.heard |= heard
        acked = self._acked(flight)
        again = flight.to.ack and not acked and flight.attempts <= MAX_RETRIES
        if not again:
            self._nodes[flight.node].queue.popleft()
            self.counters["frames"] += 1
            self.counters["retries"] += flight.attempts - 1
            self.counters["undelivered"] += flight.delivered is False
        self._free_at = at + self._seconds(_LIFS_BITS + (_ACK_BITS if flight.to.ack else 0), at)
        self._on_air = self._due = None
        if any(node.queue for node in self._nodes.values()):
            self._contend(self._free_at)
        return Heard(at, flight, flight.attempts, flight.delivered, tuple(sorted(heard, key=repr)), not again)

    def _acked(self, flight: Flight[N]) -> bool:
        if flight.to.destination is None:
            return False
        owner = self._owner.get(flight.to.destination)
        if owner is not None and owner != flight.node:
            flight.delivered = owner in flight.heard
            return flight.delivered
        # Nobody has spoken under this address yet: whoever it is, it is honest and may have heard.
        return any(self._nodes[name].honest for name in flight.heard)

    def _seconds(self, bits: int, at: float) -> float:
        return bits / (self._rate(at) * 1000)
