"""`slimwire lab frontier`."""

from pathlib import Path
from typing import Annotated

import typer

from slimwire import output
from slimwire.errors import SlimwireError


def frontier(
    data: Annotated[
        str, typer.Option(help="fashion-mnist, cifar10, or a .npz with x (N,H,W[,C]) uint8 and y (N,).")
    ] = "fashion-mnist",
    bundle: Annotated[
        str | None,
        typer.Option(help="A shipped bundle, or a bundle's directory [the one of the data's name]."),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(help="A .npz of records of the same test images [those that ship for the data set]."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws that the intervals rest on.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="Write a picture here (PNG, SVG, PDF).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Accuracy for bytes: the bundle beside independent heads, bottlenecks, JPEG, WebP and the rest."""
    from lab.experiments.frontier import plot as plots  # noqa: PLC0415
    from lab.experiments.frontier import report, rows  # noqa: PLC0415
    from lab.experiments.frontier.compare import Table  # noqa: PLC0415
    from models.bundle import Bundle  # noqa: PLC0415
    from models.cli import data_for  # noqa: PLC0415
    from models.errors import BundleError  # noqa: PLC0415

    try:
        loaded = Bundle.load(bundle or data)
        images = data_for(loaded, data)
        others, missing = rows.recorded(records or rows.RECORDS / f"{images.name}.npz", images)
        for line in missing:
            output.stderr.print(line, style="yellow", markup=False, soft_wrap=True)
        table = Table.of(rows.measure(loaded, images), others, seed)
    except BundleError as error:
        raise SlimwireError(str(error)) from error
    found = report.as_json(table, images, seed)
    if plot is not None:
        plots.draw(found, plot)
    if as_json:
        output.print_json(found)
    else:
        output.stdout.print(report.table(found))
