"""`slimwire train`: from a recipe to a bundle directory."""

from __future__ import annotations

import logging
import math
import shlex
from pathlib import Path
from typing import Annotated

import typer

from models.errors import BundleError
from slimwire.errors import SlimwireError
from training.data import Data, load_data
from training.recipe import Recipe
from training.recipes import RECIPES, RIVALS


def train(
    recipe: Annotated[str, typer.Option(help=f"What to train: {', '.join(RECIPES)}.")],
    out: Annotated[Path | None, typer.Option(help="Where the bundle goes [./NAME].")] = None,
    seed: Annotated[int, typer.Option(help="Fixes order, augmentation and initial weights.", min=0)] = 1,
    work: Annotated[
        Path | None,
        typer.Option(help="Checkpoints [runs/NAME-SEED]; an unfinished run goes on from them."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="How long the training may take: fewer epochs, if need be.", min=0.1)
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 1,
    export_only: Annotated[
        bool,
        typer.Option("--export-only", help="Write the bundle of a finished training from its checkpoint."),
    ] = False,
    rivals: Annotated[
        bool,
        typer.Option(
            "--rivals",
            help="Then train what the model is compared with; its records go to WORK/records.npz.",
        ),
    ] = False,
) -> None:
    """Train a slimmable model and write its bundle: head, tail, tables, test images, measured figures, card.

    A GPU is used where torch finds one. The recipes are made for one: minutes on an H100, hours to days on a
    CPU core, where --minutes says how long it may take. A run that was stopped goes on from its last epoch
    when the same command is given again.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    from training.pipeline import Job, run_job  # noqa: PLC0415  (torch loads when there is work to do)

    try:
        chosen, found = _named(recipe)
        command = ["slimwire", "train", "--recipe", recipe, "--seed", str(seed)]
        if minutes is not None:
            command += ["--minutes", f"{minutes:g}"]
        info = run_job(
            Job(
                recipe=chosen,
                seed=seed,
                work=work or Path("runs") / f"{chosen.name}-{seed}",
                out=out or Path(chosen.name),
                command=shlex.join(command),
                minutes=minutes or math.inf,
                threads=threads,
                export_only=export_only,
                rivals=RIVALS[recipe] if rivals else None,
            ),
            found,
        )
    except BundleError as error:
        raise SlimwireError(str(error)) from error
    for row in info["widths"]:
        typer.echo(
            f"width {row['width']:.2f}: top-1 {100 * row['top1']:.2f} %, {row['bytes']['mean']:.1f} bytes, "
            f"{row['frames']['mean']:.2f} frames"
        )


def _named(name: str) -> tuple[Recipe, Data]:
    """A recipe that comes with Slimwire, and its data."""
    if name not in RECIPES:
        raise SlimwireError(f"no recipe is called {name!r}", expected=f"one of {', '.join(RECIPES)}")
    return RECIPES[name], load_data(RECIPES[name])
