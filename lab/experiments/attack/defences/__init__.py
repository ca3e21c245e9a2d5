"""The defences, by the name they have on the command line, and what each asks of the air."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from lab.experiments.attack.defences.base import HARMLESS, Defence, Delivered, Fate, Settings
from lab.experiments.attack.defences.contiki import Contiki
from lab.experiments.attack.defences.link_mic import LinkMic
from lab.experiments.attack.defences.paper import Paper
from lab.experiments.attack.defences.riot import Riot
from lab.experiments.attack.defences.slimwire import Slimwire, memory_for
from lab.experiments.attack.defences.split_buffer import SplitBuffer
from lab.experiments.attack.formats import (
    ContentChain,
    Format,
    Manifest,
    Plain,
    Recoverable,
    RunningHash,
    Secured,
)

__all__ = ["DEFENCES", "HARMLESS", "Defence", "Delivered", "Fate", "Settings", "memory_for"]


class Kind(NamedTuple):
    """A defence: how it is made, the name of its format on the air, how that is made, and a line on it.

    Defences of one format share a recording.
    """

    make: Callable[[Settings, Format], Defence]
    air: str
    fmt: Callable[[], Format]
    about: str
    #: Left out of `all`: asked for by name.
    extra: bool = False
    #: Devices react to what the gateway sends: it is in the simulation, and its control is one of its own.
    live: bool = False


def _network() -> Format:
    return Secured(pairwise=False)


def _pairwise() -> Format:
    return Secured(pairwise=True)


#: In the order of the table.
DEFENCES: dict[str, Kind] = {
    "none-riot": Kind(Riot, "plain", Plain, "RIOT's buffer: 4 entries, 3 s, the oldest overridden"),
    "none-contiki": Kind(Contiki, "plain", Plain, "Contiki-NG's: 2 contexts, 0.5 s, octets are counted"),
    "split-buffer": Kind(
        SplitBuffer, "content-chain", ContentChain, "Hummen's content chaining, eviction by behaviour"
    ),
    "split-buffer-large": Kind(
        partial(SplitBuffer, large=True),
        "content-chain",
        ContentChain,
        "the same with as much memory as Slimwire reserves (by name only)",
        extra=True,
    ),
    "paper": Kind(
        Paper, "running-hash", RunningHash, "Predictive-CSM: unkeyed hash chain, trust by claimed address"
    ),
    "link-mic": Kind(LinkMic, "link-network", _network, "802.15.4 level 6, one key for the network"),
    "link-mic-pairwise": Kind(LinkMic, "link-pairwise", _pairwise, "802.15.4 level 6, a key for each device"),
    "slimwire": Kind(Slimwire, "slimwire", Manifest, "keyed chain, verified before anything is reserved"),
    "slimwire-recovery": Kind(
        Slimwire,
        "slimwire-recovery",
        Recoverable,
        "the same with selective recovery (RFC 8931): what is lost is sent again",
        live=True,
    ),
}
