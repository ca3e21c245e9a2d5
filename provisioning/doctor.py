"""What is wrong with a board, its port or its site: checks from the port upwards, each with its remedy.

Looking at a board interrupts what it does; it is started again at the end.
"""

import time
from collections.abc import Callable
from typing import Any

from provisioning import access, entries, payload
from provisioning.board import Board, BoardInfo, Installed
from provisioning.device_files import COUNTER_FILES
from provisioning.errors import BoardError, GatewayAwayError, ProvisionError
from provisioning.eui64 import from_unique_id
from provisioning.profiles import Profile
from provisioning.site_file import SiteFile
from provisioning.sites import open_site
from provisioning.up import OLDEST, check_chip, identity_trouble
from provisioning.watch import Gateway

#: Seconds that two clocks may differ: certificates and logs are still right.
_CLOCK_S = 120
#: Flash that an installation needs beyond what is there, bytes: the counters' next write, directories.
_FREE = 16 << 10


def examine(
    port: str,
    profile: Profile | None = None,
    site: SiteFile | None = None,
    eui: bytes | None = None,
    *,
    now: Callable[[], float] = time.time,
    board: Callable[[str], Board] = Board,
) -> list[dict[str, Any]]:
    """Check a board, and with `site` what it holds, its keys and its gateway.

    Args:
        port: as a command line names it. profile: what the board should be, None: whatever it is.
        eui: the device's EUI-64 where it is not made of the board's number.
        now: this computer's clock, Unix time in s. board: makes the board's connection.

    Returns:
        findings in the order of the checks: {"check", "ok", "fault", "what", "remedy"}; after a fault that
        hides what is behind it (a port that cannot be opened) the checks that need it are left out.
    """
    notes = _Notes()
    _board(notes, port, profile, site, eui, now, board)
    if site is not None:
        _gateway(notes, site, now)
    return notes.findings


class _Notes:
    def __init__(self) -> None:
        self.findings: list[dict[str, Any]] = []

    def well(self, check: str, what: str) -> None:
        self._add(check, "", what, "")

    def fault(self, check: str, error: ProvisionError, fault: str = "") -> None:
        what = error.what + (f"; expected: {error.expected}" if error.expected else "")
        self._add(check, fault or error.fault or check, what, error.remedy)

    def _add(self, check: str, fault: str, what: str, remedy: str) -> None:
        self.findings.append(
            {"check": check, "ok": not fault, "fault": fault, "what": what, "remedy": remedy}
        )


def _board(
    notes: _Notes,
    port: str,
    profile: Profile | None,
    site: SiteFile | None,
    eui: bytes | None,
    now: Callable[[], float],
    connect: Callable[[str], Board],
) -> None:
    try:
        device = access.resolve([port])[0]
        opened = connect(device)
    except BoardError as error:
        notes.fault("port", error)
        return
    notes.well("port", f"{device} can be opened")
    try:
        info = opened.probe()
    except BoardError as error:
        notes.fault("micropython", error)
        return
    version = ".".join(map(str, info.version))
    if info.version[:2] < OLDEST:
        old = BoardError(
            f"MicroPython {version} is too old",
            expected=f"{OLDEST[0]}.{OLDEST[1]} or newer",
            remedy="slimwire provision flash",
        )
        notes.fault("micropython", old, "old-micropython")
    else:
        notes.well("micropython", f"{info.machine} runs {version}")
    if profile is not None:
        try:
            check_chip(device, profile, info)
            notes.well("chip", f"it is {profile.title}")
        except BoardError as error:
            notes.fault("chip", error)
    held = opened.look(payload.FOLDER, [payload.MAIN], [f"/{name}" for name in COUNTER_FILES])
    _architecture(notes, info, held)
    _room(notes, info)
    _clock(notes, "clock", "the board's clock", info.clock, now(), f"mpremote connect {device} rtc --set")
    if site is not None:
        _keys(notes, site, held, eui or from_unique_id(info.unique_id))
    opened.reset()


