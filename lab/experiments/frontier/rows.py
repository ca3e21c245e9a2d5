"""The frontier's rows: the shipped bundle measured now, the others from their records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.bundle import Bundle
from models.data_files import DataSet
from models.evaluate import Outcome, outcomes
from models.records import KINDS, Record, read
from models.tflite_macs import macs

RECORDS = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Ours:
    """The bundle's widths as rows, narrowest first, with what the coder's figures need."""

    bundle: Bundle
    records: list[Record]
    outcomes: list[Outcome]


def measure(bundle: Bundle, data: DataSet) -> Ours:
    """Runs the test images through the integer pipeline. Raises BundleError as `outcomes` does."""
    head = bundle.headfile
    server = macs((bundle.path / bundle.info["tail"]["file"]).read_bytes())
    found = outcomes(bundle, data.x, data.y)
    training = bundle.info["training"]
    records = [
        Record(
            row=f"ours-{width.width:g}",
            kind="ours",
            label="ours",
            setting=f"{width.width:g}",
            device_macs=head.macs(i),
            server_macs=server,
            params=head.params,
            flash_bytes=len(bundle.head_bytes),
            seed=training.get("seed"),
            epochs=training.get("epochs"),
            images_seen=training.get("images_seen"),
            command=str(training.get("command", "")),
            right=outcome.right,
            coded=outcome.coded,
        )
        for i, (width, outcome) in enumerate(zip(head.widths, found, strict=True))
    ]
    return Ours(bundle, records, found)


def recorded(path: Path, data: DataSet) -> tuple[list[Record], list[str]]:
    """(rows, what to tell of those that are not there) of a record file for these test images.

    Raises BundleError when there is a file and it is not one of records.
    """
    if not path.is_file():
        return [], [f"there are no records at {path}: only the bundle's own rows"]
    about, found = read(path)
    source = about.get("source", data.source)
    if about["n"] != len(data.x) or source != data.source:
        return [], [
            f"{path} records {about['n']} images ({source}) and here are {len(data.x)} ({data.source}): "
            "only the bundle's own rows"
        ]
    unknown = sorted({row.kind for row in found if row.kind not in KINDS})
    said = [f"{path} has rows of kinds not known here: {', '.join(unknown)}"] if unknown else []
    return [row for row in found if row.kind in KINDS and row.kind != "ours"], said
