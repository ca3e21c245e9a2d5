"""`slimwire provision` for boards: up, verify, flash, discover, list, show, logs, doctor, site."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from provisioning.errors import FaultsError, ProvisionError
from provisioning.eui64 import of_text
from slimwire import output

_PORT = Annotated[
    list[str],
    typer.Option("--port", help="Serial port: a path, a pattern, auto, or id:SERIAL; may be repeated."),
]
_ONE_PORT = Annotated[str, typer.Option("--port", help="Serial port: a path, auto, or id:SERIAL.")]
_BOARD = Annotated[
    str | None,
    typer.Option("--board", help="Board profile, by name or file; else what the board says it is."),
]
_SITE = Annotated[str, typer.Option("--site", help="Site: the name of a file in sites/, or its path.")]
_JOBS = Annotated[int, typer.Option("--jobs", help="Boards at a time.", min=1, max=64)]
_DRY = Annotated[bool, typer.Option("--dry-run", help="Print the whole plan; change nothing.")]
_YES = Annotated[bool, typer.Option("--yes", help="Replace what is somebody else's without asking.")]
_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_IMAGE = Annotated[
    str | None, typer.Option("--image", help="MicroPython to flash: a file, or a URL with --image-sha256.")
]
_SHA = Annotated[str | None, typer.Option("--image-sha256", help="SHA-256 that the image must have.")]
_EUI = Annotated[
    str | None, typer.Option("--eui64", help="The device's EUI-64; else made of the board's own number.")
]
_WAIT = Annotated[int, typer.Option("--wait", help="Seconds to wait for the device's message.", min=1)]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `slimwire provision`."""
    app.command()(up)
    app.command()(verify)
    app.command()(flash)
    app.command()(discover)
    app.command("list")(list_devices)
    app.command()(show)
    app.command()(logs)
    app.command()(doctor)
    app.command()(site)


def up(
    port: _PORT = ["auto"],  # noqa: B006 (typer copies it)
    board: _BOARD = None,
    site: _SITE = "lab",
    name: Annotated[str, typer.Option(help="What people call the device.")] = "",
    eui64: _EUI = None,
    image: _IMAGE = None,
    image_sha256: _SHA = None,
    bundle: Annotated[str | None, typer.Option(help="Model to install; else the site's.")] = None,
    source: Annotated[bool, typer.Option("--source", help="Send .py, not compiled code.")] = False,
    new_identity: Annotated[
        bool, typer.Option("--new-identity", help="Give the device a new root secret, whatever it has.")
    ] = False,
    wifi_key_stdin: Annotated[
        bool, typer.Option("--wifi-key-stdin", help="Read the Wi-Fi key from standard input.")
    ] = False,
    jobs: _JOBS = 4,
    wait: _WAIT = 60,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait for the gateway to take a message.")
    ] = False,
    dry_run: _DRY = False,
    yes: _YES = False,
    as_json: _JSON = False,
) -> None:
    """From a bare port to a verified fleet entry: flash, install, give an identity, read back, hear it.

    Each step leaves out what is done already: the same command goes on after an interruption, and does
    nothing once all is as it should be.
    """
    from provisioning import up as work  # noqa: PLC0415
    from provisioning.site_file import SiteFile, read_stdin  # noqa: PLC0415

    ports = _resolve(port)
    if "auto" in port and len(ports) > 1 and not (yes or dry_run):
        question = f"There are {len(ports)} USB serial ports: {', '.join(ports)}. Provision all of them?"
        if not _confirm()(question):
            raise ProvisionError(
                f"--port auto finds {len(ports)} ports: {', '.join(ports)}",
                expected="one, or somebody who agrees that all are meant",
                remedy="name a port with --port, or say --yes",
                fault="not-confirmed",
            )
    if len(ports) > 1 and (name or eui64):
        raise ProvisionError(f"--name and --eui64 are for one board, and there are {len(ports)}")
    opened = SiteFile.load(site)
    request = work.Request(
        site=opened,
        profile=_profile(board),
        bundle=_bundle(bundle or opened.device.bundle),
        key=read_stdin() if wifi_key_stdin else _wifi_key(opened, dry_run=dry_run),
        image=_image(opened, board, image, image_sha256),
        name=name,
        eui=of_text(eui64),
        sources=source,
        new_identity=new_identity,
        yes=yes,
        wait_s=None if no_wait else wait,
        dry_run=dry_run,
    )
    work.validate(request)
    confirm = _confirm()
    _over(
        ports,
        jobs,
        lambda each, check: work.Up(each, request, _progress, confirm, check=check).run(),
        opened.site,
        as_json,
    )


