"""`slimwire eval`: a bundle's figures on a data set, through the integer pipeline that ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from models.bundle import Bundle
from models.data_files import DataSet
from models.datasets import SOURCES, load, load_npz
from models.errors import BundleError
from models.evaluate import evaluate as measure


def evaluate(
    bundle: Annotated[str, typer.Argument(help="A shipped bundle's name, or a bundle's directory.")],
    data: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(SOURCES)} (its test split), or a .npz with x (N,H,W[,C]) uint8 and y (N,) "
            "[the data set that the bundle was trained on]."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a bundle: integer head → coded bytes → decoder → LiteRT tail, at every width."""
    try:
        loaded = Bundle.load(bundle)
        found = data_for(loaded, data)
        with Console(stderr=True).status(f"{len(found.x)} images at {len(loaded.widths)} widths"):
            result = measure(loaded, found.x, found.y)
    except BundleError as error:
        typer.echo(f"slimwire eval: {error}", err=True)
        raise typer.Exit(2) from error
    result["data"] = {"name": found.name, "source": found.source, "n": len(found.x)}
    if result["head"]["ram_bytes"] is None:
        typer.echo(
            "slimwire eval: there is no `micropython` here, so ram_bytes is null; "
            "pip install 'slimwire[lab]'",
            err=True,
        )
    if as_json:
        typer.echo(json.dumps(result))
        return
    table = Table(title=f"{result['bundle']} on {found.name} ({found.source}), {result['n']} images")
    for heading in (
        "width",
        "top-1 %",
        "95 % interval",
        "bytes mean",
        "p99",
        "frames mean",
        "MMAC on the device",
    ):
        table.add_column(heading, justify="right")
    for row in result["widths"]:
        low, high = row["top1_ci95"]
        table.add_row(
            f"{row['width']:.2f}",
            f"{100 * row['top1']:.2f}",
            f"{100 * low:.2f}–{100 * high:.2f}",
            f"{row['bytes']['mean']:.1f}",
            f"{row['bytes']['p99']:.0f}",
            f"{row['frames']['mean']:.2f}",
            f"{row['macs'] / 1e6:.3f}",
        )
    Console().print(table)
    head, full = result["head"], result["full_model"]
    ram = "" if head["ram_bytes"] is None else f", {head['ram_bytes']} of heap"
    streamed = "" if not ram else f" ({head['ram_bytes_streamed']} with the weights left in flash)"
    typer.echo(f"head: {head['params']} weights, {head['flash_bytes']} bytes of flash{ram}{streamed}")
    if full is not None:
        typer.echo(
            f"without bottleneck and quantisation, as training recorded it: {100 * full['top1']:.2f} %, "
            f"{full['macs'] / 1e6:.2f} MMAC"
        )


def data_for(bundle: Bundle, data: str | None) -> DataSet:
    """The images that a bundle is to be measured on: ``data`` is a data set's name, a ``.npz`` or None.

    Raises BundleError: no such data, or a named data set of other classes than the bundle's.
    """
    own = str(bundle.info["data"].get("name"))
    name = data or next((name for name, source in SOURCES.items() if own in (name, source.title)), None)
    if name is None:
        raise BundleError(f"{bundle.name} was trained on {own!r}; say what to measure it on: --data FILE.npz")
    if name not in SOURCES:
        path = Path(name)
        if path.suffix != ".npz":
            raise BundleError(f"{name!r} is no data set; expected one of {', '.join(SOURCES)} or a .npz file")
        x, y = load_npz(path)
        return DataSet(path.name, "npz", x, y)
    if list(SOURCES[name].classes) != bundle.classes:
        raise BundleError(
            f"{name} has the classes {', '.join(SOURCES[name].classes)}; "
            f"expected the bundle's {', '.join(bundle.classes)}"
        )
    return load(name, "test")
