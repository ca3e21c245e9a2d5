"""`slimwire lab width`."""

from pathlib import Path
from typing import Annotated

import typer

from slimwire import output
from slimwire.errors import SlimwireError


def width(
    traces: Annotated[
        Path | None,
        typer.Option(
            help='JSON {"traces": {name: [[duration_ms, kbps], …]}}, or CSV with duration_ms,kbps (or '
            "name,duration_ms,kbps) a line, or a directory of such; without it the three traces that ship."
        ),
    ] = None,
    generate: Annotated[
        int, typer.Option(min=0, max=200, help="This many generated links instead, which --seed decides.")
    ] = 0,
    bundle: Annotated[str, typer.Option(help="A shipped bundle, or a bundle's directory.")] = "fashion-mnist",
    requests: Annotated[int, typer.Option(min=20, max=100_000, help="Requests a run, one a second.")] = 600,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Runs per log [as many as give 30 runs].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of generated links, images, back-off, loss, queue.")] = 1,
    device_mmac_per_s: Annotated[
        float, typer.Option(min=0.1, help="Million MAC/s of the device's head.")
    ] = 5.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="40 and 80 kb/s, 300 ms, steady and square; no goodput.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a picture here (PNG, SVG, PDF).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare width policies, paired, on logged links: steady, and changing regime in mid-run."""
    from lab.experiments.width import generated, goodput, links, outage, report, run  # noqa: PLC0415
    from lab.experiments.width import plot as plots  # noqa: PLC0415
    from lab.experiments.width.requests import Model, Plan  # noqa: PLC0415
    from lab.experiments.width.tuned import TUNED_ON  # noqa: PLC0415
    from models.bundle import Bundle  # noqa: PLC0415
    from models.errors import BundleError  # noqa: PLC0415

    if generate and traces is not None:
        raise SlimwireError("--traces and --generate name different links", expected="one of them")
    made = generated.links(generate, seed)
    logs = [log for log, _ in made]
    if not logs:
        logs = links.load(traces) if traces is not None else links.shipped()
    left_out = sorted(log.name for log in logs if log.name in TUNED_ON)
    reported = [log for log in logs if log.name not in TUNED_ON]
    if not reported:
        raise SlimwireError(
            f"all logs of {traces} are among those the controller was tuned on",
            expected="at least one other log",
        )
    try:
        model = Model.of(Bundle.load(bundle), device_mmac_per_s)
    except BundleError as error:
        raise SlimwireError(
            str(error), remedy="name a bundle that ships, or a directory: --bundle"
        ) from error
    each = seeds or max(1, -(-30 // len(reported)))
    progress = output.stderr.status("starting") if output.stderr.is_terminal else None
    if progress is not None:
        progress.start()
    try:
        cells = run.compare(
            reported,
            model,
            Plan(1.0, requests),
            seeds=each,
            seed=seed,
            rates=(40.0, 80.0) if quick else run.RATES,
            deadlines=(0.3,) if quick else run.DEADLINES,
            regimes=("steady", "square") if quick else tuple(run.REGIMES),
            losses=[loss for _, loss in made],
            progress=lambda text: progress.update(text) if progress is not None else None,
        )
        rates = () if quick else run.RATES
        goods = goodput.measure(
            reported[:12],
            model,
            run.names(model),
            rates=rates,
            seed=seed,
            losses=[loss for _, loss in made[:12]],
        )
        recoveries = [outage.measure(model, kbps, seed=seed) for kbps in run.RATES]
    finally:
        if progress is not None:
            progress.stop()
    if plot is not None:
        plots.draw(cells, plot)
    about = {
        "bundle": bundle,
        "widths": [
            {
                "width": o.width,
                "accuracy": o.accuracy,
                "frames": round(o.frames, 3),
                "coded_bytes": round(o.coded, 1),
                "head_ms": round(o.head_seconds * 1000, 1),
            }
            for o in model.options()
        ],
        "requests": requests,
        "runs": each * len(reported),
        "seed": seed,
        "traces": [log.name for log in reported],
        "tuned_on": left_out,
    }
    if as_json:
        output.print_json(report.as_json(cells, goods, recoveries, about))
    else:
        output.stdout.print(report.table(cells, goods, recoveries, about))
