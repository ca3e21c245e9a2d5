"""`slimwire train`: from a recipe to a bundle directory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from models.errors import BundleError
from slimwire.errors import SlimwireError
from training.recipes import RECIPES


def train(
    recipe: Annotated[str, typer.Option(help=f"What to train: {', '.join(RECIPES)}.")],
    out: Annotated[Path | None, typer.Option(help="Where the bundle goes (default: ./NAME).")] = None,
    seed: Annotated[int, typer.Option(help="Fixes order, augmentation and initial weights.")] = 1,
    work: Annotated[
        Path | None,
        typer.Option(help="Checkpoints (default: runs/NAME-SEED); an unfinished run goes on from them."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs, instead of the recipe's.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    export_only: Annotated[
        bool,
        typer.Option(
            "--export-only", help="Write the bundle from the latest checkpoint, trained as far as it is."
        ),
    ] = False,
) -> None:
    """Train a slimmable model and write its bundle: head, tail, tables, test images, measured figures, card.

    The Fashion-MNIST recipe takes 70 to 90 minutes on one core. A run that was stopped goes on from its last
    epoch when the same command is given again.
    """
    if recipe not in RECIPES:
        raise SlimwireError(f"no recipe is called {recipe!r}", expected=f"one of {', '.join(RECIPES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    from training.pipeline import Job, run_job  # noqa: PLC0415  (torch loads when there is work to do)

    job = Job(
        recipe=RECIPES[recipe],
        seed=seed,
        work=work or Path("runs") / f"{recipe}-{seed}",
        out=out or Path(recipe),
        epochs=epochs,
        threads=threads,
        export_only=export_only,
    )
    try:
        info = run_job(job)
    except BundleError as error:
        raise SlimwireError(str(error)) from error
    for row in info["widths"]:
        typer.echo(
            f"width {row['width']:.2f}: top-1 {100 * row['top1']:.2f} %, {row['bytes']['mean']:.1f} bytes, "
            f"{row['frames']['mean']:.2f} frames"
        )
