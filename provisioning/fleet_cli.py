"""`slimwire provision` for identities: vault, key, rotate, revoke, re-enrol, backup, restore, ca."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from provisioning.errors import GatewayAwayError, NotHeardError, ProvisionError
from slimwire import output

_SITE = Annotated[str, typer.Option("--site", help="Site: the name of a file in sites/, or its path.")]
_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_KEY = Annotated[Path | None, typer.Option("--key-file", help="Key file that opens the vault.")]
_FILE = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line is the vault's passphrase.")
]
_STDIN = Annotated[
    bool, typer.Option("--passphrase-stdin", help="Read the vault's passphrase from standard input.")
]
_DEVICE = Annotated[str, typer.Argument(help="The device: its EUI-64, or its name.")]
_POLL_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `slimwire provision`."""
    app.command()(vault)
    app.command()(key)
    app.command()(rotate)
    app.command()(revoke)
    app.command("re-enrol")(re_enrol)
    app.command()(backup)
    app.command()(restore)
    app.command()(ca)


def vault(
    site: _SITE = "lab",
    key_file: _KEY = None,
    passphrase_file: _FILE = None,
    passphrase_stdin: _STDIN = False,
    as_json: _JSON = False,
) -> None:
    """Give a site an encrypted fleet vault: roots, signing key and registries are in it from then on."""
    from provisioning import fleet, secret  # noqa: PLC0415

    opened = _load(site)
    own = opened.vault
    chosen = secret.find(
        key=key_file or _beside(opened, own.key_file),
        file=passphrase_file or _beside(opened, own.passphrase_file),
        stdin=passphrase_stdin,
        new=True,
    )
    public = fleet.make_vault(opened.directory, chosen, name=opened.site)
    _done(
        as_json,
        {"site": opened.site, "directory": str(opened.directory), "public_key": public.raw.hex()},
        f"the site {opened.site} has a vault; back it up: slimwire provision backup FILE. Without "
        f"{chosen.origin} nobody can open it.",
    )


def key(site: _SITE = "lab", as_json: _JSON = False) -> None:
    """The public key that the site's gateway and edge server are told (registry_key)."""
    from provisioning.identity import PUBLIC_FILE  # noqa: PLC0415
    from security.errors import RegistryError  # noqa: PLC0415
    from security.signed import VerifyKey  # noqa: PLC0415

    opened = _load(site)
    try:
        public = VerifyKey.load(opened.directory / PUBLIC_FILE)
    except RegistryError as error:
        raise ProvisionError(error.what, expected=error.expected, remedy=error.remedy) from None
    if as_json:
        output.print_json({"site": opened.site, "public_key": public.raw.hex(), "id": public.id})
    else:
        typer.echo(public.raw.hex())


def rotate(
    device: Annotated[
        list[str] | None, typer.Argument(help="Devices: EUI-64 or name; several at once.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every device that is not revoked.")] = False,
    site: _SITE = "lab",
    wait: Annotated[
        int, typer.Option(help="Seconds to wait until the gateway heard each in its new epoch.", min=0)
    ] = 0,
    key_file: _KEY = None,
    passphrase_file: _FILE = None,
    passphrase_stdin: _STDIN = False,
    as_json: _JSON = False,
) -> None:
    """Give devices new keys of the same root: the edge server orders the switch in its next answers."""
    from provisioning import fleet  # noqa: PLC0415

    if bool(device) == every:
        raise ProvisionError("name one or more devices, or --all")
    opened = _load(site)
    heard = _heard(opened)
    with _open(opened, key_file, passphrase_file, passphrase_stdin) as work:
        euis = (
            [eui for eui, each in work.gateway.devices.items() if not each.revoked]
            if every
            else [fleet.find(work, each) for each in device or ()]
        )
        done = fleet.rotate(work, euis, heard)
        version = work.gateway.version
    if wait:
        _wait(opened, done, wait)
    rows = [{"eui64": each.eui.hex(), "from": each.before, "to": each.epoch} for each in done]
    _done(
        as_json,
        {"site": opened.site, "version": version, "rotated": rows, "heard": bool(wait)},
        f"{len(done)} devices will be ordered to their next epoch; the one before is accepted for 24 h after "
        "the first message in the new one",
    )


