"""`slimwire gateway check|config|install|upgrade|uninstall|broker|top`: the gateway as a service."""

import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.errors import GatewayError
from slimwire import output
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

app = typer.Typer()
broker_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="mosquitto's files for a site, and a probe of a broker."
)
app.add_typer(broker_app, name="broker")


def _installed() -> Path | None:
    """The service's settings, if it is installed: then its directories are meant, too."""
    from gateway.unit import RUNTIME, SETTINGS, STATE  # noqa: PLC0415

    found = installed(SETTINGS)
    if found is not None:
        os.environ.setdefault("STATE_DIRECTORY", f"/{STATE}")
        os.environ.setdefault("RUNTIME_DIRECTORY", f"/{RUNTIME}")
    return found


@app.command()
def check(config: Config = None, as_json: Json = False) -> None:
    """Look at everything a start needs: settings, registry, ports, certificates, broker, edge server.

    Ends with status 1 if something is wrong.
    """
    from gateway.check import check as look  # noqa: PLC0415

    show_checks(look(config or _installed()), as_json)


@app.command()
def config(config: Config = None, documented: Documented = False) -> None:
    """Print the settings in force, as a settings file."""
    from gateway.install import TITLE  # noqa: PLC0415
    from gateway.settings import Settings, load  # noqa: PLC0415
    from slimwire.settings_file import documented as document  # noqa: PLC0415
    from slimwire.settings_file import effective  # noqa: PLC0415

    typer.echo(document(Settings, TITLE) if documented else effective(load(config or _installed())), nl=False)


@app.command()
def install(
    root: Root = Path("/"), start: Start = True, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Install the gateway as a hardened systemd service: settings file, unit, directories."""
    from gateway.install import installation, unit_for  # noqa: PLC0415
    from slimwire.systemd import Staged, hidden_program  # noqa: PLC0415

    staged = Staged(root)
    unit = unit_for(staged)
    if dry_run:
        if hidden_program("gateway"):
            typer.echo(f"warning: {hidden_program('gateway')}", err=True)
        typer.echo(unit, nl=False)
        return
    report = installation().install(staged, unit, start=start)
    show_report(report, as_json)


@app.command()
def upgrade(root: Root = Path("/"), config: Config = None, as_json: Json = False) -> None:
    """After a new version was installed: settings to its format, with a backup; its unit; a restart.

    With --config only that file is rewritten.
    """
    from gateway.install import installation, unit_for  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    staged = Staged(root)
    show_report(installation().upgrade(staged, config, lambda: unit_for(staged)), as_json)


@app.command()
def uninstall(
    root: Root = Path("/"),
    purge: Annotated[
        bool, typer.Option("--purge", help="Also settings, registry, outbox: messages in custody are lost.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop the service and remove it; settings and state stay, unless purged."""
    from gateway.install import installation  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    show_report(installation().uninstall(Staged(root), purge=purge), as_json)


@broker_app.command("config")
def broker_config(
    out: Annotated[Path, typer.Argument(help="Directory to write mosquitto.conf and slimwire.acl to.")],
    ca: Annotated[Path, typer.Option(help="The authority's certificate, on the broker's machine.")],
    certificate: Annotated[Path, typer.Option(help="The broker's certificate, on the broker's machine.")],
    key: Annotated[Path, typer.Option(help="Its private key, on the broker's machine.")],
    crl: Annotated[Path | None, typer.Option(help="Revoked certificates, on the broker's machine.")] = None,
    registry: Annotated[Path | None, typer.Option(help="registry.json [the state directory's].")] = None,
    listen: Annotated[str, typer.Option(help="Where mosquitto is to listen.")] = "0.0.0.0:8883",
) -> None:
    """Write mosquitto's configuration and access list for a site."""
    from gateway import broker  # noqa: PLC0415
    from gateway.links.zep import parse_endpoint  # noqa: PLC0415
    from gateway.settings import load  # noqa: PLC0415
    from security.registry import GatewayRegistry  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    site = GatewayRegistry.load(registry or load().registry_file())
    host, port = parse_endpoint(listen, 8883)
    files = broker.Files(ca, certificate, key, crl)
    access = out.resolve() / broker.ACCESS_FILE
    try:
        rules = broker.access_text(site.site, site.gateway)
    except ValueError as error:
        raise GatewayError(f"the site {site.site!r} cannot be part of a topic", expected=str(error)) from None
    staged = Staged(out)
    staged.write(access, rules.encode(), 0o644)
    text = broker.config_text(host, port, files, access, Path("/var/lib/mosquitto"))
    staged.write(out / broker.CONFIG_FILE, text.encode(), 0o644)
    typer.echo(f"{out / broker.CONFIG_FILE}\n{access}")


@broker_app.command("probe")
def broker_probe(
    device: Annotated[str, typer.Argument(help="EUI-64 of the device whose certificate is tried.")],
    certificate: Annotated[Path, typer.Option(help="The device's certificate.")],
    key: Annotated[Path, typer.Option(help="Its private key.")],
    revoked: Annotated[Path | None, typer.Option(help="A revoked certificate.")] = None,
    revoked_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Try at the broker of the settings what a device may and what it may not; status 1 if it differs."""
    from dataclasses import replace  # noqa: PLC0415

    from gateway.broker import probe  # noqa: PLC0415
    from gateway.legs import broker_of  # noqa: PLC0415
    from gateway.settings import load  # noqa: PLC0415
    from security.registry import GatewayRegistry  # noqa: PLC0415
    from wire import eui64  # noqa: PLC0415

    settings = load(config or _installed())
    if not settings.mqtt.broker:
        raise GatewayError("the settings name no broker", remedy="set [mqtt] broker")
    us = broker_of(settings.mqtt)
    own = eui64.parse(device)
    site = GatewayRegistry.load(settings.registry_file()).site
    other = bytes((own[0],)) + bytes(byte ^ 0xFF for byte in own[1:])
    findings = probe(
        us,
        replace(us, certificate=certificate, key=key),
        site,
        own,
        other,
        None if revoked is None else replace(us, certificate=revoked, key=revoked_key),
    )
    if as_json:
        output.print_json({"findings": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{'ok' if finding.as_it_must else 'WRONG':8}{finding.tried}: {finding.said}")
    if not all(finding.as_it_must for finding in findings):
        raise typer.Exit(1)
