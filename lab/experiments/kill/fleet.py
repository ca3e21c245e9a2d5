"""Devices that offer messages at a steady rate, keep each until custody, and hear what comes back.

Each works as the firmware does: one message at a time, sent again until the gateway has committed it; a
refusal as `full` makes it wait and try again. What falls due meanwhile waits. All of them share one thread.
"""

import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

from lab.experiments.kill.air import Air
from lab.experiments.kill.node import GATEWAY, Node
from security import custody
from security.chain import KeyedChain
from wire import eui64
from wire.message import PORT, FirstSlice
from wire.reply import Custody, CustodyStatus, is_custody

#: s until a message is sent again; doubled up to the longest, spread by a fifth.
_PATIENCE, _LONGEST = 0.3, 1.2
#: s that a device waits after `full`.
_FULL_PAUSE = 0.5

Name = tuple[bytes, int]


@dataclass
class Heard:
    """What the fleet knows in the end.

    Attributes:
        sent: messages put on the air at least once.
        acked: those that the gateway said it has committed, and when the first ack came, monotonic s.
        answers: the different sealed answers that opened, by message.
        answered_at: when answers came that had not come before, monotonic s, in order.
        statuses: custody acks by status. forged: replies that did not verify.
    """

    sent: set[Name] = field(default_factory=set)
    acked: dict[Name, float] = field(default_factory=dict)
    answers: dict[Name, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    answered_at: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    forged: int = 0


class _Device:
    def __init__(self, node: Node, due: float) -> None:
        self.node = node
        self.due = due
        self.counter = 0
        self.slices: list[bytes] = []
        self.attempts = 0
        self.again = 0.0

    @property
    def busy(self) -> bool:
        return bool(self.slices)


class Fleet:
    """Runs in a thread of its own from `start` to `stop`.

    Args:
        air: how to reach the gateway.
        nodes: the devices.
        plaintexts: what they send, in turn.
        rate: messages/s of all of them together.
        seed: of what is random.
    """

    def __init__(self, air: Air, nodes: list[Node], plaintexts: list[bytes], rate: float, seed: int) -> None:
        self.heard = Heard()
        self._air = air
        self._period = len(nodes) / rate
        begin = time.monotonic()
        self._devices = {
            node.eui: _Device(node, begin + self._period * i / len(nodes)) for i, node in enumerate(nodes)
        }
        self._plaintexts = plaintexts
        self._rng = random.Random(f"fleet {seed}")
        self._chain = KeyedChain()
        self._offering, self._ending = True, False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def pause(self) -> None:
        """Begin no new message; those under way are seen through."""
        self._offering = False

    @property
    def waiting(self) -> int:
        """Devices that still wait for custody of a message."""
        if self._error is not None:
            raise self._error
        return sum(device.busy for device in self._devices.values())

    def stop(self) -> Heard:
        """End the thread; what it heard."""
        self._ending = True
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.heard

    def _run(self) -> None:
        try:
            while not self._ending:
                now = time.monotonic()
                self._transmit(now)
                for eui, payload in self._air.receive(0.005):
                    device = self._devices.get(eui)
                    if device is not None:
                        self._reply(device, payload, time.monotonic())
        except BaseException as error:  # noqa: BLE001  (raised again in whoever waits for the fleet)
            self._error = error

    def _transmit(self, now: float) -> None:
        for device in self._devices.values():
            if not device.busy and self._offering and device.due <= now:
                device.due += self._period
                self._begin(device)
            if device.busy and device.again <= now:
                self._air.transmit(device.node, device.counter, device.slices)
                self.heard.sent.add((device.node.eui, device.counter))
                patience = min(_LONGEST, _PATIENCE * 2.0**device.attempts)
                device.again = now + patience * self._rng.uniform(0.8, 1.2)
                device.attempts += 1

    def _begin(self, device: _Device) -> None:
        device.counter += 1
        plaintext = self._plaintexts[(device.counter * 7 + device.node.number) % len(self._plaintexts)]
        device.slices = device.node.slices(device.counter, device.node.seal(device.counter, plaintext))
        device.attempts, device.again = 0, 0.0

    def _reply(self, device: _Device, payload: bytes, now: float) -> None:
        node = device.node
        if is_custody(payload):
            ack = Custody.parse(payload)
            if not custody.verify(node.keys.frag_dn, GATEWAY, node.eui, ack):
                self.heard.forged += 1
                return
            self.heard.statuses[CustodyStatus(ack.status).name.lower()] += 1
            if ack.status in (CustodyStatus.COMMITTED, CustodyStatus.ALREADY):
                self.heard.acked.setdefault((node.eui, ack.counter), now)
                if ack.counter == device.counter:
                    device.slices = []
            elif ack.counter == device.counter:
                device.again = now + _FULL_PAUSE * self._rng.uniform(0.8, 1.2)
            return
        first = FirstSlice.parse(payload, len(payload))
        addresses = (eui64.link_local(GATEWAY), eui64.link_local(node.eui))
        if not self._chain.verify_first(node.keys.frag_dn, addresses, (PORT, PORT), len(payload), first):
            self.heard.forged += 1
            return
        node.open(first.counter, first.sealed)
        known = self.heard.answers[node.eui, first.counter]
        if not known:
            self.heard.answered_at.append(now)
        known.add(first.sealed)