def revoke(
    device: _DEVICE,
    site: _SITE = "lab",
    key_file: _KEY = None,
    passphrase_file: _FILE = None,
    passphrase_stdin: _STDIN = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: _JSON = False,
) -> None:
    """Refuse a device from the next frame on; its root is forgotten."""
    from provisioning import fleet  # noqa: PLC0415

    opened = _load(site)
    with _open(opened, key_file, passphrase_file, passphrase_stdin) as work:
        eui = fleet.find(work, device)
        _confirm(yes, f"refuse {eui.hex()} ({work.gateway.devices[eui].name}) from now on?")
        fleet.revoke(work, eui)
        version = work.gateway.version
    _done(
        as_json,
        {"site": opened.site, "version": version, "revoked": eui.hex()},
        f"{eui.hex()} is revoked; give both registries to their services, if these do not read them here",
    )


def re_enrol(
    device: _DEVICE,
    site: _SITE = "lab",
    settings_file: Annotated[
        Path | None,
        typer.Option("--settings-file", help="Write a Linux device's new device.json here (mode 0600)."),
    ] = None,
    key_file: _KEY = None,
    passphrase_file: _FILE = None,
    passphrase_stdin: _STDIN = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: _JSON = False,
) -> None:
    """A new root for a device whose old one was stolen or which was revoked: the old one ends at once."""
    from provisioning import fleet  # noqa: PLC0415

    opened = _load(site)
    if settings_file is not None and settings_file.exists():
        raise ProvisionError(f"{settings_file} exists", remedy="name a new file")
    with _open(opened, key_file, passphrase_file, passphrase_stdin) as work:
        eui = fleet.find(work, device)
        _confirm(yes, f"give {eui.hex()} a new root? Until it is on the device, the device is refused.")
        given = fleet.re_enrol(work, eui, opened.options(None) if opened.wifi is None else None)
        version = work.gateway.version
    then = "write it to the board: slimwire provision up"
    if settings_file is not None:
        fleet.write_settings(settings_file, json.dumps(given, indent=1) + "\n")
        then = f"{settings_file} is its device.json; give the device counter files of a new identity with it"
    _done(
        as_json,
        {
            "site": opened.site,
            "version": version,
            "re_enrolled": eui.hex(),
            "epoch": given["epoch"],
            "settings_file": None if settings_file is None else str(settings_file),
        },
        f"{eui.hex()} has a new root, epoch {given['epoch']}; {then}",
    )


def backup(
    file: Annotated[Path, typer.Argument(help="New file for the backup.")],
    site: _SITE = "lab",
    key_file: _KEY = None,
    passphrase_file: _FILE = None,
    passphrase_stdin: _STDIN = False,
    as_json: _JSON = False,
) -> None:
    """Copy the vault, encrypted as it is, while others may use it."""
    from provisioning import fleet  # noqa: PLC0415

    opened = _load(site)
    with _open(opened, key_file, passphrase_file, passphrase_stdin) as work:
        count = fleet.backup(work, file)
        version = work.gateway.version
    _done(
        as_json,
        {"site": opened.site, "file": str(file), "devices": count, "version": version},
        f"{file} holds {count} devices as of version {version}; the same passphrase or key file opens it",
    )


def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    site: _SITE = "lab",
    without_registries: Annotated[
        bool,
        typer.Option(
            "--without-registries",
            help="The site's registries are lost: take those of the backup, and forget what came after it.",
        ),
    ] = False,
    key_file: _KEY = None,
    passphrase_file: _FILE = None,
    passphrase_stdin: _STDIN = False,
    as_json: _JSON = False,
) -> None:
    """Bring a vault back. Identities written after it have new roots and new epochs."""
    from provisioning import fleet  # noqa: PLC0415

    opened = _load(site)
    chosen = _secret(opened, key_file, passphrase_file, passphrase_stdin)
    back = fleet.restore(opened.directory, file, chosen, without_registries=without_registries)
    _done(
        as_json,
        {
            "site": opened.site,
            "version": back.version,
            "devices": back.devices,
            "compared": back.compared,
            "roots": back.known,
            "aside": None if back.aside is None else str(back.aside),
        },
        f"{back.devices} devices are back under version {back.version}, {back.known} with a root that can be "
        "rotated; the others keep their keys until their next `provision up --new-identity`",
    )


