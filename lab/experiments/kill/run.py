"""The experiment: offer, kill, start again, and count what was promised against what was done."""

import random
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from edge_server.store import Store as EdgeStore
from lab.demo.processes import Family, TierError, interruptible
from lab.experiments.kill.air import MqttAir, ZepAir
from lab.experiments.kill.fleet import Fleet, Heard, Name
from lab.experiments.kill.node import Node, latents
from lab.experiments.kill.site import Site
from lab.experiments.kill.tap import Tap
from models.bundle import Bundle
from slimwire.errors import SlimwireError

Component = Literal["gateway", "edge", "broker"]
Fault = Literal["none", "disk-full", "clock-step", "uplink-down"]

#: s between a part's being there again and its next end, drawn from this range. A broker starts within
#: milliseconds, and both of its sides wait a second or so before they try it again.
_BETWEEN = {"gateway": (0.4, 1.6), "edge": (0.4, 1.6), "broker": (2.0, 4.0)}
#: s for which a fault lasts, drawn from this range.
_LASTS = (0.8, 2.0)
#: Steps of the time of day, s: forward past every age limit, back before every file was written.
_STEPS = (315_360_000.0, -315_360_000.0, 3600.0, -86_400.0, 0.0)
#: s for everything in custody to be answered in the end.
_DRAIN = 120.0


@dataclass(frozen=True)
class Plan:
    """What to run. `rate`: messages/s offered; `messages`: acknowledged at least, before it ends."""

    component: Component = "gateway"
    kills: int = 10
    seed: int = 1
    fault: Fault = "none"
    devices: int = 25
    rate: float = 150.0
    messages: int = 1000
    bundle: str = "fashion-mnist"


