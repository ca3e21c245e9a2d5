"""What `slimwire lab recovery` does: all transports on all links, and how they compare."""

from concurrent.futures import ProcessPoolExecutor
from typing import Any

from rich import box
from rich.table import Column, Table

from lab.experiments.recovery.links import Loss
from lab.experiments.recovery.run import TRANSPORTS, Plan, run
from slimwire import output

#: macMaxFrameRetries of the links that have retries.
LINK_RETRIES = 3

_ABOUT = {
    "rfc8931": "RFC 8931",
    "rfc4944": "RFC 4944",
    "rfc4944-anew": "RFC 4944, new tags",
}


def plans(loss: float, burst: float, datagrams: int, devices: int, seed: int, window: int) -> list[Plan]:
    """Every transport on links with independent losses and in bursts, without and with link-layer retries."""
    return [
        Plan(transport, Loss(loss, length), retries, datagrams, devices, seed, window)
        for retries in (None, LINK_RETRIES)
        for length in (None, burst)
        for transport in TRANSPORTS
    ]


def verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """RFC 8931 beside the best of RFC 4944 on each link."""
    out = []
    for row in rows:
        if row["transport"] != "rfc8931":
            continue
        rivals = [
            other
            for other in rows
            if other is not row and all(other[name] == row[name] for name in ("burst", "link_retries"))
        ]
        out.append(
            {
                "burst": row["burst"],
                "link_retries": row["link_retries"],
                "delivery": row["delivery"],
                "delivery_rfc4944": max(rival["delivery"] for rival in rivals),
                "airtime_ratio": row["airtime_ms_per_delivered"]
                / min(rival["airtime_ms_per_delivered"] for rival in rivals),
            }
        )
    return out


def report(todo: list[Plan], *, jobs: int, as_json: bool) -> None:
    """Run and print."""
    if jobs > 1:
        with ProcessPoolExecutor(jobs) as pool:
            rows = list(pool.map(run, todo))
    else:
        rows = [run(plan) for plan in todo]
    if as_json:
        output.print_json({"rows": rows, "comparisons": verdicts(rows)})
        return
    plan = todo[0]
    table = Table(
        Column("link", no_wrap=True),
        Column("fragments", no_wrap=True),
        *(
            Column(name, justify="right", no_wrap=True)
            for name in ("delivered", "frames", "acks", "air ms", "p50 ms")
        ),
        title=f"{rows[0]['datagrams']:,} datagrams of 1280 octets a row, {plan.loss.mean:.0%} of frames lost;"
        "\nRFC 4944 sends all again, up to 3 times",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for plan, row in zip(todo, rows, strict=True):
        table.add_row(
            plan.loss.name + (", link retries" if plan.link_retries else ""),
            _ABOUT[plan.transport],
            f"{row['delivery']:.4f}",
            f"{row['data_frames_per_datagram']:.1f}",
            f"{row['rfrag_acks_per_datagram']:.1f}",
            f"{row['airtime_ms_per_delivered']:.0f}",
            "-" if row["p50_ms"] is None else f"{row['p50_ms']:.0f}",
        )
    output.stdout.print(table)
