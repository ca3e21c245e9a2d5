"""`slimwire eval`: a bundle's figures on a data set, through the integer pipeline that ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from models.bundle import Bundle
from models.datasets import SOURCES, load_named, load_npz
from models.errors import BundleError
from models.evaluate import evaluate as measure


def evaluate(
    bundle: Annotated[str, typer.Argument(help="A shipped bundle's name, or a bundle's directory.")],
    data: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(SOURCES)} (its test split), or a .npz with x (N,H,W[,C]) uint8 and y (N,)."
        ),
    ] = "fashion-mnist",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a bundle: integer head → coded bytes → decoder → LiteRT tail, at every width."""
    try:
        x, y = load_named(data, "test") if data in SOURCES else _own(data)
        result = measure(Bundle.load(bundle), x, y)
    except BundleError as error:
        typer.echo(f"slimwire eval: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(result))
        return
    table = Table(title=f"{result['bundle']} on {data}, {result['n']} images")
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


def _own(data: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    path = Path(data)
    if path.suffix != ".npz":
        raise BundleError(f"{data!r} is no data set; expected one of {', '.join(SOURCES)} or a .npz file")
    return load_npz(path)