def run(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Run it. `say` is told what happens.

    Returns:
        `acked`, `answered`, `lost`, `duplicated`, `kills`, `longest_gap_s`, and what goes with them: see
        `judge`.

    Raises:
        TierError: a process did not start, or ended by itself; its directory is kept.
    """
    bundle = Bundle.load(plan.bundle)
    directory = Path(tempfile.mkdtemp(prefix="slimwire-kill-"))
    keep = False
    try:
        with interruptible(), ExitStack() as stack:
            family = stack.enter_context(Family(directory))
            return _run(plan, bundle, directory, family, stack, say)
    except TierError:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def _run(
    plan: Plan, bundle: Bundle, directory: Path, family: Family, stack: ExitStack, say: Callable[[str], None]
) -> dict[str, Any]:
    rng = random.Random(f"kill {plan.seed}")
    nodes = [Node(number) for number in range(1, plan.devices + 1)]
    broker = plan.component == "broker"
    site = Site(directory, family, nodes, bundle, broker=broker)
    tap = Tap(site.edge_url, nodes)
    stack.callback(tap.close)
    site.uplink = tap.url
    if plan.fault == "clock-step":
        site.step_clock(0.0)
    say("starting the edge server" + (", the broker" if broker else "") + " and the gateway")
    site.start("edge")
    if broker:
        site.start("broker")
    site.start("gateway")
    air = MqttAir(site.mqtt) if broker else ZepAir(site.zep)
    stack.callback(air.close)
    fleet = Fleet(air, nodes, latents(bundle, plan.seed), plan.rate, plan.seed)
    fleet.start()
    began = time.monotonic()
    for number in range(1, plan.kills + 1):
        _pause(site, fleet, rng.uniform(*_BETWEEN[plan.component]))
        _disturb(plan, site, fleet, tap, number, rng)
        site.kill(plan.component)
        heard = fleet.heard
        say(
            f"{plan.component} killed, {number} of {plan.kills}: {len(heard.sent)} sent, "
            f"{len(heard.acked)} acknowledged, {len(heard.answers)} answered so far"
        )
        site.start(plan.component)
        tap.cut = False
    while len(fleet.heard.acked) < plan.messages:
        _pause(site, fleet, 0.2)
    offered = time.monotonic() - began
    fleet.pause()
    _until(site, lambda: not fleet.waiting, "the devices are rid of what they sent")
    _until(site, lambda: not site.held(), "the gateway has delivered what it holds")
    _pause(site, fleet, 0.5)
    heard = fleet.stop()
    site.stop("gateway")
    site.stop("edge")
    result = judge(plan, heard, tap, site.edge_state)
    return {**result, "offered_per_s": round(len(heard.sent) / offered, 1), "seconds": round(offered, 1)}


def _disturb(plan: Plan, site: Site, fleet: Fleet, tap: Tap, number: int, rng: random.Random) -> None:
    """What goes wrong before the kill. A fault of the gateway's ends with its process, if not before."""
    lasts = rng.uniform(*_LASTS)
    if plan.fault == "disk-full":
        site.fill_disk(full=True)
        _pause(site, fleet, lasts)
        if number % 2:
            site.fill_disk(full=False)
            _pause(site, fleet, lasts / 2)
        elif plan.component != "gateway":
            site.fill_disk(full=False)
    elif plan.fault == "clock-step":
        site.step_clock(_STEPS[number % len(_STEPS)])
        _pause(site, fleet, lasts)
    elif plan.fault == "uplink-down":
        tap.cut = True
        _pause(site, fleet, lasts)


def judge(plan: Plan, heard: Heard, tap: Tap, edge_state: Path) -> dict[str, Any]:
    """Promises against deeds.

    Returns:
        acked: messages whose custody ack a device verified (committed or already).
        answered: messages of which the edge server's own record says that they are answered.
        lost: acknowledged ones that are not in that record.
        duplicated: messages that the edge server answered as new more than once, or to which a device got two
            different answers, or that are in the record and were never sent.
        kills: so many. longest_gap_s: the longest time in which no device got an answer.
        heard: messages whose answer a device opened. full: refusals as `full` that devices heard.
        lost_responses: batches that the edge server took and whose response was lost on purpose.
    """
    with EdgeStore(edge_state) as store:
        record = {name for name in heard.sent if store.used(name[0], 0, name[1])}
        stored = sum(sum(flat[1::2]) - sum(flat[::2]) + len(flat) // 2 for flat in store.record().values())
    twice: set[Name] = {name for name, times in tap.answered.items() if times > 1}
    twice |= {name for name, answers in heard.answers.items() if len(answers) > 1}
    gaps = [later - earlier for earlier, later in pairwise(heard.answered_at)]
    return {
        "component": plan.component,
        "fault": plan.fault,
        "acked": len(heard.acked),
        "answered": len(record),
        "lost": len(heard.acked.keys() - record),
        "duplicated": len(twice) + stored - len(record),
        "kills": plan.kills,
        "longest_gap_s": round(max(gaps, default=0.0), 2),
        "sent": len(heard.sent),
        "heard": len(heard.answers),
        "full": heard.statuses.get("full", 0),
        "forged": heard.forged,
        "lost_responses": tap.lost,
        "seed": plan.seed,
    }


def check(result: dict[str, Any]) -> None:
    """Raises SlimwireError if a promise was broken."""
    if result["lost"] or result["duplicated"] or result["forged"]:
        raise SlimwireError(
            f"{result['lost']} messages were acknowledged and never answered, {result['duplicated']} were "
            f"answered more than once, {result['forged']} replies did not verify",
            expected="none: this is a fault in Slimwire",
            remedy=f"please report it with the seed, {result['seed']}",
        )


def _pause(site: Site, fleet: Fleet, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        site.check()
        _ = fleet.waiting  # raises what ended the fleet
        time.sleep(min(0.1, left))


def _until(site: Site, done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _DRAIN
    while not done():
        site.check()
        if time.monotonic() > end:
            raise TierError(f"{_DRAIN:.0f} s after the last message it is not so that {what}")
        time.sleep(0.1)
