"""Records of measurements whose models do not ship: what became of each test image, by row.

A record file is a ``.npz``: ``data`` and ``rows``, each a JSON string, and for every row two arrays,
``<row>/right`` (numpy.packbits of N booleans) and ``<row>/bytes`` (uint16 (N,)). ``data`` says which images:
``{"name", "source", "split", "n"}``, all but ``n`` optional; all rows are of the same ones in the same order,
so that any two compare image by image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BundleError

KINDS = (
    "ours",
    "slimmable",
    "independent",
    "ensemble",
    "bottleneck",
    "entropic",
    "jpeg",
    "webp",
    "raw",
    "on-device",
    "full",
    "teacher",
)
"""What a row can be of:

ours           the shipped bundle: measured when asked for, never recorded; ``setting`` is the width
slimmable      the same training as it was before conversion; ``setting`` is the width
independent    a head of its own for one width; ``setting`` is the width
ensemble       the slimmable ensemble; ``setting`` names encoders and bit depth
bottleneck     an int8 bottleneck without entropy coding; ``setting`` is its channels
entropic       one model for one rate; ``setting`` is the rate it aims at
jpeg, webp     a full model trained on images of that quality; ``setting`` is the quality
raw            the input as it is, int8, to the full model
on-device      a whole network on the device, which sends the class
full           head and tail at full width without bottleneck and quantisation
teacher        the teacher
"""


@dataclass(frozen=True, eq=False)
class Record:
    """One row: a method at one setting, and its outcome on each of N test images.

    Attributes:
        row: its id, without "/". kind: of `KINDS`. label: for people. setting: see `KINDS`.
        device_macs, server_macs: multiply-accumulates of one image there, None where that says nothing.
        params, flash_bytes: of what the device holds.
        seed, epochs, images_seen, command: how it came to be.
        right: bool (N,). coded: bytes on the air without headers, int64 (N,).
    """

    row: str
    kind: str
    label: str
    setting: str
    device_macs: int | None
    server_macs: int | None
    params: int | None
    flash_bytes: int | None
    seed: int | None
    epochs: float | None
    images_seen: int | None
    command: str
    right: npt.NDArray[np.bool_]
    coded: npt.NDArray[np.int64]

    @property
    def top1(self) -> float:
        """Share of the images it got right."""
        return float(self.right.mean())


_ARRAYS = ("right", "coded")
_TEXTS = ("row", "kind", "label", "setting", "command")
_FACTS = tuple(field.name for field in fields(Record) if field.name not in _ARRAYS)


def write(path: Path, data: dict[str, Any], records: Sequence[Record]) -> None:
    """Writes a record file; ``data`` as above. Raises BundleError when rows differ in N or share an id."""
    arrays: dict[str, Any] = {}
    for record in records:
        if len(record.right) != data["n"] or len(record.coded) != data["n"]:
            raise BundleError(f"row {record.row} has {len(record.right)} images; expected {data['n']}")
        if record.kind not in KINDS:
            raise BundleError(
                f"row {record.row} is of kind {record.kind!r}; expected one of {', '.join(KINDS)}"
            )
        if f"{record.row}/right" in arrays:
            raise BundleError(f"two rows are called {record.row!r}")
        if len(record.coded) and not 0 <= record.coded.min() <= record.coded.max() <= 0xFFFF:
            raise BundleError(f"row {record.row} has up to {record.coded.max()} bytes; expected 0 to 65535")
        arrays[f"{record.row}/right"] = np.packbits(record.right)
        arrays[f"{record.row}/bytes"] = record.coded.astype(np.uint16)
    rows = []
    for record in records:
        facts = asdict(record)
        rows.append({name: facts[name] for name in _FACTS})
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, data=np.array(json.dumps(data)), rows=np.array(json.dumps(rows)), **arrays)


def read(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """What `write` was given. Raises BundleError when the file cannot be read or is not of this form."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            data = json.loads(str(archive["data"])) if "data" in archive.files else {}
            rows = json.loads(str(archive["rows"]))
            data.setdefault("n", len(archive[f"{rows[0]['row']}/bytes"]) if rows else 0)
            records = [_record(row, int(data["n"]), archive) for row in rows]
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(f"{path} can't be read as records ({error!r}); see models/records.py") from error
    return data, records


def _record(row: dict[str, Any], n: int, archive: Any) -> Record:
    facts = {name: row.get(name) for name in _FACTS}
    name = str(facts["row"])
    facts.update({text: str(row.get(text, "")) for text in _TEXTS})
    packed, coded = archive[f"{name}/right"], archive[f"{name}/bytes"]
    if packed.shape != (-(-n // 8),) or packed.dtype != np.uint8 or coded.shape != (n,):
        raise BundleError(
            f"row {name} has {packed.dtype} {packed.shape} outcomes and {coded.shape} sizes; "
            f"expected uint8 ({-(-n // 8)},) and ({n},)"
        )
    right = np.unpackbits(packed, count=n).astype(bool)
    return Record(**facts, right=right, coded=coded.astype(np.int64))  # type: ignore[arg-type]