def verify(
    port: _PORT = ["auto"],  # noqa: B006
    board: _BOARD = None,
    site: _SITE = "lab",
    eui64: _EUI = None,
    jobs: _JOBS = 4,
    wait: _WAIT = 60,
    as_json: _JSON = False,
) -> None:
    """See that boards hold what they should, under keys that the registries have, and that they are heard."""
    from provisioning import up as work  # noqa: PLC0415
    from provisioning.site_file import SiteFile  # noqa: PLC0415

    opened = SiteFile.load(site)
    request = work.Request(
        site=opened,
        profile=_profile(board),
        bundle=_bundle(opened.device.bundle),
        key=_wifi_key(opened, dry_run=False),
        eui=of_text(eui64),
        wait_s=wait,
    )
    work.validate(request)
    _over(
        _resolve(port),
        jobs,
        lambda each, check: work.Up(each, request, _progress, only_verify=True, check=check).run(),
        opened.site,
        as_json,
    )


def flash(
    port: _ONE_PORT,
    board: Annotated[str, typer.Option("--board", help="Board profile, by name or file.")],
    image: _IMAGE = None,
    image_sha256: _SHA = None,
    site: Annotated[str | None, typer.Option("--site", help="Site whose image for the board to use.")] = None,
    erase: Annotated[bool, typer.Option("--erase", help="Erase all of the flash first.")] = False,
    dry_run: _DRY = False,
    as_json: _JSON = False,
) -> None:
    """Put MicroPython on a board and read it back: ESP32 chips by esptool, RP2 chips by their drive."""
    from provisioning import flashing  # noqa: PLC0415
    from provisioning.site_file import SiteFile  # noqa: PLC0415

    profile = _profile(board)
    assert profile is not None
    source = _image(None if site is None else SiteFile.load(site), board, image, image_sha256)
    if source is None:
        raise ProvisionError(
            "no MicroPython image is named", remedy=f"--image FILE; {profile.flash.images} has it"
        )
    where = port if port.startswith("socket://") else _resolve([port])[0]
    if dry_run:
        found = flashing.check(profile, source)
        detail = f"would flash {found.size} bytes, SHA-256 {found.sha256}, by {profile.flash.method}"
    else:
        detail = flashing.flash(where, profile, source, erase=erase).detail
    if as_json:
        output.print_json({"port": where, "board": profile.name, "dry_run": dry_run, "detail": detail})
    else:
        _say(f"{where}: {detail}")


def discover(
    look: Annotated[
        bool, typer.Option("--look", help="Ask each board what it is, which interrupts what it does.")
    ] = False,
    as_json: _JSON = False,
) -> None:
    """Serial ports of this computer, and which kinds of board each may be."""
    from provisioning import access, flashing, profiles  # noqa: PLC0415
    from provisioning.board import Board  # noqa: PLC0415

    known = {name: profiles.load(name).usb for name in profiles.names()}
    found = []
    for port in access.ports():
        row: dict[str, Any] = {
            "port": port.device,
            "usb": port.usb,
            "serial": port.serial,
            "description": port.description,
            "boards": [name for name, ids in known.items() if port.usb in ids],
        }
        if look:
            try:
                info = Board(port.device).probe()
                match = profiles.matching(info.machine)
                row.update(machine=info.machine, micropython=".".join(map(str, info.version)))
                row["boards"] = [] if match is None else [match.name]
            except ProvisionError as error:
                row["trouble"] = error.what
                if error.fault == "no-micropython":
                    with contextlib.suppress(ProvisionError):
                        row["chip"] = flashing.chip_of(port.device)
                        row["trouble"] = f"a bare {row['chip']}: it runs no MicroPython"
                        row["boards"] = [n for n in known if profiles.load(n).chip == row["chip"]]
        found.append(row)
    if as_json:
        output.print_json({"ports": found})
        return
    for row in found:
        usb = f"USB {row['usb']}, serial {row['serial'] or 'none'}" if row["usb"] else "no USB port"
        what = row.get("machine") or ", ".join(row["boards"]) or "unknown"
        _say(f"{row['port']}  {usb}  {row.get('trouble', what)}")
    if not found:
        _say("no serial port is here: connect a board, with a cable that carries data")


