"""Firmware, model and identity onto one board, read back and compared, then enrolled in the site.

The order keeps a power cut harmless. The old settings go first, so that no device ever sends with fresh
counters under its old root secret; the new ones come last. The site's registries learn the device only once
the board holds what it should.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from provisioning import eui64, payload
from provisioning.board import Board, BoardInfo
from provisioning.errors import ProvisionError
from provisioning.identity import SETTINGS_FILE, DeviceOptions, Site, device_files

#: Part of a littlefs that stays free: copies of directories and blocks in use.
_HEADROOM = 16 << 10
_SETTINGS = "/" + SETTINGS_FILE


@dataclass(frozen=True, slots=True)
class Plan:
    """What an installation is to do.

    Attributes:
        port: as mpremote names it. bundle: loaded.
        site_dir: where the registries are. site: its name. gateway: the gateway's EUI-64, None: the site's
            own.
        eui: the device's EUI-64, None: from the board's number. name: what people call the device.
        options: the rest of its settings. images: how many of the bundle's test images its camera shows.
        sources: send .py even where the board takes compiled code.
    """

    port: str
    bundle: Bundle
    site_dir: Path
    site: str = "lab"
    gateway: bytes | None = None
    eui: bytes | None = None
    name: str = ""
    options: DeviceOptions = field(default_factory=lambda: DeviceOptions(log=""))
    images: int = 16
    sources: bool = False


def install(plan: Plan, say: Callable[[str], None], *, dry_run: bool = False) -> dict[str, Any]:
    """Install on one board.

    Args:
        say: hears of each step, one line for people.
        dry_run: only look at the board and say what would be done.

    Returns:
        the report: port, board, eui64, epoch, site, bundle, format, files with size and digest, removed,
            verified.

    Raises:
        ProvisionError: nothing was enrolled; the board may hold a part, without settings or with ones that no
            gateway knows.
    """
    board = Board(plan.port)
    info = board.probe()
    say(f"{info.machine}, MicroPython {'.'.join(map(str, info.version))}, {info.free // 1024} KiB free")
    if plan.options.link["host"].startswith("127.") and not info.machine.startswith("linux"):
        say("warning: the device will look for its gateway on itself; name the gateway's address: --host")
    eui = plan.eui or eui64.from_unique_id(info.unique_id)
    if eui is None:
        raise ProvisionError(
            f"the board at {plan.port} carries no number to make an EUI-64 of",
            remedy="give it one: --eui64 with 16 hexadecimal digits",
        )
    architecture = None if plan.sources else payload.architecture_of(info.mpy)
    with tempfile.TemporaryDirectory(prefix="slimwire-") as scratch:
        work = Path(scratch)
        code = payload.build(architecture, work)
        with Site.open(plan.site_dir, name=plan.site, gateway=plan.gateway, create=not dry_run) as site:
            settings = site.new_identity(eui, plan.options)
            images = plan.bundle.pictures().x[: plan.images]
            mine = {f"/{k}": v for k, v in device_files(plan.bundle, settings, images).items()}
            everything = replace(code, files={**code.files, **mine})
            report = _report(plan, info, settings, everything)
            _check_room(plan.port, info, everything)
            if dry_run:
                say(f"would copy {len(everything.files)} files, {everything.size // 1024} KiB")
                say(f"would enrol {eui.hex()}, epoch {settings['epoch']}, in {plan.site_dir}")
                return {**report, "removed": [], "verified": False, "dry_run": True}
            removed = board.clear(payload.FOLDER, sorted(everything.files), [_SETTINGS])
            _copy(board, everything, say)
            _verify(board, everything)
            say(f"read back {len(everything.files)} files: every digest is right")
            site.enrol(settings, plan.name)
    say(f"enrolled {eui.hex()}, epoch {settings['epoch']}, in {plan.site_dir}")
    board.reset()
    return {**report, "removed": removed, "verified": True, "dry_run": False}


def _copy(board: Board, everything: payload.Payload, say: Callable[[str], None]) -> None:
    """All files but the settings, then the settings."""
    last = {_SETTINGS: everything.files[_SETTINGS]}
    rest = {path: content for path, content in sorted(everything.files.items()) if path != _SETTINGS}
    say(f"copying {len(everything.files)} files, {everything.size // 1024} KiB ...")
    board.copy({**rest, **last}, lambda path: say(f"  {path}"))


def _check_room(port: str, info: BoardInfo, everything: payload.Payload) -> None:
    if everything.size + _HEADROOM > info.size:
        raise ProvisionError(
            f"the flash of the board at {port} is too small: {info.size // 1024} KiB in all",
            expected=f"{(everything.size + _HEADROOM) // 1024} KiB for {len(everything.files)} files",
            remedy="install fewer --images, or a smaller bundle",
        )


def _verify(board: Board, everything: payload.Payload) -> None:
    expected = everything.digests()
    found = board.digests(sorted(expected))
    wrong = [path for path, digest in expected.items() if found.get(path) != digest]
    if wrong:
        raise ProvisionError(
            f"{len(wrong)} files on the board are not what was sent: {', '.join(wrong[:5])}",
            remedy="try again; if it stays so, the board's flash is worn out or its file system damaged",
        )


def _report(
    plan: Plan, info: BoardInfo, settings: Mapping[str, Any], everything: payload.Payload
) -> dict[str, Any]:
    digests = everything.digests()
    files = [
        # The digest of the settings would be one of the root secret.
        {"path": path, "bytes": len(content), "sha256": None if path == _SETTINGS else digests[path]}
        for path, content in sorted(everything.files.items())
    ]
    return {
        "port": plan.port,
        "board": info.machine,
        "micropython": ".".join(map(str, info.version)),
        "eui64": settings["eui64"],
        "epoch": settings["epoch"],
        "site": settings["site"],
        "gateway": settings["gateway"],
        "bundle": plan.bundle.name,
        "model_tag": f"{plan.bundle.headfile.model_tag:04x}",
        "format": f"mpy for {everything.architecture}" if everything.architecture else "py",
        "bytes": everything.size,
        "files": files,
    }
