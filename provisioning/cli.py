"""`slimwire provision`: firmware, model and identity onto boards; a board emulated on this machine."""

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

boards_cli.register(app)
fleet_cli.register(app)
linux.register(app)


@app.callback()
def _root() -> None:
    """Put firmware, model and identity on boards."""


@app.command()
def emulate(
    port: Annotated[Path, typer.Option(help="Path of the serial port to make.")],
    board: Annotated[str, typer.Option(help="Board profile to emulate, by name or file.")] = "generic",
    image: Annotated[
        Path | None, typer.Option(help="File that holds the flash, made if missing; else PORT.img.")
    ] = None,
    size_kib: Annotated[int | None, typer.Option(help="Size of a new image.", min=64, max=1 << 20)] = None,
    heap_kib: Annotated[
        int | None, typer.Option(help="Heap of the interpreter.", min=32, max=1 << 20)
    ] = None,
    unique_id: Annotated[
        str | None, typer.Option(help="The chip's number, in hex; else made of the image's path.")
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
