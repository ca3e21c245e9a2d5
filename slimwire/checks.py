"""What `check` commands find: one line each, with what to do where something is wrong."""

import datetime
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from slimwire.errors import SlimwireError

#: A certificate that ends within so many days is worth a word.
_SOON = 30


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


def certificate(path: Path, where: str) -> Check:
    """Until when a certificate is good.

    Args:
        path: a PEM file whose first certificate it is; readable.
        where: what names it in the settings, for the remedy.
    """
    from cryptography import x509  # noqa: PLC0415  (loads its libraries)

    ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    left = (ends - datetime.datetime.now(datetime.UTC)).days
    if left < 0:
        return Check(
            "certificate",
            f"{path} expired on {ends:%Y-%m-%d}",
            False,
            f"have a new one issued, and name it in {where}",
        )
    advice = "have a new one issued in time" if left < _SOON else ""
    return Check("certificate", f"{path}, good until {ends:%Y-%m-%d}", remedy=advice)


def private_key(path: Path) -> Iterator[Check]:
    """Something to say about a private key's file, if others can read it."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Check("key", f"{path} has mode {mode:04o}: others read it", remedy=f"chmod 600 {path}")


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
