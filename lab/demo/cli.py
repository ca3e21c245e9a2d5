"""`slimwire demo`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lab.demo import report, view
from lab.demo.run import Plan, check, run
from slimwire import output


class Attack(StrEnum):
    """Who else is on the air."""

    inject = "inject"
    none = "none"


class Verifier(StrEnum):
    """What the gateway does with a fragment."""

    chain = "chain"
    pass_through = "pass-through"


_DEFAULT = Plan()


def demo(
    seconds: Annotated[
        float, typer.Option(min=3, max=3600, help="How long the devices send.")
    ] = _DEFAULT.seconds,
    devices: Annotated[int, typer.Option(min=1, max=32, help="MicroPython processes.")] = _DEFAULT.devices,
    wifi: Annotated[
        int,
        typer.Option(min=0, max=32, help="More of them, on Wi-Fi: over MQTT, out of the attacker's reach."),
    ] = _DEFAULT.wifi,
    attack: Annotated[
        Attack, typer.Option(help="An outsider who overhears and injects, or nobody.")
    ] = Attack.inject,
    seed: Annotated[
        int, typer.Option(help="Decides link, images and attack; not scheduling.")
    ] = _DEFAULT.seed,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
    pcap: Annotated[Path | None, typer.Option(help="Write all frames here (link type 195).")] = None,
    pcap_legit: Annotated[Path | None, typer.Option(help="The same without the attacker's frames.")] = None,
    bundle: Annotated[str, typer.Option(help="A shipped bundle, or a bundle's directory.")] = _DEFAULT.bundle,
    trace: Annotated[str, typer.Option(help="A shipped trace, or a JSON or CSV file.")] = _DEFAULT.trace,
    deadline_ms: Annotated[
        int, typer.Option(min=1, max=60_000, help="First frame to answer, to count as on time.")
    ] = _DEFAULT.deadline_ms,
    policy: Annotated[
        str, typer.Option(help="Width control: slimwire, or fixed-<width> of the bundle.")
    ] = _DEFAULT.policy,
    verifier: Annotated[
        Verifier, typer.Option(help="chain; or pass-through, to see what happens without.")
    ] = Verifier.chain,
) -> None:
    """Watch MicroPython devices classify images through a gateway and an edge server, under attack.

    Every tier is a process of its own on this machine; only the radio is emulated. Nothing is left behind.
    """
    plan = Plan(
        seconds=seconds,
        devices=devices,
        wifi=wifi,
        attack=attack is Attack.inject,
        seed=seed,
        bundle=bundle,
        trace=trace,
        verifier=verifier.value,
        deadline_ms=deadline_ms,
        policy=policy,
        pcap=pcap,
        pcap_legit=pcap_legit,
    )
    try:
        result = run(plan, view.make(output.stderr))
    except KeyboardInterrupt:
        output.stderr.print("interrupted; every process has ended")
        raise typer.Exit(130) from None
    if as_json:
        output.print_json(result)
    else:
        output.stdout.print(report.table(result))
    check(result)
