"""`slimwire provision`: firmware, model and identity onto boards; a board emulated on this machine."""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from provisioning import boards_cli, fleet_cli, linux
from provisioning.errors import ProvisionError
from slimwire import output

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Put firmware, model and identity on boards."
)

_WIFI_KEY = "SLIMWIRE_WIFI_KEY"

boards_cli.register(app)
fleet_cli.register(app)
linux.register(app)


@app.callback()
def _root() -> None:
    """Put firmware, model and identity on boards."""


@app.command()
def install(
    port: Annotated[
        str, typer.Option(help="Serial port; auto, or id:SERIAL, as mpremote names it.")
    ] = "auto",
    site_dir: Annotated[Path, typer.Option(help="Directory of the site's registries.")] = Path("site"),
    bundle: Annotated[str, typer.Option(help="Model to install, by name or directory.")] = "fashion-mnist",
    site: Annotated[str, typer.Option(help="The site's name; part of the devices' keys.")] = "lab",
    gateway: Annotated[str | None, typer.Option(help="The gateway's EUI-64; else the site's own.")] = None,
    eui64: Annotated[
        str | None, typer.Option(help="The device's EUI-64; else made of the board's own number.")
    ] = None,
    name: Annotated[str, typer.Option(help="What people call the device.")] = "",
    host: Annotated[str, typer.Option(help="Where the device sends its ZEP frames.")] = "127.0.0.1",
    udp_port: Annotated[int, typer.Option(help="UDP port there.", min=1, max=65535)] = 17754,
    wifi_ssid: Annotated[
        str | None, typer.Option(help=f"Network to join; its key from ${_WIFI_KEY}.")
    ] = None,
    period_ms: Annotated[int, typer.Option(help="Between two samples.", min=1, max=3_600_000)] = 300,
    images: Annotated[int, typer.Option(help="Test images for the device's camera.", min=1, max=512)] = 16,
    source: Annotated[bool, typer.Option("--source", help="Send .py, not compiled code.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at the board, say what would be done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Install on a MicroPython board, read everything back, and enrol the device under a new root secret."""
    from models.bundle import Bundle  # noqa: PLC0415  (numpy loads only where it is used)
    from models.errors import BundleError  # noqa: PLC0415
    from provisioning.identity import DeviceOptions  # noqa: PLC0415
    from provisioning.install import Plan  # noqa: PLC0415
    from provisioning.install import install as run  # noqa: PLC0415

    defaults = DeviceOptions()
    wifi = None
    if wifi_ssid is not None:
        key = os.environ.get(_WIFI_KEY)
        if key is None and not dry_run:
            raise ProvisionError(
                f"${_WIFI_KEY} is not set", expected=f"the key of the network {wifi_ssid!r} in it"
            )
        wifi = {"ssid": wifi_ssid, "key": key or ""}
    try:
        loaded = Bundle.load(bundle)
    except BundleError as error:
        raise ProvisionError(f"the bundle {bundle!r} cannot be installed: {error}") from error
    plan = Plan(
        port=port,
        bundle=loaded,
        site_dir=site_dir,
        site=site,
        gateway=_eui64(gateway),
        eui=_eui64(eui64),
        name=name,
        options=DeviceOptions(
            link={**defaults.link, "host": host, "port": udp_port}, wifi=wifi, period_ms=period_ms, log=""
        ),
        images=images,
        sources=source,
    )
    report = run(
        plan, lambda line: output.stderr.print(line, highlight=False, soft_wrap=True), dry_run=dry_run
    )
    if as_json:
        output.print_json(report)
        return
    if dry_run:
        for file in report["files"]:
            output.stdout.print(f"{file['bytes']:>8}  {file['path']}", highlight=False, soft_wrap=True)
        return
    output.stdout.print(
        f"installed {report['bundle']} (model {report['model_tag']}) and firmware ({report['format']}) on "
        f"{report['eui64']}, epoch {report['epoch']}, site {report['site']}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def emulate(
    port: Annotated[Path, typer.Option(help="Path of the serial port to make.")],
    board: Annotated[str, typer.Option(help="Board profile to emulate, by name or file.")] = "generic",
    image: Annotated[
        Path | None, typer.Option(help="File that holds the flash; made if missing [PORT.img].")
    ] = None,
    size_kib: Annotated[int | None, typer.Option(help="Size of a new image.", min=64, max=1 << 20)] = None,
    heap_kib: Annotated[
        int | None, typer.Option(help="Heap of the interpreter.", min=32, max=1 << 20)
    ] = None,
    unique_id: Annotated[
        str | None, typer.Option(help="The chip's number, in hex [made of the image's path].")
    ] = None,
    cut_at_write: Annotated[
        int, typer.Option(help="Let the power fail in the middle of this write of the flash.", min=0)
    ] = 0,
) -> None:
    """Emulate a MicroPython board on this machine until Ctrl-C: any serial tool can drive it.

    The signal USR1 cuts its power for a moment.
    """
    from provisioning import profiles  # noqa: PLC0415
    from provisioning.emulated import emulate as start  # noqa: PLC0415

    profile = profiles.load(board)
    number = None
    if unique_id is not None:
        try:
            number = bytes.fromhex(unique_id)
        except ValueError as error:
            raise ProvisionError(f"--unique-id {unique_id} is no hexadecimal number") from error
    stop = threading.Event()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: stop.set())
    flash = image or port.with_name(port.name + ".img")
    with start(profile, flash, port, size_kib=size_kib, heap_kib=heap_kib, unique_id=number) as emulated:
        emulated.cut_at_write(cut_at_write)
        signal.signal(signal.SIGUSR1, lambda *_: emulated.cut_power())
        output.stderr.print(
            f"a MicroPython board is at {emulated.port}; Ctrl-C ends it", highlight=False, soft_wrap=True
        )
        stop.wait()


def _eui64(text: str | None) -> bytes | None:
    if text is None:
        return None
    from wire import eui64  # noqa: PLC0415
    from wire.errors import WireError  # noqa: PLC0415

    try:
        return eui64.parse(text)
    except WireError as error:
        raise ProvisionError(error.message) from error
