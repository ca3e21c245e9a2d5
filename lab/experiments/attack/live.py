"""A run in which devices react to what the gateway sends: selective recovery (RFC 8931), and custody acks.

A device sends its datagram in recoverable fragments, and again what the RFRAG-ACKs say is missing. They are
hints, and the attacker forges them to the device, too. What ends a datagram is the custody ack of protocol
section 2.3, which the simulated gateway sends when it has the message whole; a device that gets none asks
again, three times.

So the gateway is in the loop, and the control is a run of its own: the same devices, messages and attacker,
on the same seed, whose frames take their time on the air and reach nobody's antenna. What comes to the
gateway's antenna is recorded, and judged as every recording is.
"""

import random
from collections import deque

from lab.experiments.attack.air import QUIET, SEALED, Plan, Reception, Recording
from lab.experiments.attack.attackers import Attack, Rogue, Scene
from lab.experiments.attack.clock import Clock
from lab.experiments.attack.defences.base import Settings
from lab.experiments.attack.defences.slimwire import Slimwire, memory_for
from lab.experiments.attack.formats import GATEWAY, PAN, Member, Message, Recoverable
from lab.experiments.attack.radio import Channel, Receiver, Sent, Transmission, loss_model
from lab.experiments.recovery.senders import Recovering
from lab.experiments.recovery.station import Station
from lab.sim.loss import GilbertElliott
from security import custody
from wire.errors import WireError
from wire.ieee802154 import FrameKind, MacFrame
from wire.lowpan import Unfragmented, parse, udp_frames
from wire.message import PORT
from wire.reply import Custody, CustodyStatus
from wire.rfrag import FULL_BITMAP, RfragAck

#: s until the gateway's radio has an RFRAG-ACK, and until a message is in custody.
_THINKS = 0.002
_COMMITS = 0.005
#: s that a device waits for custody before it asks again.
_CONFIRM = 0.3


class _Antenna(Receiver):
    """Where the attacker's frames go: the gateway's antenna, or a device's."""

    def __init__(self, network: "_Network") -> None:
        self._network = network

    def overhear(self, transmission: Transmission, fading: GilbertElliott) -> None:
        """See `Receiver`. In the control nobody has an antenna for the attacker."""
        network, sent = self._network, transmission.sent
        assert sent is not None
        if transmission.collided or fading.lost(network.clock.now) or not network.attacked:
            return
        if sent.to is None:
            network.at_gateway(sent)
        elif not network.down[sent.to].lost(network.clock.now):
            network.devices[sent.to].hear(sent.frame)


class _Network:
    """Devices, gateway and attacker on one channel."""

    def __init__(self, plan: Plan, attack_type: type[Attack], *, attacked: bool) -> None:
        self.plan = plan
        self.attacked = attacked
        self.clock = Clock()
        self.channel = Channel(self.clock)
        self.fmt = Recoverable()
        self.receptions: list[Reception] = []
        self.members = [Member(number) for number in range(1, plan.devices + 1)]
        self.insiders = [Member(plan.devices + 1, hostile=True)] if attack_type.insider else []
        everybody = self.members + self.insiders
        self.gateway = Slimwire(Settings(everybody, memory_for(len(everybody)), plan.timeout), self.fmt)
        model = loss_model(plan.loss, plan.burst)

        def fading(link: str) -> GilbertElliott:
            return GilbertElliott(model, random.Random(f"fading {plan.seed} {link}"))

        self.up = {member.eui: fading(f"up {member.number}") for member in self.members}
        self.down = {member.eui: fading(f"down {member.number}") for member in everybody}
        self.station = Station(
            self.clock,
            self.channel,
            random.Random(f"back-off {plan.seed} gateway"),
            self._at_device,
            lambda: not self.up[self._towards].lost(self.clock.now),
            plan.link_retries,
        )
        self._towards = b""
        self._sequence = 0
        self._custody: dict[tuple[bytes, int], bytes] = {}
        scene = Scene(
            self.fmt,
            random.Random(f"attack {plan.seed} {attack_type.name}"),
            [member.eui for member in self.members],
            self.insiders,
        )
        ears = {member.eui: fading(f"ears {member.number}") for member in self.members}
        self.rogue = Rogue(
            self.clock, self.channel, _Antenna(self), attack_type(scene), fading("attacker"), ears, plan.share
        )
        self.devices = {member.eui: _Device(self, member) for member in self.members}
        self.clock.after(1.0, self._tick)

    def at_gateway(self, sent: Sent) -> None:
        """A frame reached the gateway's antenna."""
        now = self.clock.now
        number = len(self.receptions)
        self.receptions.append(Reception(now, sent))
        fate = self.gateway.receive(number, sent.frame, now)
        for delivered in fate.delivered:
            device = self.devices.get(delivered.source)
            self.gateway.answered(delivered, opens=device is not None and delivered.octets in device.known)
            if device is not None:
                self.clock.after(_COMMITS, self._take_custody, device, delivered.octets)
        for ack in self.gateway.acks:
            if ack.device not in self.devices:
                continue  # the hostile device does not listen
            payload = RfragAck(ack.tag, ack.bitmap).emit()
            self.clock.after(_THINKS, self._send, ack.device, payload)
            again = self._custody.get((ack.device, ack.tag))
            if ack.bitmap == FULL_BITMAP and again is not None and not fate.delivered:
                self.clock.after(_COMMITS, self._send, ack.device, again)

    def _take_custody(self, device: "_Device", octets: bytes) -> None:
        counter = int.from_bytes(octets[1:5], "big")
        eui = device.member.eui
        ack = custody.make(
            device.member.keys.frag_dn,
            GATEWAY,
            eui,
            epoch=0,
            counter=counter,
            status=CustodyStatus.COMMITTED,
        )
        (frame,) = udp_frames(GATEWAY, eui, PORT, PORT, ack.emit(), 0, 0, PAN)
        self._custody[eui, counter & 0xFF] = frame.payload
        self._send(eui, frame.payload)

    def _send(self, device: bytes, payload: bytes) -> None:
        self._sequence = (self._sequence + 1) & 0xFF
        frame = MacFrame(FrameKind.DATA, self._sequence, PAN, device, GATEWAY, payload, True, version=1)
        self.station.send(Sent(frame.emit(), payload, GATEWAY, to=device))

    def _at_device(self, sent: Sent) -> bool:
        assert sent.to is not None
        self._towards = sent.to
        if self.down[sent.to].lost(self.clock.now):
            return False
        self.devices[sent.to].hear(sent.frame)
        return True

    def _tick(self) -> None:
        self.gateway.tick(self.clock.now)
        self.clock.after(1.0, self._tick)


