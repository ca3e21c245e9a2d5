"""One run of the radio: devices that send, one attacker, and what the gateway's antenna gets of both.

Nothing here depends on what the gateway does with a frame: acks come from its radio, and devices send each
message once. So one recording serves every defence that uses the format, and its control (the same recording
without the attacker's frames).
"""

import random
from dataclasses import dataclass
from typing import NamedTuple

from gateway.admission import Limits
from lab.experiments.attack.attackers import Attack, Rogue, Scene
from lab.experiments.attack.clock import Clock
from lab.experiments.attack.formats import Format, Member, Message
from lab.experiments.attack.radio import (
    MAX_RETRIES,
    Channel,
    HonestSender,
    Links,
    Receiver,
    Sent,
    Transmission,
    loss_model,
)
from lab.sim.loss import GilbertElliott

#: Sealed bytes of a message: 3 or 4 frames in Slimwire's format, 3 or more in any.
SEALED = (190, 349)
#: Devices fall silent this long before the end, so that what they began can finish, s.
QUIET = 5.0


@dataclass(frozen=True)
class Plan:
    """One run's parameters.

    Attributes:
        devices: legitimate ones.
        rate: messages/s of each, Poisson.
        loss: mean share of frames lost on a link.
        burst: mean s of a fade, 0 for independent losses.
        share: of all airtime that attackers may use.
        seconds: simulated time.
        seed: of everything.
        link_retries: macMaxFrameRetries.
        timeout: s that Slimwire's gateway keeps an unfinished datagram.
    """

    devices: int = 30
    rate: float = 0.4
    loss: float = 0.1
    burst: float = 0.025
    share: float = 0.1
    seconds: float = 120.0
    seed: int = 1
    link_retries: int = MAX_RETRIES
    timeout: float = Limits().timeout


class Reception(NamedTuple):
    """A frame that reached the gateway intact."""

    at: float
    sent: Sent


@dataclass(frozen=True)
class Recording:
    """What happened on the air.

    Attributes:
        members: the legitimate devices; insiders: the hostile enrolled ones.
        messages: what each legitimate device sent, by its EUI-64: octets of the message.
        receptions: at the gateway, in order.
        seconds: simulated time.
        millijoules: of each legitimate device's radio, in the order of `members`.
        airtime_legit, airtime_attack: share of all time; without acks.
        attack_frames: sent by the attacker, heard or not.
        given_up, frames: of the devices' frames, how many the link gave up.
    """

    members: list[Member]
    insiders: list[Member]
    messages: dict[bytes, list[bytes]]
    receptions: list[Reception]
    seconds: float
    millijoules: list[float]
    airtime_legit: float
    airtime_attack: float
    attack_frames: int
    frames: int
    given_up: int


class _Device:
    """Makes messages at random times and hands them to its radio."""

    def __init__(self, clock: Clock, member: Member, fmt: Format, radio: HonestSender, plan: Plan) -> None:
        self.octets: list[bytes] = []
        self._clock = clock
        self._member = member
        self._fmt = fmt
        self._radio = radio
        # The same messages at the same times in every format and under every attack.
        self._rng = random.Random(f"device {plan.seed} {member.number}")
        self._rate = plan.rate
        self._last = plan.seconds - QUIET
        self._counter = self._rng.randrange(1, 1 << 20)
        self._wait()

    def _wait(self) -> None:
        self._clock.after(self._rng.expovariate(self._rate), self._message)

    def _message(self) -> None:
        if self._clock.now > self._last:
            return
        message = Message(self._counter, self._rng.randbytes(self._rng.randint(*SEALED)))
        self._counter += 1
        self.octets.append(message.octets)
        self._radio.send(
            self._fmt.frame(self._member, piece) for piece in self._fmt.pieces(self._member, message)
        )
        self._wait()


def simulate(plan: Plan, fmt: Format, attack_type: type[Attack] | None) -> Recording:
    """Run the radio for `plan.seconds`; `attack_type` None leaves the devices among themselves."""
    clock = Clock()
    channel = Channel(clock)
    receptions: list[Reception] = []
    gateway = Receiver(clock, channel, lambda at, sent: receptions.append(Reception(at, sent)))
    model = loss_model(plan.loss, plan.burst)

    def fading(link: str) -> GilbertElliott:
        return GilbertElliott(model, random.Random(f"fading {plan.seed} {link}"))

    members = [Member(number) for number in range(1, plan.devices + 1)]
    insiders: list[Member] = []
    rogue: Rogue | None = None
    if attack_type is not None:
        if attack_type.insider:
            insiders = [Member(plan.devices + 1, hostile=True)]
        scene = Scene(
            fmt, random.Random(f"attack {plan.seed} {attack_type.name}"), [m.eui for m in members], insiders
        )
        ears = {member.eui: fading(f"ears {member.number}") for member in members}
        rogue = Rogue(clock, channel, gateway, attack_type(scene), fading("attacker"), ears, plan.share)

    def overhear(transmission: Transmission) -> None:
        if rogue is not None:
            rogue.overhear(transmission)

    radios = {}
    devices = {}
    for member in members:
        radios[member.eui] = HonestSender(
            clock,
            channel,
            gateway,
            Links(fading(f"up {member.number}"), fading(f"down {member.number}")),
            random.Random(f"back-off {plan.seed} {member.number}"),
            overhear,
            plan.link_retries,
        )
        devices[member.eui] = _Device(clock, member, fmt, radios[member.eui], plan)
    clock.run(plan.seconds)
    return Recording(
        members,
        insiders,
        {eui: device.octets for eui, device in devices.items()},
        receptions,
        plan.seconds,
        [radio.meter.millijoules for radio in radios.values()],
        sum(radio.tally.airtime for radio in radios.values()) / plan.seconds,
        rogue.airtime / plan.seconds if rogue else 0.0,
        rogue.frames if rogue else 0,
        sum(radio.tally.frames for radio in radios.values()),
        sum(radio.tally.given_up for radio in radios.values()),
    )
