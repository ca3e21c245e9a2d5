"""What a defence made of a recording. It is played frame by frame, with or without the attacker's frames.

A datagram counts as delivered when it arrives exactly as its device sent it, the first time. A frame of the
attacker is *forged* in a delivered datagram unless that datagram is genuine and new: a verbatim copy that
arrived in time changes nothing. What a hostile enrolled device says in its own name is neither delivery nor
forgery.
"""

from collections import Counter
from dataclasses import dataclass, field

from lab.experiments.attack.air import Reception, Recording
from lab.experiments.attack.defences import HARMLESS, Defence, Delivered, Fate
from lab.experiments.attack.radio import Sent

_TICK = 1.0


@dataclass
class Outcome:
    """Counts of one play.

    Attributes:
        delivered: genuine messages that arrived; sent: that were sent.
        forged_accepted: forged fragments in delivered datagrams.
        forged_buffered: octets of the attacker's fragments that were stored.
        peak: most bytes held at once.
        detected: the attacker's frames heard up to the first that was refused, or that cost the hostile
            device trust; None if that never happened.
        delivered_by: delivered, of each legitimate device in the order of the recording's members.
        trust_min: least trust of any legitimate device in the second half of the run, once it is earned;
            None without a notion of trust.
        received: legitimate fragments that arrived intact; refused: those refused though new and in time.
        rejected: reasons, and how often.
    """

    delivered: int = 0
    sent: int = 0
    delivered_by: list[int] = field(default_factory=list)
    forged_accepted: int = 0
    forged_buffered: int = 0
    peak: int = 0
    detected: int | None = None
    trust_min: float | None = None
    received: int = 0
    refused: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


def play(recording: Recording, defence: Defence, *, attacked: bool) -> Outcome:
    """Give the defence what the antenna got; `attacked` False leaves out what the attacker sent."""
    player = _Player(recording, defence)
    for number, reception in enumerate(recording.receptions):
        if attacked or not reception.sent.forged:
            player.take(number, reception)
    return player.finish()


#: Octets of FRAG1, FRAGN and RFRAG, by the dispatch without its variable bits.
_HEADERS = {0xC0: 4, 0xE0: 5, 0xE8: 6}


def _octets(piece: bytes) -> bytes:
    """What a fragment carries, in whichever form it comes: the same in each retry."""
    return piece[_HEADERS.get(piece[0] & 0xF8, 0) :]


class _Player:
    def __init__(self, recording: Recording, defence: Defence) -> None:
        self.outcome = Outcome(sent=sum(map(len, recording.messages.values())))
        self._recording = recording
        self._defence = defence
        self._genuine = {eui: set(octets) for eui, octets in recording.messages.items()}
        self._arrived: set[tuple[bytes, bytes]] = set()
        self._accepted: set[tuple[bytes, bytes]] = set()
        self._hostile = {member.eui for member in recording.insiders}
        self._heard = 0
        self._ticked = 0.0

    def take(self, number: int, reception: Reception) -> None:
        at, sent = reception
        while at - self._ticked >= _TICK:
            self._ticked += _TICK
            self._defence.tick(self._ticked)
            self._look(list(self._genuine), self._ticked)
        before = self._trust_of_hostile()
        fate = self._defence.receive(number, sent.frame, at)
        self.outcome.peak = max(self.outcome.peak, self._defence.used)
        for delivered in fate.delivered:
            self._deliver(delivered, reception)
        self._look([sent.source], at)
        if sent.forged:
            self._heard += 1
            self.outcome.forged_buffered += fate.stored
            incriminated = fate.refused is not None and fate.refused not in HARMLESS
            if self.outcome.detected is None and (incriminated or self._trust_of_hostile() < before):
                self.outcome.detected = self._heard
            return
        self._count(sent, fate)

    def finish(self) -> Outcome:
        self.outcome.delivered = len(self._arrived)
        by = Counter(eui for eui, _ in self._arrived)
        self.outcome.delivered_by = [by[member.eui] for member in self._recording.members]
        self.outcome.rejected = dict(sorted(Counter(self._defence.counters).items()))
        return self.outcome

    def _count(self, sent: Sent, fate: Fate) -> None:
        """A legitimate fragment. A copy of one that was taken is a duplicate, however it is called."""
        self.outcome.received += 1
        fragment = (sent.source, _octets(sent.inner))
        if fate.refused is None:
            self._accepted.add(fragment)
        elif fate.refused not in HARMLESS and fragment not in self._accepted:
            self.outcome.refused += 1

    def _deliver(self, delivered: Delivered, reception: Reception) -> None:
        name = (delivered.source, delivered.octets)
        genuine = delivered.octets in self._genuine.get(delivered.source, ())
        self._defence.answered(delivered, opens=genuine)
        if delivered.source in self._hostile:
            return
        if genuine and name not in self._arrived:
            self._arrived.add(name)
            return
        made_of = [self._recording.receptions[number] for number in delivered.frames] or [reception]
        forged = sum(one.sent.forged for one in made_of)
        # Octets that no device sent came from somewhere, whichever frame completed them.
        self.outcome.forged_accepted += forged if genuine else max(1, forged)

    def _look(self, devices: list[bytes], at: float) -> None:
        if at < self._recording.seconds / 2:
            return
        for eui in devices:
            level = self._defence.trust(eui) if eui in self._genuine else None
            if level is not None and (self.outcome.trust_min is None or level < self.outcome.trust_min):
                self.outcome.trust_min = level

    def _trust_of_hostile(self) -> float:
        return min((self._defence.trust(eui) or 0.0 for eui in self._hostile), default=0.0)
