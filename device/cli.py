"""`slimwire device`: run this machine as a device, install it as a service."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from device.errors import DeviceError, NoAnswerError
from slimwire import log, output

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Run this Linux machine as a device.")


class _Source(StrEnum):
    file = "file"
    npz = "npz"
    camera = "camera"


@app.callback()
def _root() -> None:
    """Run this Linux machine as a device."""


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Option(help="Identity and settings [device.json in the state directory].")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Directory of head.bin and the counters [$STATE_DIRECTORY, else that of --config]."
        ),
    ] = None,
    source: Annotated[
        _Source | None, typer.Option(help="Where samples come from [as device.json says].")
    ] = None,
    path: Annotated[
        str | None, typer.Option(help="The source's file; of a camera, its number, device, address or video.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Send one sample, print the answer, end.")] = False,
    seconds: Annotated[
        float | None, typer.Option(help="End after so long [run until SIGTERM].", min=0)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log what fails, not each message.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: the one answer, or an object a line for each event.")
    ] = False,
) -> None:
    """Capture, run the head at the present width, send, and take the answers: what a board does, on Linux."""
    from device.events import log_failure  # noqa: PLC0415
    from device.process import Job  # noqa: PLC0415  (LiteRT loads only where a device runs)
    from device.process import run as run_process  # noqa: PLC0415

    log.configure()
    directory = _state(config, state)
    job = Job(
        config=config or directory / "device.json",
        state=directory,
        source=_section(source, path),
        once=once,
        seconds=seconds,
    )
    if as_json and not once:
        job.on_event = output.print_json
    elif quiet:
        job.on_event = log_failure
    events = run_process(job)
    if not once:
        return
    result = _result(events)
    if as_json:
        output.print_json(result)
    if not result["answered"]:
        raise NoAnswerError(
            result.get("why") or f"no answer came to message {result['counter']}",
            remedy="look at `slimwire gateway status`: is the device heard there, and what is refused?",
        )
    if not as_json:
        output.stdout.print(
            f"class {result['class']}, confidence {result['confidence']:.2f}", highlight=False
        )


@app.command()
def install(
    identity: Annotated[
        Path, typer.Argument(help="Directory that enrolment wrote; its identity is moved, not copied.")
    ],
    root: Annotated[
        Path, typer.Option(help="Install below this directory instead, starting nothing.")
    ] = Path("/"),
    start: Annotated[bool, typer.Option(help="Enable and start the service.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make this machine a device: check it, place identity and head, and run them as a hardened service."""
    from device.install import install as run_install  # noqa: PLC0415
    from slimwire.checks import Check, show  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    report = run_install(identity, Staged(root), start=start, dry_run=dry_run)
    if as_json:
        output.print_json(report)
        return
    show(Check(**check) for check in report["checks"])
    for file in report["files"]:
        typer.echo(f"{file['bytes']:>8}  {file['path']}")
    if report["warning"]:
        typer.echo(f"warning: {report['warning']}", err=True)
    if dry_run:
        typer.echo("nothing was changed")
    elif not report["started"]:
        typer.echo(f"installed {report['eui64']}; start it with: systemctl enable --now slimwire-device")
    else:
        typer.echo(f"{report['eui64']} runs; see: journalctl -fu slimwire-device")


@app.command()
def uninstall(
    root: Annotated[Path, typer.Option(help="What was installed below this directory.")] = Path("/"),
    purge: Annotated[
        bool, typer.Option("--purge", help="Also identity and state: the device must then be enrolled anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Stop the service and remove it; identity and counters stay, unless purged."""
    from device.install import uninstall as run_uninstall  # noqa: PLC0415
    from slimwire.systemd import Staged  # noqa: PLC0415

    report = run_uninstall(Staged(root), purge=purge)
    if as_json:
        output.print_json(report)
        return
    for path in report["removed"]:
        typer.echo(f"removed {path}")
    if not report["removed"]:
        typer.echo("nothing was installed")


def _state(config: Path | None, state: Path | None) -> Path:
    if state is not None:
        return state
    if os.environ.get("STATE_DIRECTORY"):
        return Path(os.environ["STATE_DIRECTORY"])
    if config is not None:
        return config.parent
    raise DeviceError(
        "where the device keeps its files is not named",
        expected="--state DIR or --config DIR/device.json",
        remedy="name the directory that enrolment wrote",
    )


def _section(source: _Source | None, path: str | None) -> dict[str, Any] | None:
    """The source's section as the options say; None: as device.json says."""
    if source is None:
        if path is not None:
            raise DeviceError("--path is of a source", remedy="say which: --source file|npz|camera")
        return None
    section: dict[str, Any] = {"type": source.value}
    if path is not None:
        section["path"] = path if source is _Source.camera else str(Path(path).resolve())
    elif source is _Source.file:
        section["path"] = "camera.bin"
    return section


def _result(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What became of the one sample."""
    by_kind = {event["e"]: event for event in events}
    sent, answer, skipped = (by_kind.get(kind) for kind in ("sent", "answer", "skipped"))
    result: dict[str, Any] = {"answered": answer is not None}
    if sent:
        result |= {
            "counter": sent["c"],
            "image": sent["img"],
            "width": sent["w"] / 1000,
            "bytes": sent["bytes"],
            "frames": sent["frames"],
            "attempts": sent["a"] + 1,
        }
    if answer:
        result |= {
            "class": answer["cls"],
            "confidence": answer["conf"],
            "ms": answer["ms"],
            "next_width": answer["next"] / 1000,
        }
    if "custody" in by_kind:
        result["custody"] = by_kind["custody"]["status"]
    if skipped:
        result["why"] = skipped["why"]
    return result