class _Device:
    """Makes messages at random times, the same as without recovery; sends one after another."""

    def __init__(self, network: _Network, member: Member) -> None:
        plan = network.plan
        self.member = member
        self.octets: list[bytes] = []
        self.known: set[bytes] = set()
        self._network = network
        self._rng = random.Random(f"device {plan.seed} {member.number}")
        self._counter = self._rng.randrange(1, 1 << 20)
        self._waiting: deque[Message] = deque()
        self._sender: Recovering | None = None
        self._message: Message | None = None
        self.station = Station(
            network.clock,
            network.channel,
            random.Random(f"back-off {plan.seed} {member.number}"),
            self._arrives,
            lambda: not network.down[member.eui].lost(network.clock.now),
            plan.link_retries,
            network.rogue.overhear,
        )
        self._wait()

    def hear(self, frame: bytes) -> None:
        """A frame reached the device's antenna, genuine or not."""
        try:
            mac = MacFrame.parse(frame)
            if mac.payload[:1] == b"\xea":
                if self._sender is not None:
                    self._sender.on_ack(RfragAck.parse(mac.payload))
                return
            packet = parse(mac.payload, mac.src, mac.dst)
            ack = Custody.parse(packet.payload) if isinstance(packet, Unfragmented) else None
        except WireError:
            return
        message = self._message
        if (
            ack is not None
            and message is not None
            and self._sender is not None
            and ack.counter == message.counter
            and custody.verify(self.member.keys.frag_dn, GATEWAY, self.member.eui, ack)
        ):
            self._sender.confirmed()

    def _arrives(self, sent: Sent) -> bool:
        network = self._network
        if network.up[self.member.eui].lost(network.clock.now):
            return False
        network.at_gateway(sent)
        return True

    def _wait(self) -> None:
        self._network.clock.after(self._rng.expovariate(self._network.plan.rate), self._make)

    def _make(self) -> None:
        plan = self._network.plan
        if self._network.clock.now > plan.seconds - QUIET:
            return
        message = Message(self._counter, self._rng.randbytes(self._rng.randint(*SEALED)))
        self._counter += 1
        self.octets.append(message.octets)
        self.known.add(message.octets)
        self._waiting.append(message)
        if self._sender is None:
            self._next()
        self._wait()

    def _next(self) -> None:
        self._sender = self._message = None
        if self._waiting:
            self._message = self._waiting.popleft()
            self._sender = Recovering(
                self._network.clock,
                self.station,
                self.member,
                self._message,
                self._next,
                confirm_wait=_CONFIRM,
            )
            self._sender.start()


def simulate(plan: Plan, attack_type: type[Attack], *, attacked: bool) -> Recording:
    """Run the radio for `plan.seconds`.

    Args:
        attacked: False for the control: the attacker's frames reach no antenna.
    """
    network = _Network(plan, attack_type, attacked=attacked)
    network.clock.run(plan.seconds)
    stations = [device.station for device in network.devices.values()]
    rogue = network.rogue
    return Recording(
        network.members,
        network.insiders,
        {eui: device.octets for eui, device in network.devices.items()},
        network.receptions,
        plan.seconds,
        [station.meter.millijoules for station in stations],
        sum(station.tally.seconds for station in [*stations, network.station]) / plan.seconds,
        rogue.airtime / plan.seconds,
        rogue.frames,
        sum(station.tally.frames for station in stations),
        sum(station.tally.unsent for station in stations),
    )
