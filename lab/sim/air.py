"""The emulated radio as a process: ZEP in, the medium, ZEP out (like RIOT's zep_dispatch, with a channel in
between).

It binds two UDP ports and prints `{"port", "attacker_port"}` on stdout once it listens. A node is whoever
sends to one of them: any datagram registers it (an empty one, or a ZEP ack, does nothing else), a ZEP packet
puts its frame on the air. Nodes on the attacker port are attackers: they take part in everything, but the
record knows their frames as such, no address is learned from them, and `attacker_weight` says how much harder
than CSMA-CA allows they contend.

The trace starts with the first frame. Captures have link type 195 (802.15.4 with FCS), hold each frame once,
with the time at which its first transmission ended, however often the link layer repeated it; and an acked
frame is in them although its ack is not. `pcap_legit` leaves out the attackers' frames.

Run it with `python -m lab.sim.air '<settings as JSON>'`; the fields are those of `Settings`. SIGTERM ends it.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from lab.sim import trace as traces
from lab.sim.loss import LossModel
from lab.sim.medium import Addressed, Heard, Medium
from lab.sim.record import Record
from slimwire.errors import SlimwireError
from wire.errors import WireError
from wire.ieee802154 import MAX_FRAME, MacFrame
from wire.pcap import IEEE802154_WITH_FCS
from wire.pcap import Writer as PcapWriter
from wire.zep import ZepAck, ZepFrame

Address = tuple[str, int]
#: A node: whether it is honest, and its address.
Node = tuple[bool, Address]

_RATE_EVERY = 0.5


@dataclass(frozen=True)
class Settings:
    """What the air is told. Rates in kb/s, times in seconds; paths are written anew, "" = not wanted."""

    trace: str
    seed: int
    seconds: float = 30.0
    low: float = 60.0
    high: float = 250.0
    speed: float = 4.0
    loss: LossModel = field(default_factory=LossModel)
    attacker_weight: float = 8.0
    host: str = "127.0.0.1"
    port: int = 0
    attacker_port: int = 0
    pcap: str = ""
    pcap_legit: str = ""
    record: str = ""

    def to_json(self) -> str:
        """As the command line takes it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Raises SlimwireError for anything that is not a set of settings."""
        try:
            raw = json.loads(text)
            return cls(**{**raw, "loss": LossModel(**raw.get("loss", {}))})
        except (ValueError, TypeError, AttributeError) as error:
            raise SlimwireError(
                f"the air cannot read its settings: {error}", expected="JSON of Settings"
            ) from error


class Air:
    """The medium, its nodes and its records, driven by the event loop.

    Args:
        settings: see there.
        loop: whose clock and timers are used.
    """

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._settings = settings
        self._trace = traces.pick(
            traces.load(settings.trace),
            seed=settings.seed,
            seconds=settings.seconds,
            speed=settings.speed,
            low=settings.low,
            high=settings.high,
        )
        self._began = loop.time()
        self._first_frame: float | None = None
        self._medium: Medium[Node] = Medium(self.rate, settings.loss, settings.seed)
        self._ports: dict[bool, asyncio.DatagramTransport] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sampler: asyncio.TimerHandle | None = None
        self._seq = 0
        self._counters: Counter[str] = Counter()
        self._files = contextlib.ExitStack()
        self._record = Record(self._open(settings.record))
        self._pcap = PcapWriter(IEEE802154_WITH_FCS)
        self._captures = {
            False: self._open(settings.pcap),
            True: self._open(settings.pcap_legit),
        }
        for capture in self._captures.values():
            if capture is not None:
                capture.write(self._pcap.header())

    def _open(self, path: str) -> IO[bytes] | None:
        if not path:
            return None
        try:
            return self._files.enter_context(Path(path).open("wb"))
        except OSError as error:
            raise SlimwireError(f"the air cannot write {path}: {error.strerror}") from error

    async def start(self) -> tuple[int, int]:
        """Bind both ports; returns (port, attacker port)."""
        for honest, port in ((True, self._settings.port), (False, self._settings.attacker_port)):
            transport, _ = await self._loop.create_datagram_endpoint(
                lambda honest=honest: _Port(self, honest),  # type: ignore[misc]
                local_addr=(self._settings.host, port),
            )
            self._ports[honest] = transport
        numbers = [self._ports[honest].get_extra_info("sockname")[1] for honest in (True, False)]
        self._sample_rate()
        return numbers[0], numbers[1]

    def close(self) -> None:
        """Close ports and files; frames still queued are forgotten."""
        for timer in (self._timer, self._sampler):
            if timer is not None:
                timer.cancel()
        for transport in self._ports.values():
            transport.close()
        self._files.close()

    def rate(self, now: float) -> float:
        """kb/s at `now`, seconds since the air began."""
        return self._trace.at(0.0 if self._first_frame is None else max(now - self._first_frame, 0.0))

    @property
    def counters(self) -> Counter[str]:
        """What was dropped, repeated and transmitted so far."""
        return self._counters + self._medium.counters

    def count(self, reason: str) -> None:
        """Count something that concerns no frame."""
        self._counters[reason] += 1

    def receive(self, data: bytes, sender: Address, honest: bool) -> None:
        """A datagram of a node."""
        now = self._now()
        node = (honest, sender)
        weight = 1.0 if honest else self._settings.attacker_weight
        if not self._medium.join(node, now, weight=weight, honest=honest) or not data or _is_ack(data):
            return
        try:
            frame = ZepFrame.parse(data).frame
        except WireError as error:
            self._counters[error.reason] += 1
            return
        if not 1 <= len(frame) <= MAX_FRAME:
            self._counters["frame-size"] += 1
            return
        if self._first_frame is None:
            self._first_frame = now
        self._medium.offer(node, frame, _addressed(frame), now)
        self._arm()

    def _arm(self) -> None:
        due = self._medium.due
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due is None else self._loop.call_at(self._began + due, self._step)

    def _step(self) -> None:
        for heard in self._medium.step(self._now()):
            self._hand_over(heard)
        self._arm()

    def _hand_over(self, heard: Heard[Node]) -> None:
        flight = heard.flight
        honest = flight.node[0]
        if heard.attempt == 1:
            record = self._pcap.record(time.time_ns(), flight.frame)
            for legit_only, capture in self._captures.items():
                if capture is not None and (honest or not legit_only):
                    capture.write(record)
        for receiver in heard.receivers:
            self._seq += 1
            packet = ZepFrame(channel=26, device=0, lqi=255, seq=self._seq, frame=flight.frame).emit()
            self._send(receiver, packet)

        self._record.transmitted(heard, forged=not honest)

    def _send(self, node: Node, packet: bytes) -> None:
        self._ports[node[0]].sendto(packet, node[1])

    def _sample_rate(self) -> None:
        now = self._now()
        self._record.rate(now, self.rate(now), self._medium.waiting)
        self._sampler = self._loop.call_later(_RATE_EVERY, self._sample_rate)

    def _now(self) -> float:
        return self._loop.time() - self._began


class _Port(asyncio.DatagramProtocol):
    """One of the two UDP ports."""

    def __init__(self, air: Air, honest: bool) -> None:
        self._air = air
        self._honest = honest

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """A node's datagram."""
        self._air.receive(data, addr, self._honest)

    def error_received(self, exc: Exception) -> None:
        """A node's port is closed: it left."""
        self._air.count("unreachable")


