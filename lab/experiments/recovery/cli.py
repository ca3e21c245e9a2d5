"""`slimwire lab recovery`: its options. What it does is in `report`, imported when it runs."""

import os
from typing import Annotated

import typer


def recovery(
    loss: Annotated[float, typer.Option(min=0, max=0.6, help="Mean share of frames lost, each way.")] = 0.2,
    burst: Annotated[
        float, typer.Option(min=1, max=1000, help="Mean frames lost in a row, where they are lost in bursts.")
    ] = 5.0,
    datagrams: Annotated[int, typer.Option(min=10, max=1_000_000, help="Of each row.")] = 2000,
    devices: Annotated[int, typer.Option(min=1, max=100, help="That share the channel.")] = 1,
    window: Annotated[int, typer.Option(min=1, max=32, help="Fragments under way at once.")] = 32,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    jobs: Annotated[int, typer.Option(min=0, max=256, help="Processes; 0: one for each CPU.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Selective recovery (RFC 8931) beside RFC 4944 with retries: largest datagrams over links that lose."""
    from lab.experiments.recovery.report import plans, report  # noqa: PLC0415

    todo = plans(loss, burst, datagrams, devices, seed, window)
    report(todo, jobs=jobs or os.cpu_count() or 1, as_json=json)
