"""Making this machine a device: identity, head and counters in place, a unit that runs them.

An identity is moved, not copied: installed twice, it would count its messages twice from 1 under the same
keys. What is in place last is the identity, and what goes first when another takes its place; so wherever an
installation ends, no identity lies beside counters that are not its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device import checks
from device.errors import DeviceError
from device.process import alone
from device.unit import IDENTITY, NAME, STATE, unit_text
from firmware.config import check as check_settings
from firmware.counter import slot
from firmware.errors import SettingsError
from models.errors import BundleError
from slimwire.systemd import Staged, hidden_program, unwritable

SETTINGS = "device.json"
HEAD = "head.bin"
COUNTERS = ("counter.a", "counter.b")
#: A later key epoch, where the device was ordered to one.
EPOCH = "epoch"


@dataclass(frozen=True)
class Device:
    """What enrolment made of a device: its settings, and its files by name, the settings' among them."""

    settings: Mapping[str, Any]
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, directory: Path) -> "Device":
        """Read a directory that enrolment wrote.

        Raises:
            DeviceError: it lacks a file, or one is not as it must be.
        """
        try:
            files = {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}
        except OSError as error:
            raise DeviceError(
                f"{directory} cannot be read: {error.strerror}",
                expected="the directory that enrolment wrote for this device",
            ) from error
        missing = [name for name in (SETTINGS, HEAD, *COUNTERS) if name not in files]
        if missing:
            raise DeviceError(
                f"{directory} has no {', '.join(missing)}",
                expected=f"{SETTINGS}, {HEAD}, {' and '.join(COUNTERS)}, as enrolment writes them",
                remedy="enrol the device anew; an identity that was installed before is moved, not copied",
            )
        try:
            settings = json.loads(files[SETTINGS])
            check_settings(settings, SETTINGS)
        except SettingsError as error:
            raise DeviceError(str(error)) from error
        except ValueError as error:
            raise DeviceError(f"{directory / SETTINGS} is no JSON: {error}") from error
        spoilt = [name for name in COUNTERS if files[name] != slot(int.from_bytes(files[name][4:8], "big"))]
        if spoilt:
            raise DeviceError(f"{spoilt[0]} is spoilt", remedy="enrol the device anew")
        return cls(settings, {name: data for name, data in files.items() if name not in _LEFT})


#: What a device writes of its identity, and all that is the identity's.
_STATE = (*COUNTERS, EPOCH)
_OF_IDENTITY = (SETTINGS, *_STATE)
#: Files of a device's directory that are not the device's.
_LEFT = ("log.jsonl",)


def install(directory: Path, staged: Staged, *, start: bool = True, dry_run: bool = False) -> dict[str, Any]:
    """Install the device in `directory` below a root, and start it where systemd runs.

    Args:
        directory: what enrolment wrote; its identity and counters are gone from there afterwards.
        start: whether to enable and start the service.
        dry_run: look, and change nothing.

    Returns:
        `eui64`, `epoch`, `identity` ("moved" or "in place already"), `checks`, `files` (path, bytes), `unit`,
        `warning` ("" for none), and `started`.

    Raises:
        SlimwireError: this machine or the identity is not fit, or a file cannot be written.
    """
    with alone(directory):
        device = Device.read(directory)
        try:
            found = [*checks.environment(), checks.head(device.files[HEAD])]
        except BundleError as error:
            raise DeviceError(f"{directory / HEAD} cannot be used: {error}") from error
        checks.refuse_failed(found)
        identity, state, unit = staged.path(IDENTITY), staged.path(STATE), staged.unit(NAME)
        installed = _root_of(identity) == device.settings["root"]
        places = {
            **{
                state / name: data for name, data in device.files.items() if name not in (SETTINGS, *COUNTERS)
            },
            # Of an identity that is in place already, the counters there are those that count.
            **({} if installed else {state / name: device.files[name] for name in COUNTERS}),
            **({} if installed else {identity: _settings(device)}),
            unit: unit_text(str(device.settings["source"]["type"])).encode(),
        }
        report: dict[str, Any] = {
            "eui64": device.settings["eui64"],
            "epoch": device.settings["epoch"],
            "identity": "in place already" if installed else "moved",
            "checks": [check._asdict() for check in found],
            "files": [{"path": str(path), "bytes": len(data)} for path, data in places.items()],
            "unit": str(unit),
            "warning": hidden_program("device"),
            "started": False,
        }
        if dry_run:
            return report
        if staged.live and report["warning"]:
            what, _, remedy = str(report["warning"]).partition("; ")
            raise DeviceError(what, expected="a program that a sandboxed service can start", remedy=remedy)
        staged.systemctl("stop", NAME, check=False)
        _make_private(state)
        with alone(state):
            if not installed:
                staged.remove(identity)
            for path, data in places.items():
                staged.write(path, data, 0o644 if path == unit else 0o600)
        for name in _OF_IDENTITY:
            staged.remove(directory / name)
    staged.systemctl("daemon-reload")
    if start:
        staged.systemctl("enable", "--now", NAME)
        report["started"] = staged.live
    return report


def _settings(device: Device) -> bytes:
    """The settings as they are installed: without a log file, which nobody would ever rotate."""
    return json.dumps({**device.settings, "log": ""}, indent=1).encode() + b"\n"


def _root_of(identity: Path) -> str | None:
    """The root secret of the identity in place, None where there is none that could be in use."""
    try:
        settings = json.loads(identity.read_bytes())
    except (OSError, ValueError):
        return None
    return settings.get("root") if isinstance(settings, dict) else None


def _make_private(state: Path) -> None:
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        if state.stat().st_mode & 0o077:
            state.chmod(0o700)
    except OSError as error:
        raise unwritable(state, error) from error


def uninstall(staged: Staged, *, purge: bool = False) -> dict[str, Any]:
    """Stop and remove the service.

    Args:
        purge: also remove identity and state; the device must then be enrolled anew.

    Returns:
        `removed`: paths that were there.
    """
    removed = []
    unit = staged.unit(NAME)
    if unit.exists():
        staged.systemctl("disable", "--now", NAME)
    if staged.remove(unit):
        removed.append(str(unit))
        staged.systemctl("daemon-reload")
    if purge:
        state = staged.path(STATE)
        paths = [staged.path(IDENTITY), *sorted(p for p in state.glob("*") if p.is_file())]
        removed += [str(path) for path in paths if staged.remove(path)]
        for directory in (staged.path(IDENTITY).parent, state):
            if directory.is_dir() and not directory.is_symlink() and not any(directory.iterdir()):
                directory.rmdir()
    return {"removed": removed}
