"""`slimwire train`: from a recipe, or one's own data, to a bundle directory."""

from __future__ import annotations

import logging
import math
import shlex
from pathlib import Path
from typing import Annotated

import typer

from models.errors import BundleError
from slimwire.errors import SlimwireError
from training import own
from training.data import Data, load_data
from training.fitting import frame_counts, recipe_for
from training.recipe import Recipe
from training.recipes import RECIPES, RIVALS


def train(
    recipe: Annotated[str | None, typer.Option(help=f"What to train: {', '.join(RECIPES)}.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Or your own data: a folder with a folder of images for each class, or a .npz with "
            "x (N,H,W[,C]) uint8 and y (N,)."
        ),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(help="With --data: what each width's messages may take, in 802.15.4 frames [1,2,3,4]."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="With --data: the height and width that images are resized to [32].")
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="With --data: a mirrored image is of the same class.")
    ] = False,
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
            help="With --recipe: then train what the model is compared with; records go to WORK/records.npz.",
        ),
    ] = False,
    tax: Annotated[
        int,
        typer.Option(
            help="Then let the model learn on for so many epochs beside each of its widths alone, to show "
            "what sharing weights costs; records go to WORK/tax.npz.",
            min=0,
        ),
    ] = 0,
) -> None:
    """Train a slimmable model and write its bundle: head, tail, tables, test images, measured figures, card.

    A GPU is used where torch finds one. The recipes are made for one: minutes on an H100, hours to days on a
    CPU core, where --minutes says how long it may take. A few hundred images of your own take minutes on one
    core. A run that was stopped goes on from its last epoch when the same command is given again.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    from training.pipeline import Job, run_job  # noqa: PLC0415  (torch loads when there is work to do)

    try:
        if (recipe is None) == (data is None):
            raise SlimwireError(
                "nothing says what to train" if recipe is None else "both --recipe and --data are given",
                expected="--recipe NAME or --data FOLDER",
            )
        command = ["slimwire", "train"]
        if recipe is not None:
            given = {"--frames": frames, "--size": size, "--mirror": mirror or None}
            _refuse("--recipe", {name for name, value in given.items() if value is not None})
            if rivals and recipe in RECIPES and recipe not in RIVALS:
                raise SlimwireError(
                    f"the recipe {recipe} is compared with nothing",
                    expected=f"--rivals with one of {', '.join(RIVALS)}",
                )
            chosen, found = _named(recipe)
            command += ["--recipe", recipe]
        else:
            assert data is not None
            _refuse("--data", {"--rivals"} if rivals else set())
            counts = frame_counts(frames or "1,2,3,4")
            found = own.load(data, size, seed)
            chosen = recipe_for(data, found, counts, mirror)
            command += ["--data", str(data), "--frames", ",".join(map(str, counts))]
            command += ["--size", str(size)] if size is not None else []
            command += ["--mirror"] if mirror else []
        command += ["--seed", str(seed)]
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
                rivals=RIVALS[chosen.name] if rivals else None,
                tax=tax,
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


def _refuse(mode: str, options: set[str]) -> None:
    """Raises SlimwireError when there are options that say nothing in this mode."""
    if options:
        other = "--data" if mode == "--recipe" else "--recipe"
        raise SlimwireError(
            f"{', '.join(sorted(options))} can't be given with {mode}", expected=f"with {other}"
        )


def _named(name: str) -> tuple[Recipe, Data]:
    """A recipe that comes with Slimwire, and its data."""
    if name not in RECIPES:
        raise SlimwireError(f"no recipe is called {name!r}", expected=f"one of {', '.join(RECIPES)}")
    return RECIPES[name], load_data(RECIPES[name])
