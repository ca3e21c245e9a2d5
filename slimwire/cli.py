"""The `slimwire` command.

Each room's commands load when they are first used, so that a missing extra hurts no other command.
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from slimwire import __version__
from slimwire.errors import MissingExtraError, SlimwireError


@dataclass(frozen=True)
class _Mount:
    """Where a command lives, the extra that brings its packages, and its one line of help."""

    module: str
    extra: str
    help: str
    attribute: str = "app"


MOUNTS: dict[str, _Mount] = {
    "gateway": _Mount("gateway.cli", "gateway", "Run the gateway: admission, reassembly, trust, uplink."),
    "edge": _Mount("edge_server.cli", "edge", "Run the edge server: tails and width control."),
    "provision": _Mount("provisioning.cli", "provision", "Put firmware, model and identity on boards."),
    "device": _Mount("device.cli", "device", "Run this Linux machine as a device."),
    "wire": _Mount("slimwire.wire_cli", "", "Look at bytes on the air."),
    "train": _Mount("training.cli", "train", "Train a slimmable model and write a bundle.", "train"),
    "eval": _Mount("models.cli", "edge", "Measure a bundle through the integer pipeline.", "evaluate"),
    "bench": _Mount("lab.bench.cli", "lab", "Measure parts against a peer or a limit."),
    "lab": _Mount("lab.cli", "lab", "Simulations, attacks and experiments."),
    "demo": _Mount("lab.demo.cli", "lab", "Watch one latent's whole journey, under attack.", "demo"),
}

#: Top-level packages that belong to us: a missing one is a bug, not a missing extra.
_ROOMS = {mount.module.partition(".")[0] for mount in MOUNTS.values()} | {"wire", "security", "firmware"}


def _load(name: str) -> Any:
    mount = MOUNTS[name]
    try:
        target = getattr(importlib.import_module(mount.module), mount.attribute)
    except ModuleNotFoundError as error:
        found = _missing_extra(name, error)
        if found is None:
            raise
        raise found from error
    room = target if isinstance(target, typer.Typer) else _single(target)
    room.rich_markup_mode = None  # as markup, the defaults in brackets of its help would be left out
    command = typer.main.get_command(room)
    command.name = name
    return command


def _missing_extra(name: str, error: ModuleNotFoundError) -> MissingExtraError | None:
    """What to tell of a package that command `name` misses; None where it is one of ours, or no extra's."""
    mount, missing = MOUNTS.get(name), (error.name or "").partition(".")[0]
    if mount is None or not mount.extra or missing in _ROOMS:
        return None
    return MissingExtraError(name, mount.extra, missing)


def _single(function: Callable[..., object]) -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return app


class _LazyGroup(TyperGroup):
    """A group whose subcommands are imported when they are asked for; listing them imports nothing."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(MOUNTS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in MOUNTS:
            return None
        return _load(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, mount.help) for name, mount in MOUNTS.items()])


app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Slimwire: let a cheap microcontroller use a big neural network over a bad radio, safely.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"slimwire {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: errors made for people are printed as such and end with their exit code."""
    try:
        app(prog_name="slimwire")
    except SlimwireError as error:
        _end(error)
    except ModuleNotFoundError as error:  # commands load some packages only when they run
        found = _missing_extra(next(iter(sys.argv[1:]), ""), error)
        if found is None:
            raise
        _end(found)
    except KeyboardInterrupt:
        sys.exit(130)


def _end(error: SlimwireError) -> None:
    print(f"slimwire: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
