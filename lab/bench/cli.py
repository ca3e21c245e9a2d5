"""`slimwire bench`: measure parts against a peer or a limit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from slimwire.errors import SlimwireError
from slimwire.output import print_json, stdout

if TYPE_CHECKING:
    from models.bundle import Bundle

app = typer.Typer(no_args_is_help=True, help="Measure parts against a peer or a limit.")

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_Seed = Annotated[int, typer.Option(help="Of everything random.")]
_BundleName = Annotated[
    str, typer.Option("--bundle", help="A shipped bundle's name, or a bundle's directory.")
]


@app.command()
def head(bundle: _BundleName = "fashion-mnist", seed: _Seed = 1, json: _Json = False) -> None:
    """The head on MicroPython, against plain Python there, numpy and C here: microseconds an image."""
    from lab.bench.head import measure  # noqa: PLC0415

    loaded = _load(bundle)
    images = loaded.pictures().x
    image = images[np.random.default_rng(seed).integers(len(images))]
    widths = measure(loaded.headfile, image)
    if json:
        print_json({"widths": widths})
        return
    table = Table(
        "width",
        "MAC",
        "viper µs",
        "from file µs",
        "plain µs",
        "numpy µs",
        "C -O2 µs",
        "plain/viper",
        "viper/C",
    )
    for row in widths:
        viper, plain, c = row["viper_us"], row["plain_us"], row["c_us"]
        table.add_row(
            f"{row['width']:g}",
            f"{row['macs']:,}",
            f"{viper:.0f}",
            f"{row['viper_flash_us']:.0f}",
            f"{plain:.0f}",
            f"{row['numpy_us']:.0f}",
            "-" if c is None else f"{c:.0f}",
            f"{plain / viper:.0f}x",
            "-" if c is None else f"{viper / c:.1f}x",
        )
    stdout.print(table)


@app.command()
def device(bundle: _BundleName = "fashion-mnist", seed: _Seed = 1, json: _Json = False) -> None:
    """A Linux device's head, LiteRT on CPython, beside a board's, viper on MicroPython: us an image."""
    from lab.bench.linux import measure  # noqa: PLC0415

    loaded = _load(bundle)
    images = loaded.pictures().x
    result = measure(loaded.headfile, images[np.random.default_rng(seed).integers(len(images))])
    if json:
        print_json(result)
        return
    table = Table("width", "MAC", f"{result['runtime']} µs", "viper µs", "viper/LiteRT", "coder µs")
    for row in result["widths"]:
        table.add_row(
            f"{row['width']:g}",
            f"{row['macs']:,}",
            f"{row['litert_us']:.0f}",
            f"{row['viper_us']:.0f}",
            f"{row['times']:g}x",
            f"{row['coder_us']:.0f}",
        )
    stdout.print(table)


@app.command()
def switch(bundle: _BundleName = "fashion-mnist", seed: _Seed = 1, json: _Json = False) -> None:
    """Changing the width on the device, against loading a separate model for each width."""
    from lab.bench.switch import measure  # noqa: PLC0415

    result = measure(_load(bundle).headfile, seed)
    if json:
        print_json(result)
        return
    for where, one in (("in memory", result), ("left in its file", result["flash"])):
        stdout.print(
            f"head {where}: a switch takes {one['switch_us']} µs and {one['heap_bytes']} bytes of heap, "
            f"loading a width's own head takes {one['reload_us']} µs, "
            f"{one['reload_us'] / one['switch_us']:.0f} times as long"
        )


@app.command()
def fragments(json: _Json = False) -> None:
    """The gateway's receiver, which verifies every fragment, against scapy, which verifies none."""
    from lab.bench.fragments import measure  # noqa: PLC0415

    result = measure()
    if json:
        print_json(result)
        return
    stdout.print(
        f"{result['frames_per_s']:,} frames/s, {result['us_per_frame']} µs each, parsed, verified and "
        f"reassembled; scapy parses and defragments {result['scapy_frames_per_s']:,}: "
        f"{result['ratio']} times as many"
    )