def _architecture(notes: _Notes, info: BoardInfo, held: Installed) -> None:
    if not held.headers:
        if any(path.startswith(payload.FOLDER) for path in held.files):
            notes.well("architecture", "the firmware is installed as sources")
        else:
            missing = BoardError("no firmware is installed", remedy="slimwire provision up")
            notes.fault("architecture", missing, "no-firmware")
        return
    runs = payload.architecture_of(info.mpy)
    wrong = {}
    for path, header in held.headers.items():
        found = payload.architecture_of_file(header)
        if found is not None and found != runs:
            wrong[path] = found
    if not wrong:
        notes.well("architecture", f"the firmware is compiled for {runs}, which the board runs")
        return
    path, found = next(iter(wrong.items()))
    error = BoardError(
        f"{len(wrong)} files of the firmware are compiled for another architecture: {path} for {found}",
        expected=f"{runs}, which the board runs" if runs else "sources: the board takes no compiled code",
        remedy="slimwire provision up, which compiles for the board",
    )
    notes.fault("architecture", error, "wrong-architecture")


def _room(notes: _Notes, info: BoardInfo) -> None:
    if info.free >= _FREE:
        notes.well("flash", f"{info.free // 1024} of {info.size // 1024} KiB are free")
        return
    full = BoardError(
        f"the flash is full: {info.free // 1024} of {info.size // 1024} KiB are free",
        expected=f"{_FREE // 1024} KiB",
        remedy="delete files that are not Slimwire's: mpremote fs ls, mpremote fs rm :FILE",
    )
    notes.fault("flash", full, "flash-full")


def _clock(notes: _Notes, check: str, whose: str, its: float, ours: float, remedy: str) -> None:
    off = round(its - ours)
    if abs(off) <= _CLOCK_S:
        notes.well(check, f"{whose} is right within {abs(off)} s")
        return
    days = abs(off) / 86400
    far = f"{days:.0f} days" if days >= 2 else f"{abs(off)} s"
    error = BoardError(
        f"{whose} is {far} {'fast' if off > 0 else 'slow'}",
        expected=f"within {_CLOCK_S} s of this computer's",
        remedy=remedy,
    )
    notes.fault(check, error, "clock-wrong")


def _keys(notes: _Notes, site: SiteFile, held: Installed, eui: bytes | None) -> None:
    if held.settings is None:
        fault = BoardError("the board has no identity", remedy="slimwire provision up")
        notes.fault("identity", fault, "no-identity")
        return
    name = str(held.settings.get("eui64"))
    if eui is not None and name != eui.hex():
        fault = BoardError(
            f"the board's identity is {name}'s",
            expected=f"{eui.hex()}, made of its own number: perhaps its files were copied from another board",
            remedy="slimwire provision up --new-identity",
        )
        notes.fault("identity", fault, "cloned-identity")
        return
    try:
        with open_site(site, create=False) as opened:
            device = opened.gateway.devices.get(bytes.fromhex(name))
            mine = opened.gateway.gateway.hex(), opened.gateway.site
    except ProvisionError as error:
        notes.fault("identity", error, "no-site")
        return
    if (held.settings.get("gateway"), held.settings.get("site")) != mine:
        trouble = f"it is of the site {held.settings.get('site')!r}, gateway {held.settings.get('gateway')}"
    else:
        trouble = identity_trouble(held, device)
    entry = entries.read(site.directory, name)
    if device is not None and device.revoked:
        fault = BoardError(
            f"{name} is revoked", remedy=f"slimwire provision re-enrol {name}, if it is to be used again"
        )
        notes.fault("identity", fault, "revoked")
    elif trouble:
        fault = BoardError(
            f"the board's identity will not do: {trouble}",
            expected="keys that the registries have"
            + ("" if entry is None else f", epoch {entry.epoch}, since its installation"),
            remedy="slimwire provision up, which gives it a new identity",
        )
        notes.fault("identity", fault, "key-mismatch")
    else:
        notes.well("identity", f"{name}: its keys are the registries', epoch {held.epoch}")


def _gateway(notes: _Notes, site: SiteFile, now: Callable[[], float]) -> None:
    watch = Gateway(site.admin_sockets())
    try:
        with open_site(site, create=False) as opened:
            watch.check(opened.gateway.gateway, site.site)
    except GatewayAwayError as error:
        notes.fault("gateway", error, "gateway-unreachable")
        return
    except ProvisionError as error:
        notes.fault("gateway", error)
        return
    notes.well("gateway", f"it answers at {watch.path}")
    if watch.clock is not None:
        remedy = "let both computers keep time: timedatectl set-ntp true"
        _clock(notes, "gateway's clock", "the gateway's clock", watch.clock, now(), remedy)
