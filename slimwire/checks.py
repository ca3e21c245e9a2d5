"""What `check` commands find: one line each, with what to do where something is wrong."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import typer

from slimwire.errors import SlimwireError


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: what.
        found: what it is like.
        good: whether the service can start with it.
        remedy: what to do; "" where nothing is needed. With `good`, it is advice.
    """

    name: str
    found: str
    good: bool = True
    remedy: str = ""


def failed(name: str, error: SlimwireError) -> Check:
    """An error as a check that failed."""
    found = error.what + (f"; expected {error.expected}" if error.expected else "")
    return Check(name, found, False, error.remedy)


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """For `--json`."""
    return {"good": all(check.good for check in checks), "checks": [check._asdict() for check in checks]}


def show_report(report: dict[str, Any]) -> None:
    """What a command did, for people: a line each of what there is to say."""
    for name, value in report.items():
        if value not in ("", None, [], False):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            typer.echo(f"{name.replace('_', ' ')}: {shown}")


def show(checks: Iterable[Check]) -> None:
    """For people."""
    for check in checks:
        mark = "ok" if check.good and not check.remedy else "warning" if check.good else "WRONG"
        typer.echo(f"{mark:9}{check.name:15}{check.found}")
        if check.remedy:
            typer.echo(f"{'':24}remedy: {check.remedy}")