def ca(
    device: Annotated[
        list[str] | None, typer.Argument(help="Devices to give a certificate: EUI-64 or name.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for the files.")] = Path("mqtt-tls"),
    site: _SITE = "lab",
    server: Annotated[
        list[str] | None, typer.Option(help="Host name or address of the broker, for its certificate.")
    ] = None,
    days: Annotated[int, typer.Option(help="How long device certificates last.", min=1, max=3650)] = 730,
    key_file: _KEY = None,
    passphrase_file: _FILE = None,
    passphrase_stdin: _STDIN = False,
    as_json: _JSON = False,
) -> None:
    """Client certificates for MQTT devices, the broker's own, and the list of revoked ones (mosquitto)."""
    from provisioning import ca as authority  # noqa: PLC0415
    from provisioning import fleet  # noqa: PLC0415

    opened = _load(site)
    with _open(opened, key_file, passphrase_file, passphrase_stdin) as work:
        euis = [fleet.find(work, each) for each in device or ()]
        files = authority.write_site(work, out, devices=euis, servers=server or (), days=days)
    _done(
        as_json,
        {"site": opened.site, "directory": str(out), "files": [str(path) for path in files]},
        f"{len(files)} files are in {out}; ca.pem and crl.pem are the broker's cafile and crlfile",
    )


def _load(name: str) -> Any:
    from provisioning.site_file import SiteFile  # noqa: PLC0415

    return SiteFile.load(name)


def _beside(opened: Any, path: Path | None) -> Path | None:
    return None if path is None else opened.path.parent / path


def _secret(opened: Any, key_file: Path | None, file: Path | None, stdin: bool) -> Any:
    from provisioning import secret  # noqa: PLC0415

    if key_file is not None or file is not None or stdin:
        return secret.find(key=key_file, file=file, stdin=stdin)
    return opened.vault_secret()


def _open(opened: Any, key_file: Path | None, file: Path | None, stdin: bool) -> Any:
    from provisioning.identity import GATEWAY_FILE, has_vault  # noqa: PLC0415
    from provisioning.sites import open_site  # noqa: PLC0415

    if not (opened.directory / GATEWAY_FILE).exists() and not has_vault(opened.directory):
        raise ProvisionError(
            f"the site {opened.site!r} has no registries in {opened.directory}",
            remedy="enrol a device first: slimwire provision up",
        )
    chosen = _secret(opened, key_file, file, stdin) if has_vault(opened.directory) else None
    return open_site(opened, create=True, secret=chosen)


def _heard(opened: Any) -> dict[bytes, int]:
    """The epoch in which the gateway heard each rotating device; nothing where it does not answer."""
    from provisioning.watch import Gateway  # noqa: PLC0415

    try:
        devices = Gateway(opened.admin_sockets()).devices()
    except GatewayAwayError:
        return {}
    return {
        bytes.fromhex(each["device"]): each["epoch_heard"]
        for each in devices
        if each.get("epoch_heard") is not None
    }


def _wait(opened: Any, done: Any, seconds: int) -> None:
    until = time.monotonic() + seconds
    missing = {each.eui: each.epoch for each in done}
    while missing:
        heard = _heard(opened)
        missing = {eui: epoch for eui, epoch in missing.items() if heard.get(eui, -1) < epoch}
        if missing and time.monotonic() > until:
            raise NotHeardError(
                f"{len(missing)} of {len(done)} devices were not heard in the new epoch within {seconds} s: "
                + ", ".join(eui.hex() for eui in list(missing)[:5]),
                expected="a message of each",
                remedy="nothing is lost: they are ordered again with each answer, and the old epoch goes on "
                "being accepted. Do both services read the new registries?",
            )
        if missing:
            time.sleep(_POLL_S)


def _confirm(yes: bool, question: str) -> None:
    if not yes and not typer.confirm(question, err=True):
        raise typer.Exit(1)


def _done(as_json: bool, report: dict[str, Any], text: str) -> None:
    if as_json:
        output.print_json(report)
    else:
        output.stderr.print(text, highlight=False, soft_wrap=True)