def _is_ack(data: bytes) -> bool:
    try:
        ZepAck.parse(data)
    except WireError:
        return False
    return True


def _addressed(frame: bytes) -> Addressed:
    """What the medium must know; a frame that does not parse is heard by all and acknowledged by nobody."""
    try:
        mac = MacFrame.parse(frame)
    except WireError:
        return Addressed(None, None, False)
    destination = mac.dst if mac.dst is not None and mac.dst != b"\xff\xff" else None
    return Addressed(destination, mac.src, mac.ack_request and destination is not None)


async def serve(settings: Settings) -> Counter[str]:
    """Run until SIGTERM or SIGINT; returns what was counted.

    Raises what any callback raised: a channel that goes on without its captures would be silent about it.
    """
    loop = asyncio.get_running_loop()
    air = Air(settings, loop)
    stop = asyncio.Event()
    failures: list[BaseException] = []

    def failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failures.append(context.get("exception") or RuntimeError(context["message"]))
        stop.set()

    loop.set_exception_handler(failed)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        port, attacker_port = await air.start()
        print(json.dumps({"port": port, "attacker_port": attacker_port}), flush=True)
        await stop.wait()
        if failures:
            raise failures[0]
    finally:
        air.close()
    return air.counters


def main() -> None:
    """`python -m lab.sim.air SETTINGS`."""
    try:
        counters = asyncio.run(serve(Settings.from_json(sys.argv[1])))
    except (SlimwireError, OSError) as error:
        sys.exit(f"air: {error}")
    print(json.dumps(counters), flush=True)


if __name__ == "__main__":
    main()
