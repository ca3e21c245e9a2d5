"""The rows for people: one table an attack."""

from typing import Any

from rich.table import Table

from lab.experiments.attack.attackers import ATTACKS
from lab.experiments.attack.compare import Comparison

_WORDS = {
    "better": "less delivered",
    "worse": "more delivered",
    "equal": "equal, no cheaper",
    "equal-costlier": "equal, with less",
}


def verdict(comparison: Comparison) -> str:
    """How the other defence does against Slimwire, in words."""
    cheaper = " and ".join(comparison.costlier) if comparison.verdict == "equal-costlier" else ""
    return f"{_WORDS[comparison.verdict]} {cheaper}".rstrip()


def attack_table(attack: str, rows: list[dict[str, Any]], comparisons: list[Comparison]) -> Table:
    """The rows of one attack."""
    table = Table(
        "defence",
        "delivery",
        "control",
        "forged in",
        "buffer peak / bound",
        "mJ / delivered",
        "trust min / control",
        "false reject",
        "beside slimwire",
        title=f"{attack}: {ATTACKS[attack].about}",
        title_justify="left",
    )
    words = {one.against: verdict(one) for one in comparisons if one.attack == attack}
    for row in rows:
        least, control = row["victim_trust_min"], row["victim_trust_control"]
        table.add_row(
            row["defence"],
            f"{row['delivery']:.3f}",
            f"{row['delivery_control']:.3f}",
            str(row["forged_accepted"]),
            f"{row['buffer_peak_bytes']:,} / {row['buffer_bound_bytes']:,}",
            f"{row['energy_mj_per_delivered']:.2f}",
            "-" if least is None or control is None else f"{least:.2f} / {control:.2f}",
            f"{row['false_reject']:.4f}",
            words.get(row["defence"], ""),
        )
    return table