@app.command()
def flood(
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="Simulated time.")] = 20.0,
    seed: _Seed = 1,
    json: _Json = False,
) -> None:
    """10,000 forged frames/s at the gateway's receiver, in this process, while 20 devices go on sending."""
    from lab.bench.flood import measure  # noqa: PLC0415

    result = measure(seconds, seed)
    if json:
        print_json(result._asdict())
        return
    stdout.print(
        f"{result.completed} of {result.datagrams} datagrams complete, {result.forged:,} forged frames, "
        f"{result.forged_accepted} accepted; {result.cpu_share:.0%} of a core; buffers at most "
        f"{result.peak_bytes:,} of {result.bound_bytes:,} bytes; resident memory grew by "
        f"{result.growth_bytes / 1024:.0f} KiB"
    )


@app.command()
def outbox(seed: _Seed = 1, json: _Json = False) -> None:
    """Messages the gateway's outbox commits a second, against one transaction each; the same durability."""
    from lab.bench.outbox import measure  # noqa: PLC0415

    result = measure(seed=seed)
    if json:
        print_json(result)
        return
    stdout.print(
        f"{result['commits_per_s']:,} messages/s committed, {result['messages_per_commit']:,} in a "
        f"transaction; one by one {result['one_by_one_per_s']:,}: {result['ratio']} times as many"
    )


@app.command()
def gateway(
    frames: Annotated[int, typer.Option(min=20_000, help="How many frames it is to serve.")] = 200_000,
    seed: _Seed = 1,
    json: _Json = False,
) -> None:
    """One gateway process, from frames in to batches out, as saturated radio channels."""
    from lab.bench.gateway import measure  # noqa: PLC0415

    result = measure(frames, seed)
    if json:
        print_json(result)
        return
    start, tenth, half, end = (f"{size / 2**20:.1f} MiB" for size in result["resident_bytes"])
    stdout.print(
        f"{result['frames_per_s']:,} frames/s, {result['latents_per_s']:,} latents/s, "
        f"{result['cpu_us_per_frame']} µs of processor time a frame: {result['radio_channels']} saturated "
        f"channels; resident memory over {result['frames']:,} frames: {start} at the start, {tenth} a "
        f"tenth of the way, {half} half way, {end} at the end"
    )


@app.command()
def control(
    bundle: _BundleName = "fashion-mnist",
    devices: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many are known.")] = 100_000,
    seed: _Seed = 1,
    json: _Json = False,
) -> None:
    """Width control on the edge server: time per answer, memory per device."""
    from edge_server.tails import options_of  # noqa: PLC0415
    from lab.bench.control import measure  # noqa: PLC0415

    result = measure(options_of(_load(bundle)), devices, seed)
    if json:
        print_json(result)
        return
    stdout.print(
        f"{result['us_per_answer']} µs an answer and {result['bytes_per_device']} bytes a device, "
        f"with {result['devices']:,} devices"
    )


def _load(name: str) -> "Bundle":
    from models.bundle import Bundle  # noqa: PLC0415
    from models.errors import BundleError  # noqa: PLC0415

    try:
        return Bundle.load(name)
    except BundleError as error:
        raise SlimwireError(str(error)) from error


@app.command()
def custody(
    messages: Annotated[int, typer.Option(min=10, max=100_000, help="One after the other.")] = 300,
    seed: _Seed = 1,
    directory: Annotated[
        Path | None, typer.Option(help="On the file system to measure [the one of temporary files].")
    ] = None,
    json: _Json = False,
) -> None:
    """From a Wi-Fi device's message, through mosquitto, to its custody, against two fsyncs and 2 ms."""
    from lab.bench.custody import measure  # noqa: PLC0415

    result = measure(messages, seed, directory)
    if json:
        print_json(result)
        return
    stdout.print(
        f"custody after {result['p50_ms']} ms (median of {messages}; 99th percentile {result['p99_ms']} ms); "
        f"an fsync takes {result['fsync_ms']} ms, so the bound is {result['bound_ms']} ms: "
        + ("met" if result["met"] else "NOT MET")
    )
