"""`slimwire lab attack`: its options. What it does is in `report`, imported when it runs."""

import os
from pathlib import Path
from typing import Annotated

import typer


def attack(
    attacks: Annotated[
        str, typer.Option(help="Names with commas between them, or all (`slimwire lab attacks` lists them).")
    ] = "all",
    defences: Annotated[str, typer.Option(help="Names with commas between them, or all.")] = "all",
    devices: Annotated[int, typer.Option(min=2, max=1000, help="Legitimate devices.")] = 30,
    rate: Annotated[float, typer.Option(min=0.001, max=50, help="Messages/s of each device.")] = 0.4,
    loss: Annotated[float, typer.Option(min=0, max=0.6, help="Mean share of frames lost on a link.")] = 0.1,
    burst_ms: Annotated[
        float,
        typer.Option(min=0, max=10_000, help="Mean ms of a fade (Gilbert-Elliott); 0: independent losses."),
    ] = 25.0,
    link_retries: Annotated[int, typer.Option(min=0, max=7, help="macMaxFrameRetries.")] = 3,
    airtime_share: Annotated[
        float, typer.Option(min=0.001, max=1, help="Of all time, that attackers may be on the air.")
    ] = 0.1,
    seconds: Annotated[float, typer.Option(min=10, max=86_400, help="Simulated time of each row.")] = 120.0,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=60, help="s that Slimwire's gateway keeps an unfinished datagram.")
    ] = 15.0,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    jobs: Annotated[int, typer.Option(min=0, max=256, help="Processes; 0: one for each CPU.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plots: Annotated[Path | None, typer.Option("--plot", help="Directory for charts (SVG).")] = None,
) -> None:
    """Slimwire's reception beside other defences, under attack, in a simulation of one 802.15.4 channel."""
    from lab.experiments.attack.air import Plan  # noqa: PLC0415
    from lab.experiments.attack.report import report  # noqa: PLC0415

    plan = Plan(devices, rate, loss, burst_ms / 1000, airtime_share, seconds, seed, link_retries, timeout)
    report(plan, attacks, defences, jobs=jobs or os.cpu_count() or 1, as_json=json, plots=plots)


def attacks(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """The attacks and defences that `slimwire lab attack` knows."""
    from lab.experiments.attack.report import list_all  # noqa: PLC0415

    list_all(as_json=json)
