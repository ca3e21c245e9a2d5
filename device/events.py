"""The agent's events, in words."""

import logging
from typing import Any

_log = logging.getLogger("device")

_FAILURES = ("lost", "skipped")
_MILESTONES = ("start", "end")


def log_event(event: dict[str, Any]) -> None:
    """Log an event, a failure as a warning."""
    _log.log(logging.WARNING if event["e"] in _FAILURES else logging.INFO, "%s", describe(event))


def log_failure(event: dict[str, Any]) -> None:
    """Log an event if it is a failure, the start or the end: for a service that sends all day."""
    if event["e"] in (*_FAILURES, *_MILESTONES):
        log_event(event)


def describe(event: dict[str, Any]) -> str:
    """One line for a person of an event of the agent's log (`firmware/README.md` names its fields)."""
    kind = event["e"]
    if kind == "start":
        widths = ", ".join(f"{width / 1000:g}" for width in event["widths"])
        return f"started on {event['runtime']}: model {event['model']}, widths {widths}"
    if kind == "sent":
        frames = f"{event['frames']} frame" + ("s" if event["frames"] > 1 else "")
        again = f", attempt {event['a'] + 1}" if event["a"] else ""
        return f"message {event['c']}: width {event['w'] / 1000:g}, {event['bytes']} B in {frames}{again}"
    if kind == "answer":
        detail = f" ({event['detail']})" if event["detail"] else ""
        return (
            f"message {event['c']}: class {event['cls']}, confidence {event['conf']:.2f}, "
            f"after {event['ms']} ms{detail}; next width {event['next'] / 1000:g}"
        )
    if kind == "custody":
        return f"message {event['c']}: the gateway says {event['status']}"
    if kind == "lost":
        return f"message {event['c']}: no answer"
    if kind == "skipped":
        return f"a sample was skipped: {event['why']}"
    if kind == "epoch":
        return f"key epoch {event['epoch']}" + (" is kept" if event.get("kept") else "")
    if kind == "rx":
        refused = sum(event["rejected"].values())
        return (
            f"{event['accepted']} fragments accepted, {refused} refused, "
            f"{event['link_errors']} errors of the link"
        )
    return "ended" if kind == "end" else str(event)
