"""One SVG for each measure: attacks from top to bottom, a bar for each defence. No library draws it."""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from slimwire.errors import SlimwireError

#: (file, title, column, whether 1 is the end of the scale)
_CHARTS = (
    ("delivery.svg", "datagrams delivered (tick: without the attacker's frames)", "delivery", True),
    ("forged.svg", "forged fragments in delivered datagrams", "forged_accepted", False),
    ("memory.svg", "peak of the reassembly buffer, bytes", "buffer_peak_bytes", False),
    ("energy.svg", "radio energy per delivered datagram, mJ", "energy_mj_per_delivered", False),
    ("false-reject.svg", "legitimate fragments refused", "false_reject", False),
)
_COLOURS = ("#9aa5b1", "#7b8794", "#c58b2a", "#b5543c", "#7f6bb3", "#4f7cac", "#1b8a5a")
_LEFT, _WIDTH, _BAR, _GAP, _TOP = 130, 420, 9, 12, 64


def draw(rows: list[dict[str, Any]], directory: Path) -> list[Path]:
    """Write the charts into `directory`, which is made if it is not there; returns the files.

    Raises:
        SlimwireError: a file cannot be written.
    """
    paths = [directory / name for name, *_ in _CHARTS]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, (_, title, column, unit) in zip(paths, _CHARTS, strict=True):
            path.write_text(chart(rows, title, column, unit=unit), encoding="utf-8")
    except OSError as error:
        raise SlimwireError(
            f"a chart cannot be written to {directory}: {error.strerror}",
            remedy="name a directory that can be written with --plot",
        ) from error
    return paths


def chart(rows: list[dict[str, Any]], title: str, column: str, *, unit: bool) -> str:
    """One chart as SVG text; `unit` fixes the scale to 0..1 and marks `delivery_control`."""
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    defences = list(dict.fromkeys(row["defence"] for row in rows))
    most = 1.0 if unit else max((row[column] for row in rows), default=0) or 1
    block = len(defences) * _BAR + _GAP
    height = _TOP + len(attacks) * block + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 90}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="18" font-size="13">{escape(title)}</text>',
    ]
    at = 8
    for defence, colour in zip(defences, _COLOURS, strict=False):
        out.append(f'<rect x="{at}" y="30" width="9" height="9" fill="{colour}"/>')
        out.append(f'<text x="{at + 13}" y="39">{escape(defence)}</text>')
        at += 26 + 6 * len(defence)
    for row in rows:
        top = _TOP + attacks.index(row["attack"]) * block + defences.index(row["defence"]) * _BAR
        colour = _COLOURS[defences.index(row["defence"]) % len(_COLOURS)]
        length = _WIDTH * row[column] / most
        out.append(f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR - 1}" fill="{colour}"/>')
        value = f"{row[column]:,}" if isinstance(row[column], int) else f"{row[column]:.3g}"
        out.append(f'<text x="{_LEFT + length + 6:.1f}" y="{top + 8}" font-size="8">{value}</text>')
        if unit:
            tick = _LEFT + _WIDTH * row["delivery_control"] / most
            out.append(f'<path d="M{tick:.1f} {top}v{_BAR - 1}" stroke="black"/>')
    for i, attack in enumerate(attacks):
        out.append(f'<text x="8" y="{_TOP + i * block + block / 2:.0f}">{escape(attack)}</text>')
    return "\n".join([*out, "</svg>\n"])
