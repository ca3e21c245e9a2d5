"""The attacks, by the name they have on the command line."""

from lab.experiments.attack.attackers.base import Attack, Heard, Rogue, Scene
from lab.experiments.attack.attackers.flood import Flooding, Framing, Jamming, SlowDrip, Whitewashing
from lab.experiments.attack.attackers.injection import (
    Duplication,
    EarlyInjection,
    ForgedControl,
    ReplayedHeader,
    TagCollision,
)
from lab.experiments.attack.attackers.insider import Compromised, OnOff
from lab.experiments.attack.attackers.replay import ReplayOld

__all__ = ["ATTACKS", "Attack", "Heard", "Rogue", "Scene"]

#: In the order of the table.
ATTACKS: dict[str, type[Attack]] = {
    attack.name: attack
    for attack in (
        EarlyInjection,
        ReplayedHeader,
        Flooding,
        Duplication,
        Framing,
        OnOff,
        Whitewashing,
        TagCollision,
        ReplayOld,
        SlowDrip,
        ForgedControl,
        Compromised,
        Jamming,
    )
}
