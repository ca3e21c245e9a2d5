"""What the verbs `check`, `config`, `install`, `upgrade` and `uninstall` of our services share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from slimwire import checks, output
from slimwire.checks import Check

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="Settings in TOML [the installed service's, if there are any]."),
]
Documented = Annotated[
    bool, typer.Option("--documented", help="A file with every setting, its meaning and its default.")
]
Root = Annotated[Path, typer.Option(help="Work below this directory instead, starting nothing.")]
Start = Annotated[bool, typer.Option(help="Enable and start the service.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the unit, change nothing.")]


def installed(settings: str) -> Path | None:
    """The installed service's settings file, if there is one; `settings`: relative to the root."""
    path = Path("/") / settings
    return path if path.exists() else None


def show_checks(found: Sequence[Check], as_json: bool) -> None:
    """Print what a `check` found. Raises typer.Exit: something is wrong."""
    if as_json:
        output.print_json(checks.as_json(found))
    else:
        checks.show(found)
    if not all(each.good for each in found):
        raise typer.Exit(1)


def show_report(report: dict[str, Any], as_json: bool) -> None:
    """Print what a command did."""
    if as_json:
        output.print_json(report)
    else:
        checks.show_report(report)
