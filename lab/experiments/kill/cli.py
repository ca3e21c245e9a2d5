"""`slimwire lab kill`: its options. What it does is in `run`, imported when it runs."""

from typing import Annotated

import typer

from slimwire.errors import SlimwireError

_COMPONENTS = ("gateway", "edge", "broker")
_FAULTS = ("none", "disk-full", "clock-step", "uplink-down")


def kill(
    component: Annotated[str, typer.Option(help="What is killed: gateway, edge or broker.")] = "gateway",
    kills: Annotated[int, typer.Option(min=0, max=1000, help="How often.")] = 10,
    fault: Annotated[
        str, typer.Option(help="What else goes wrong: disk-full, clock-step or uplink-down.")
    ] = "none",
    rate: Annotated[float, typer.Option(min=1, max=2000, help="Messages/s offered, all devices.")] = 150.0,
    devices: Annotated[int, typer.Option(min=1, max=1000, help="Devices.")] = 25,
    messages: Annotated[int, typer.Option(min=1, help="Acknowledged at least, before it ends.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Kill a real process again and again, and count what was acknowledged and never answered."""
    import logging  # noqa: PLC0415

    from lab.experiments.kill.run import Plan, check, run  # noqa: PLC0415
    from slimwire import output  # noqa: PLC0415

    if component not in _COMPONENTS or fault not in _FAULTS:
        raise SlimwireError(
            f"there is no component {component!r}, or no fault {fault!r}",
            expected=f"one of {', '.join(_COMPONENTS)}; one of {', '.join(_FAULTS)}",
        )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    plan = Plan(component, kills, seed, fault, devices, rate, messages)  # type: ignore[arg-type]
    result = run(plan, lambda text: typer.echo(text, err=True))
    if json:
        output.print_json(result)
    else:
        typer.echo(
            f"{result['acked']} messages acknowledged, {result['answered']} answered; {result['lost']} lost, "
            f"{result['duplicated']} duplicated over {result['kills']} kills of the {component}; the longest "
            f"time without an answer was {result['longest_gap_s']} s"
        )
    check(result)