def list_devices(site: _SITE = "lab", as_json: _JSON = False) -> None:
    """The devices of a site: what they got, and when the gateway last heard them."""
    from provisioning.overview import overview  # noqa: PLC0415
    from provisioning.site_file import SiteFile  # noqa: PLC0415

    state = overview(SiteFile.load(site))
    if as_json:
        output.print_json(state)
        return
    from rich.table import Table  # noqa: PLC0415

    table = Table("device", "name", "board", "bundle", "epoch", "state", "last heard")
    for each in state["devices"]:
        heard = each.get("last_heard_s")
        last = "gateway away" if not state["answers"] else "never" if heard is None else f"{heard:.0f} s ago"
        table.add_row(
            each["eui64"],
            each["name"],
            each.get("board", ""),
            each.get("bundle", ""),
            ", ".join(map(str, each["epochs"])),
            "revoked" if each["revoked"] else each["state"] if each["enrolled"] else "not enrolled",
            last,
        )
    output.stdout.print(table)


def show(
    device: Annotated[str, typer.Argument(help="EUI-64, or name.")],
    site: _SITE = "lab",
    as_json: _JSON = False,
) -> None:
    """All that is known of one device. No secret is among it."""
    from provisioning.overview import device as find  # noqa: PLC0415
    from provisioning.site_file import SiteFile  # noqa: PLC0415

    found = find(SiteFile.load(site), device)
    if as_json:
        output.print_json(found)
        return
    for key, value in found.items():
        _say(f"{key:14}{', '.join(map(str, value)) if isinstance(value, list) else value}")


def logs(
    port: _ONE_PORT = "auto",
    seconds: Annotated[float | None, typer.Option(help="Stop after so many; else at Ctrl-C.")] = None,
) -> None:
    """What a board says, without interrupting it."""
    from provisioning import access  # noqa: PLC0415

    for line in access.listen(_resolve([port])[0], seconds):
        typer.echo(line)


def doctor(
    port: _ONE_PORT = "auto",
    board: _BOARD = None,
    site: Annotated[str | None, typer.Option("--site", help="Site to compare keys and gateway with.")] = None,
    eui64: _EUI = None,
    as_json: _JSON = False,
) -> None:
    """Look for what is wrong with a board, its port or its site, and name each fault with its remedy."""
    from provisioning.doctor import examine  # noqa: PLC0415
    from provisioning.site_file import SiteFile  # noqa: PLC0415

    opened = None if site is None else SiteFile.load(site)
    findings = examine(port, _profile(board), opened, of_text(eui64))
    faults = [each for each in findings if not each["ok"]]
    if as_json:
        output.print_json({"port": port, "faults": len(faults), "findings": findings})
    else:
        for each in findings:
            _say(f"{'ok   ' if each['ok'] else 'FAULT'}  {each['check']:16}{each['what']}")
            if not each["ok"] and each["remedy"]:
                _say(f"{'':23}remedy: {each['remedy']}")
    if faults:
        raise FaultsError("faults were found: " + ", ".join(each["fault"] for each in faults))


def site(
    name: Annotated[str, typer.Argument(help="Name of the site; part of its devices' keys.")],
    host: Annotated[str, typer.Option(help="The gateway's address as devices reach it.")],
    port: Annotated[int, typer.Option(help="UDP port there.", min=1, max=65535)] = 17754,
    wifi_ssid: Annotated[str | None, typer.Option(help="Network that boards join.")] = None,
    admin: Annotated[Path | None, typer.Option(help="The gateway's admin socket; else its default.")] = None,
    directory: Annotated[Path, typer.Option(help="Where site files lie.")] = Path("sites"),
) -> None:
    """Write a new site file and empty registries beside it."""
    from provisioning import site_file  # noqa: PLC0415
    from provisioning.sites import found_site  # noqa: PLC0415

    path = directory / f"{name}.toml"
    given = None if admin is None else admin.resolve()
    site_file.write(path, host=host, port=port, ssid=wifi_ssid, admin=given)
    found_site(site_file.SiteFile.load(str(path)))
    folder = path.parent / name
    _say(f"{path} and {folder}/ are made. Start the services with their registries:")
    _say(
        f"  slimwire gateway run --registry {folder / 'registry.json'} "
        f"--registry-key {folder / 'registry.pub'} --listen 0.0.0.0:{port}"
    )
    _say(
        f"  slimwire edge run --registry {folder / 'edge-registry.json'} "
        f"--registry-key {folder / 'registry.pub'}"
    )


