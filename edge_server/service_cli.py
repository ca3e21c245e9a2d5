"""`slimwire edge check|config|install|upgrade|uninstall`: the edge server as a service."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimwire.checks import Check, certificate, failed, private_key
from slimwire.errors import SlimwireError
from slimwire.service_cli import (
    Config,
    Documented,
    DryRun,
    Json,
    Root,
    Start,
    installed,
    show_checks,
    show_report,
)

if TYPE_CHECKING:
    from edge_server.settings import Settings

app = typer.Typer()


def _installed() -> Path | None:
    from edge_server.unit import SETTINGS  # noqa: PLC0415

    return installed(SETTINGS)


@app.command()
def check(config: Config = None, as_json: Json = False) -> None:
    """Look at everything a start needs: settings, registry, bundles, port, state directory.

    Ends with status 1 if something is wrong.
    """
    try:
        found = _look(config or _installed())
    except PermissionError as error:
        remedy = "run this as root (sudo), or as the user that runs the edge server"
        found = [Check("access", f"{error.filename} is not ours to look at", False, remedy)]
    show_checks(found, as_json)


def _look(config: Path | None) -> list[Check]:
    from edge_server.settings import load  # noqa: PLC0415
    from models.bundle import Bundle  # noqa: PLC0415
    from models.errors import BundleError  # noqa: PLC0415
    from security.errors import SecurityError  # noqa: PLC0415
    from security.registry import EDGE, EdgeRegistry  # noqa: PLC0415
    from security.signed import Gate, VerifyKey  # noqa: PLC0415

    try:
        settings = load(config)
    except SlimwireError as error:
        return [failed("settings", error)]
    found = [Check("settings", "every value is one that can be"), *_listener(settings)]
    if settings.registry is None:
        found.append(Check("registry", "none: images only", remedy="name edge-registry.json as `registry`"))
    else:
        try:
            key = settings.registry_key
            gate = None if key is None else Gate(EDGE, VerifyKey.of(key))
            devices = len(EdgeRegistry.load(settings.registry, gate).devices)
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


def _listener(settings: "Settings") -> Iterator[Check]:
    """Who can reach the server, and what it asks of them."""
    from slimwire.transport import read_tokens  # noqa: PLC0415

    try:
        settings.check_listener()
        settings.context()
        if settings.token_file is not None:
            yield Check("token", f"{settings.token_file}: {len(read_tokens(settings.token_file))} tokens")
    except SlimwireError as error:
        yield failed("access", error)
        return
    if settings.certificate is not None:
        yield certificate(settings.certificate, "the settings")
        yield from private_key(settings.key or settings.certificate)


@app.command()
def config(config: Config = None, documented: Documented = False) -> None:
    """Print the settings in force, as a settings file."""
    from edge_server.settings import Settings, load  # noqa: PLC0415
    from edge_server.unit import TITLE  # noqa: PLC0415
    from slimwire.settings_file import documented as document  # noqa: PLC0415
    from slimwire.settings_file import effective  # noqa: PLC0415

    typer.echo(document(Settings, TITLE) if documented else effective(load(config or _installed())), nl=False)


@app.command()
def install(
    root: Root = Path("/"), start: Start = True, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Install the edge server as a hardened systemd service: settings file, unit, directories."""
    from edge_server.unit import SETTINGS, installation, unit_text  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    text = unit_text(Path("/") / SETTINGS)
    if dry_run:
        typer.echo(text, nl=False)
        return
    show_report(installation().install(Staged(root), text, start=start), as_json)


@app.command()
def upgrade(root: Root = Path("/"), config: Config = None, as_json: Json = False) -> None:
    """After a new version was installed: settings to its format, with a backup; its unit; a restart.

    With --config only that file is rewritten.
    """
    from edge_server.unit import SETTINGS, installation, unit_text  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    report = installation().upgrade(Staged(root), config, lambda: unit_text(Path("/") / SETTINGS))
    show_report(report, as_json)


@app.command()
def uninstall(
    root: Root = Path("/"),
    purge: Annotated[
        bool, typer.Option("--purge", help="Also settings and state: counters answered are forgotten.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop the service and remove it; settings and state stay, unless purged."""
    from edge_server.unit import installation  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    show_report(installation().uninstall(Staged(root), purge=purge), as_json)
