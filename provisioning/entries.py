"""Fleet entries: what was put on each device of a site, and when its gateway last vouched for it.

One file a device, `devices/EUI64.json` in the site's directory, replaced whole. An entry holds no secret:
keys are in the registries, the root secret is on the device.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from provisioning.errors import ProvisionError
from security import durable

_FORMAT = 1
FOLDER = "devices"

#: What an entry says of its device, in the order in which it comes about.
INSTALLING, INSTALLED, VERIFIED = "installing", "installed", "verified"


@dataclass(frozen=True, slots=True)
class Entry:
    """One device.

    Attributes:
        eui64: 16 hex digits. name: what people call it. epoch: of the identity it got.
        state: "installing", "installed", or "verified": its gateway took a message of it since.
        board: profile. machine, micropython: what it said it is and runs. port: where it last was.
        unique_id: the chip's number in hex, "" where it has none.
        bundle, model_tag, firmware: what it got; firmware: SHA-256 over the firmware's files.
        code: how the firmware is coded: "py", or mpy-cross's name of an architecture.
        installed_at, verified_at: Unix time in s, 0: never.
    """

    eui64: str
    name: str
    epoch: int
    state: str
    board: str
    machine: str
    micropython: str
    port: str
    unique_id: str
    bundle: str
    model_tag: str
    firmware: str
    code: str
    installed_at: int
    verified_at: int


def write(site: Path, entry: Entry) -> None:
    """Keep an entry, in place of the device's older one. Raises ProvisionError."""
    folder = site / FOLDER
    path = folder / f"{entry.eui64}.json"
    content = json.dumps({"format": _FORMAT, **asdict(entry)}, indent=1).encode() + b"\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        durable.replace(path, content, 0o666)
    except OSError as error:
        raise ProvisionError(f"the fleet entry {path} cannot be written: {error.strerror}") from None


def read(site: Path, eui64: str) -> Entry | None:
    """The entry of a device, None where there is none. Raises ProvisionError: it is damaged."""
    path = site / FOLDER / f"{eui64}.json"
    try:
        return _read(path)
    except FileNotFoundError:
        return None


def read_all(site: Path) -> list[Entry]:
    """Every entry of a site, by EUI-64."""
    return [
        _read(path)
        for path in sorted((site / FOLDER).glob("*.json"))
        if re.fullmatch("[0-9a-f]{16}", path.stem)
    ]


def _read(path: Path) -> Entry:
    try:
        values: Any = json.loads(path.read_text("utf-8"))
        if values.pop("format") != _FORMAT:
            raise ValueError
        entry = Entry(**values)
        numbers = entry.epoch, entry.installed_at, entry.verified_at
        if any(type(n) is not int for n in numbers) or entry.eui64 != path.stem:
            raise ValueError
        return entry
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ProvisionError(f"the fleet entry {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ProvisionError(
            f"the fleet entry {path} is damaged",
            remedy="delete it and run `slimwire provision up` for its board, which makes it anew",
        ) from None