def _over(
    ports: list[str],
    jobs: int,
    work: Callable[[str, Callable[[], None]], dict[str, Any]],
    site: str,
    as_json: bool,
) -> None:
    """Do the work for every port, tell, and end as the boards did."""
    from provisioning import many  # noqa: PLC0415

    reports, failed = many.each(ports, jobs, work)
    if as_json:
        done = len(reports) - len(failed)
        output.print_json({"site": site, "boards": reports, "done": done, "failed": len(failed)})
    else:
        for report in reports:
            _say(_sentence(report))
    error = many.verdict(len(reports), failed)
    if error is not None:
        if len(reports) > 1:
            for each in failed:
                output.stderr.print(str(each), highlight=False, soft_wrap=True, markup=False)
        raise error


def _sentence(report: dict[str, Any]) -> str:
    """One board's report, for people."""
    if "error" in report:
        return f"{report['port']}: failed: {report['error']['what']}"
    if report["dry_run"]:
        rest = "nothing would change" if not report.get("would_change", True) else "see the plan above"
        return f"{report['port']}: dry run; {rest}"
    state = "verified: the gateway took a message" if report["verified"] else "installed, not yet heard"
    what = "changed" if report["changed"] else "nothing to do"
    return f"{report['port']}: {report['eui64']} {what}; {state} ({report['elapsed_s']:.1f} s)"


def _say(line: str) -> None:
    output.stdout.print(line, highlight=False, soft_wrap=True, markup=False)


def _progress(progress: Any) -> None:
    if progress.result == "begun":
        return
    line = f"{progress.port}  {progress.step:12}{progress.result:8}{progress.detail}"
    output.stderr.print(line.rstrip(), highlight=False, soft_wrap=True, markup=False)


def _confirm() -> Callable[[str], bool]:
    """Asks the person at the terminal; where there is none, nobody agrees."""
    if not sys.stdin.isatty():
        return lambda _: False
    return lambda question: typer.confirm(question, err=True)


def _resolve(port: list[str]) -> list[str]:
    from provisioning import access  # noqa: PLC0415

    return access.resolve(port)


def _profile(board: str | None) -> Any:
    from provisioning import profiles  # noqa: PLC0415

    return None if board is None else profiles.load(board)


def _bundle(name: str) -> Any:
    from models.bundle import Bundle  # noqa: PLC0415
    from models.errors import BundleError  # noqa: PLC0415

    try:
        return Bundle.load(name)
    except BundleError as error:
        raise ProvisionError(f"the bundle {name!r} cannot be installed: {error}") from error


def _wifi_key(site: Any, *, dry_run: bool) -> str | None:
    def ask(question: str) -> str:
        answer: str = typer.prompt(question.removesuffix(": "), hide_input=True, err=True)
        return answer

    if dry_run:  # a look needs no secret
        key: str | None = site.wifi_key(lambda _: "")
    else:
        key = site.wifi_key(ask if sys.stdin.isatty() else None)
    return key


def _image(site: Any, board: str | None, image: str | None, sha256: str | None) -> Any:
    from provisioning.site_file import ImageSection  # noqa: PLC0415

    if image is not None:
        if sha256 is not None and not (len(sha256) == 64 and set(sha256.lower()) <= set("0123456789abcdef")):
            raise ProvisionError("--image-sha256 is no SHA-256", expected="64 hexadecimal digits")
        return ImageSection(image=image, sha256=sha256)
    return None if site is None or board is None else site.micropython.get(Path(board).stem)
