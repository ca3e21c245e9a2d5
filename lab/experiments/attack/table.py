"""The rows for people: one table an attack."""

from typing import Any

from rich import box
from rich.table import Column, Table

from lab.experiments.attack.attackers import ATTACKS
from lab.experiments.attack.compare import Comparison

_WORDS = {
    "better": "delivers less",
    "worse": "delivers more",
    "equal": "equal",
    "equal-costlier": "equal, less",
}


def verdict(comparison: Comparison) -> str:
    """How the other defence does against Slimwire, in words."""
    cheaper = ", ".join(comparison.costlier) if comparison.verdict == "equal-costlier" else ""
    return f"{_WORDS[comparison.verdict]} {cheaper}".rstrip()


def attack_table(attack: str, rows: list[dict[str, Any]], comparisons: list[Comparison]) -> Table:
    """The rows of one attack.

    Columns: delivery, attacked and of the control; forged fragments in delivered datagrams; peak of the
    buffer in bytes; mJ per delivered datagram; least trust of a device, attacked and of the control; and how
    it compares with Slimwire.
    """
    table = Table(
        Column("defence", no_wrap=True),
        Column("of control", no_wrap=True),
        Column("forged", justify="right", no_wrap=True),
        Column("peak B", justify="right", no_wrap=True),
        Column("mJ", justify="right", no_wrap=True),
        Column("trust", no_wrap=True),
        "beside slimwire",
        title=f"{attack}: {ATTACKS[attack].about}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    words = {one.against: verdict(one) for one in comparisons if one.attack == attack}
    for row in rows:
        least, control = row["victim_trust_min"], row["victim_trust_control"]
        table.add_row(
            row["defence"],
            f"{row['delivery']:.3f} {row['delivery_control']:.3f}",
            f"{row['forged_accepted']:,}",
            f"{row['buffer_peak_bytes']:,}",
            f"{row['energy_mj_per_delivered']:.2f}",
            "-" if least is None or control is None else f"{least:.2f} {control:.2f}",
            words.get(row["defence"], ""),
        )
    return table
