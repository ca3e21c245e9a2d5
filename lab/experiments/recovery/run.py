"""The experiment: the same links, datagram after datagram, for each way to get one across."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.events import Accepted, Acknowledge
from gateway.receiver import Receiver
from lab.experiments.attack.clock import Clock
from lab.experiments.attack.compare import wilson
from lab.experiments.attack.formats import GATEWAY, PAN, SITE, Member, Message
from lab.experiments.attack.radio import Channel, Sent
from lab.experiments.recovery.links import Direction, Loss
from lab.experiments.recovery.senders import COUNTERS, Plain, Recovering, Sender
from lab.experiments.recovery.station import Station
from security.chain import KeyedChain
from security.registry import Device, GatewayRegistry
from security.trust import Cause, PredictiveTrust
from wire.ieee802154 import FrameKind, MacFrame
from wire.rfrag import RfragAck

#: Sealed bytes of a datagram of 1280 octets.
SEALED = 1169
#: s the gateway takes for an RFRAG-ACK before its radio has it.
_THINKS = 0.002
#: Pause between two datagrams of a device, mean s.
_PAUSE = 0.2

TRANSPORTS = ("rfc8931", "rfc4944", "rfc4944-anew")


class Plan(NamedTuple):
    """One row's parameters.

    Attributes:
        transport: of `TRANSPORTS`.
        loss: of each direction of each link.
        link_retries: macMaxFrameRetries, None for a link without acks.
        datagrams: in all.
        devices: that share the channel.
        seed: of everything random.
        window: fragments under way at once.
    """

    transport: str
    loss: Loss
    link_retries: int | None
    datagrams: int = 2000
    devices: int = 1
    seed: int = 1
    window: int = 32


class _Network:
    """The devices, the gateway, and what is between them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clock = Clock()
        self.channel = Channel(self.clock)
        self.members = [Member(number) for number in range(1, plan.devices + 1)]
        devices = {m.eui: Device(m.eui, f"device {m.number}", {0: m.keys}) for m in self.members}
        self.receiver = Receiver(
            GatewayRegistry(GATEWAY, SITE, devices=devices), KeyedChain(), PredictiveTrust()
        )
        self.delivered: dict[tuple[bytes, int], float] = {}
        self.hear: dict[bytes, Callable[[RfragAck], None]] = {}
        self.peak = 0
        self._sequence = 0
        self._towards = b""
        self._down = {
            m.eui: Direction(plan.loss, random.Random(f"down {plan.seed} {m.number}")) for m in self.members
        }
        self._up = {
            m.eui: Direction(plan.loss, random.Random(f"up {plan.seed} {m.number}")) for m in self.members
        }
        self.station = Station(
            self.clock,
            self.channel,
            random.Random(f"gateway {plan.seed}"),
            self._at_device,
            lambda: not self._up[self._towards].lost(),
            plan.link_retries,
        )

    def device_station(self, member: Member) -> Station:
        """The radio of a device."""
        down = self._down[member.eui]
        return Station(
            self.clock,
            self.channel,
            random.Random(f"back-off {self.plan.seed} {member.number}"),
            self._at_gateway,
            lambda: not down.lost(),
            self.plan.link_retries,
        )

    def _at_gateway(self, sent: Sent) -> bool:
        if self._up[sent.source].lost():
            return False
        now = self.clock.now
        for event in self.receiver.on_frame(sent.frame, now):
            if isinstance(event, Accepted):
                self.delivered.setdefault((event.device, event.counter // COUNTERS), now)
                self.receiver.mark_used(event.device, event.epoch, event.counter)
                self.receiver.trust.observe(event.device, True, now, Cause.ANSWERED)
            elif isinstance(event, Acknowledge):
                self.clock.after(_THINKS, self._acknowledge, event)
        self.peak = max(self.peak, self.receiver.memory_used)
        return True

    def _acknowledge(self, event: Acknowledge) -> None:
        self._sequence = (self._sequence + 1) & 0xFF
        payload = RfragAck(event.tag, event.bitmap).emit()
        frame = MacFrame(FrameKind.DATA, self._sequence, PAN, event.device, GATEWAY, payload, True, version=1)
        self.station.send(Sent(frame.emit(), payload, GATEWAY))

    def _at_device(self, sent: Sent) -> bool:
        mac = MacFrame.parse(sent.frame)
        assert mac.dst is not None
        self._towards = mac.dst
        if self._down[mac.dst].lost():
            return False
        self.hear[mac.dst](RfragAck.parse(mac.payload))
        return True


class _Device:
    """Sends one datagram after another."""

    def __init__(self, network: _Network, member: Member, count: int) -> None:
        self.fallbacks = 0
        self.started: dict[int, float] = {}
        self.station = network.device_station(member)
        self._network = network
        self._member = member
        self._left = count
        self._rng = random.Random(f"device {network.plan.seed} {member.number}")
        self._number = 0
        self._sender: Sender | None = None
        network.hear[member.eui] = self._hear
        self._pause()

    def _hear(self, ack: RfragAck) -> None:
        if self._sender is not None:
            self._sender.on_ack(ack)

    def _pause(self) -> None:
        self._sender = None
        if self._left:
            self._left -= 1
            self._network.clock.after(self._rng.expovariate(1 / _PAUSE), self._start)

    def _start(self) -> None:
        network, plan = self._network, self._network.plan
        network.receiver.tick(network.clock.now)
        self._number += 1
        number = self._number
        self.started[number] = network.clock.now
        message = Message(number * COUNTERS, self._rng.randbytes(SEALED))
        if plan.transport == "rfc8931":
            self._sender = Recovering(
                network.clock, self.station, self._member, message, self._pause, self._fell_back, plan.window
            )
        else:
            self._sender = Plain(
                self.station,
                self._member,
                message,
                lambda: (self._member.eui, number) in network.delivered,
                self._pause,
                anew=plan.transport == "rfc4944-anew",
            )
        self._sender.start()

    def _fell_back(self) -> None:
        self.fallbacks += 1


def run(plan: Plan) -> dict[str, Any]:
    """One row: see docs/attack-lab.md, "Selective recovery"."""
    network = _Network(plan)
    each, more = divmod(plan.datagrams, plan.devices)
    devices = [_Device(network, member, each + (i < more)) for i, member in enumerate(network.members)]
    network.clock.run_out()
    delivered = len(network.delivered)
    sent = sum(len(device.started) for device in devices)
    airtime = sum(device.station.tally.seconds for device in devices) + network.station.tally.seconds
    took = sorted(
        at - device.started[number]
        for device, member in zip(devices, network.members, strict=True)
        for (eui, number), at in network.delivered.items()
        if eui == member.eui
    )
    low, high = wilson(delivered, sent)
    return {
        "transport": plan.transport,
        "loss": plan.loss.mean,
        "burst": plan.loss.burst,
        "link_retries": plan.link_retries or 0,
        "datagrams": sent,
        "delivery": delivered / sent,
        "delivery_95": [low, high],
        "data_frames_per_datagram": sum(device.station.tally.frames for device in devices) / sent,
        "rfrag_acks_per_datagram": network.station.tally.frames / sent,
        "airtime_ms_per_delivered": 1000 * airtime / max(1, delivered),
        "energy_mj_per_delivered": sum(device.station.meter.millijoules for device in devices)
        / max(1, delivered),
        "fallbacks": sum(device.fallbacks for device in devices),
        "p50_ms": 1000 * took[len(took) // 2] if took else None,
        "p99_ms": 1000 * took[99 * len(took) // 100] if took else None,
        "buffer_peak_bytes": network.peak,
        "rejected": dict(sorted(network.receiver.counters.items())),
    }
