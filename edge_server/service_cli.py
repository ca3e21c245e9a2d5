"""`slimwire edge check|config|install|upgrade|uninstall`: the edge server as a service."""

import os
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from slimwire import checks, output
from slimwire.checks import Check, failed
from slimwire.errors import SlimwireError
from slimwire.settings import SettingsError

app = typer.Typer()

_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_CONFIG = Annotated[
    Path | None,
    typer.Option("--config", help="Settings in TOML [the installed service's, if there are any]."),
]
_ROOT = Annotated[Path, typer.Option(help="Work below this directory instead, starting nothing.")]


def _installed() -> Path | None:
    from edge_server.unit import SETTINGS  # noqa: PLC0415

    path = Path("/") / SETTINGS
    return path if path.exists() else None


@app.command()
def check(config: _CONFIG = None, as_json: _JSON = False) -> None:
    """Look at everything a start needs: settings, registry, bundles, port, state directory.

    Ends with status 1 if something is wrong.
    """
    found = _look(config or _installed())
    if as_json:
        output.print_json(checks.as_json(found))
    else:
        checks.show(found)
    if not all(each.good for each in found):
        raise typer.Exit(1)


def _look(config: Path | None) -> list[Check]:
    from edge_server.settings import load  # noqa: PLC0415
    from models.bundle import Bundle  # noqa: PLC0415
    from models.errors import BundleError  # noqa: PLC0415
    from security.errors import SecurityError  # noqa: PLC0415
    from security.registry import EdgeRegistry  # noqa: PLC0415

    try:
        settings = load(config)
    except SlimwireError as error:
        return [failed("settings", error)]
    found = [Check("settings", "every value is one that can be")]
    if settings.registry is None:
        found.append(Check("registry", "none: images only", remedy="name edge-registry.json as `registry`"))
    else:
        try:
            devices = len(EdgeRegistry.load(settings.registry).devices)
            found.append(Check("registry", f"{settings.registry}: {devices} devices"))
        except SecurityError as error:
            found.append(Check("registry", error.what, False, error.remedy or "restore it from a backup"))
    for name in settings.bundles:
        try:
            found.append(Check("bundle", str(Bundle.load(name).path)))
        except BundleError as error:
            found.append(Check("bundle", str(error), False, "name a bundle that ships, or a directory"))
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        found.append(Check("port", f"TCP {settings.host}:{settings.port} is free"))
    except OSError as error:
        found.append(
            Check(
                "port",
                f"TCP {settings.host}:{settings.port} cannot be listened on: {error.strerror}",
                False,
                f"stop what uses it (ss -ltnp | grep {settings.port}), or set another `port`",
            )
        )
    if settings.state is not None:
        there = settings.state
        while not there.exists():
            there = there.parent
        writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        found.append(
            Check("state", f"{settings.state}")
            if writable
            else Check("state", f"{settings.state} cannot be written", False, "name another as `state`")
        )
    return found


@app.command()
def config(
    config: _CONFIG = None,
    documented: Annotated[
        bool, typer.Option("--documented", help="A file with every setting, its meaning and its default.")
    ] = False,
) -> None:
    """Print the settings in force, as a settings file."""
    from edge_server.settings import Settings, load  # noqa: PLC0415
    from edge_server.unit import TITLE  # noqa: PLC0415
    from slimwire.settings_file import documented as document  # noqa: PLC0415
    from slimwire.settings_file import effective  # noqa: PLC0415

    typer.echo(document(Settings, TITLE) if documented else effective(load(config or _installed())), nl=False)


@app.command()
def install(
    root: _ROOT = Path("/"),
    start: Annotated[bool, typer.Option(help="Enable and start the service.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the unit, change nothing.")] = False,
    as_json: _JSON = False,
) -> None:
    """Install the edge server as a hardened systemd service: settings file, unit, directories."""
    from edge_server.unit import SETTINGS, installation, unit_text  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    text = unit_text(Path("/") / SETTINGS)
    if dry_run:
        typer.echo(text, nl=False)
        return
    _show(installation().install(Staged(root), text, start=start), as_json)


@app.command()
def upgrade(root: _ROOT = Path("/"), config: _CONFIG = None, as_json: _JSON = False) -> None:
    """After a new version was installed: settings to its format, with a backup; its unit; a restart.

    With --config only that file is rewritten.
    """
    from edge_server.unit import SETTINGS, installation, unit_text  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    staged, mine = Staged(root), installation()
    path = config or staged.path(SETTINGS)
    if not path.exists():
        raise SettingsError(f"{path}: no such file", remedy="slimwire edge install")
    report = mine.upgrade_settings(staged, path)
    if config is None:
        report["unit_changed"] = mine.restart(staged, unit_text(Path("/") / SETTINGS))
    _show(report, as_json)


@app.command()
def uninstall(
    root: _ROOT = Path("/"),
    purge: Annotated[
        bool, typer.Option("--purge", help="Also settings and state: counters answered are forgotten.")
    ] = False,
    as_json: _JSON = False,
) -> None:
    """Stop the service and remove it; settings and state stay, unless purged."""
    from edge_server.unit import installation  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    _show(installation().uninstall(Staged(root), purge=purge), as_json)


def _show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(report)
    else:
        checks.show_report(report)
