"""`slimwire gateway top`: what the admin interface says, as a live view."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

_SHOWN = 20


class Sample(NamedTuple):
    """What the gateway said, and when, monotonic s."""

    at: float
    status: Mapping[str, Any]
    devices: Mapping[str, Any]


def view(now: Sample, before: Sample | None) -> RenderableType:
    """One picture; rates are those since the sample before."""
    status = now.status
    outbox, uplink = status["outbox"], status["uplink"]
    head = Table.grid(padding=(0, 2))
    head.add_row(
        f"[bold]{status['gateway']}[/bold] site {escape(status['site'])}, up {status['uptime_s']:.0f} s",
        f"{_rate(now, before, 'messages'):.1f} messages/s, {status['messages']} in all",
    )
    oldest = outbox["oldest_s"]
    head.add_row(
        f"outbox {outbox['messages']} messages, {outbox['bytes']} of {outbox['bound']} bytes"
        + ("" if oldest is None else f", oldest {oldest:.0f} s")
        + ("" if outbox["hours_left"] is None else f", room for {outbox['hours_left']:.1f} h"),
        "[red]edge server away[/red]" if uplink["away"] else f"edge server took {uplink['delivered']}",
    )
    legs = Table("leg", "where", "in/s", "out/s", box=None)
    for i, leg in enumerate(status["legs"]):
        rates = [
            0.0
            if before is None or len(before.status["legs"]) <= i
            else (leg[way] - before.status["legs"][i][way]) / max(now.at - before.at, 1e-9)
            for way in ("received", "sent")
        ]
        style = "" if leg["up"] else "red"
        legs.add_row(
            leg["name"], escape(leg["description"]), f"{rates[0]:.1f}", f"{rates[1]:.1f}", style=style
        )
    earlier = {each["device"]: each for each in before.devices["devices"]} if before is not None else {}
    devices = Table("device", "name", "trust", "messages/s", "refused", "last heard", box=None)
    busy = sorted(now.devices["devices"], key=_silence)
    for each in busy[:_SHOWN]:
        last = earlier.get(each["device"])
        rate = (
            0.0
            if last is None or before is None
            else (each["messages"] - last["messages"]) / max(now.at - before.at, 1e-9)
        )
        heard = each["last_heard_s"]
        devices.add_row(
            each["device"],
            escape(each["name"]),
            f"{each['trust']:.2f} {each['standing']}",
            f"{rate:.1f}",
            str(each["rejected"]),
            "never" if heard is None else f"{heard:.0f} s ago",
        )
    if busy[_SHOWN:]:
        devices.add_row(f"and {len(busy) - _SHOWN} more")
    reasons = Table("dropped because", "count", box=None)
    rejected = status["fragments"]["rejected"]
    for reason, count in sorted(rejected.items(), key=lambda item: -item[1])[:_SHOWN]:
        reasons.add_row(reason, str(count))
    advice = [f"[yellow]![/yellow] {escape(each)}" for each in status["advice"]]
    return Group(head, *advice, "", legs, "", devices, "", reasons if rejected else "")


def _silence(device: Mapping[str, Any]) -> float:
    heard = device["last_heard_s"]
    return float("inf") if heard is None else float(heard)


def _rate(now: Sample, before: Sample | None, name: str) -> float:
    if before is None:
        return 0.0
    return float((now.status[name] - before.status[name]) / max(now.at - before.at, 1e-9))


def watch(ask: Callable[[str], Any], console: Console, every: float, pictures: int | None) -> None:
    """Show a picture every so many s: `pictures` of them, or None: until Ctrl-C.

    Raises:
        AdminError: the gateway does not answer.
    """
    before: Sample | None = None
    shown = 0
    with Live(console=console, auto_refresh=False, screen=pictures is None and console.is_terminal) as live:
        while True:
            now = Sample(time.monotonic(), ask("/v1/status"), ask("/v1/devices"))
            live.update(view(now, before), refresh=True)
            before = now
            shown += 1
            if shown == pictures:
                return
            time.sleep(every)
