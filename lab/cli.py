"""`slimwire lab`: the simulations by themselves."""

from typing import Annotated

import typer
from rich.table import Table

from lab.experiments.attack.cli import attack, attacks
from lab.experiments.frontier.cli import frontier
from lab.experiments.kill.cli import kill
from lab.experiments.recovery.cli import recovery
from lab.experiments.width.cli import width
from lab.sim import trace as traces
from slimwire import output

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="The emulated radio's parts by themselves."
)


app.command()(attack)
app.command("attacks")(attacks)
app.command()(recovery)
app.command()(frontier)
app.command()(width)
app.command()(kill)


@app.callback()
def _root() -> None:
    pass


@app.command("traces")
def list_traces(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """The bandwidth traces that ship: how long, and how fast as logged (kb/s)."""
    rows = []
    for name in traces.shipped():
        trace = traces.load(name)
        rates = sorted(trace.rates)
        rows.append(
            {
                "name": name,
                "seconds": round(trace.length),
                "p10_kbps": rates[len(rates) // 10],
                "p50_kbps": rates[len(rates) // 2],
                "p90_kbps": rates[9 * len(rates) // 10],
            }
        )
    if as_json:
        output.print_json({"traces": rows})
        return
    table = Table("trace", "seconds", "slow (10 %)", "median", "fast (90 %)")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    output.stdout.print(table)
