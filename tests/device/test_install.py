"""`slimwire device install`: what lies where afterwards, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from device import checks
from device.errors import DeviceError
from device.install import install, uninstall
from device.unit import IDENTITY, NAME, STATE, unit_text
from firmware.counter import BLOCK, slot
from models.bundle import Bundle
from provisioning import device_files, identity
from slimwire.checks import Check
from slimwire.errors import SlimwireError
from slimwire.systemd import Staged
from tests.device.conftest import Directory
from tests.firmware.loopback import REPOSITORY, Hub, settings

EUI = bytes.fromhex("0200000000000042")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load("fashion-mnist")


@pytest.fixture
def enrolled(tmp_path: Path, bundle: Bundle):
    """Makes another directory of a new identity of one device, as enrolment on the host does."""

    def make() -> Path:
        made = identity.create_device(tmp_path / "site", eui=EUI)
        where = tmp_path / f"epoch-{made['epoch']}"
        return device_files.write_device_root(where, bundle, made, camera=bundle.camera()[0][:4])

    return make


class Interrupted(Exception):  # noqa: N818
    """Stands for a power cut."""


class Cut(Staged):
    """A root whose power goes before the n-th change."""

    left = 0

    def spend(self) -> None:
        if not self.left:
            raise Interrupted
        self.left -= 1

    def write(self, path: Path, content: bytes, mode: int) -> bool:
        self.spend()
        return super().write(path, content, mode)

    def remove(self, path: Path) -> bool:
        self.spend()
        return super().remove(path)


def root_of(path: Path) -> str | None:
    return json.loads(path.read_text())["root"] if path.exists() else None


def test_everything_is_in_place_private_and_the_identity_is_moved(tmp_path: Path, enrolled):
    source = enrolled()
    secret = root_of(source / "device.json")
    root = tmp_path / "root"
    report = install(source, Staged(root))
    assert {check["name"]: check["good"] for check in report["checks"]}.items() >= {
        ("head", True),
        ("runtime", True),
        ("python", True),
    }
    assert (root / IDENTITY).stat().st_mode & 0o777 == 0o600
    assert (root / STATE).stat().st_mode & 0o777 == 0o700
    assert {path.name for path in (root / STATE).iterdir()} == {
        "head.bin", "camera.bin", "counter.a", "counter.b",
    }  # fmt: skip
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (root / STATE).iterdir())
    assert root_of(root / IDENTITY) == secret
    assert json.loads((root / IDENTITY).read_text())["log"] == ""
    assert (root / "etc/systemd/system" / NAME).stat().st_mode & 0o777 == 0o644
    assert not {"device.json", "counter.a", "counter.b"} & {path.name for path in source.iterdir()}
    assert secret is not None
    assert secret not in json.dumps(report)
    assert not report["started"]
    with pytest.raises(DeviceError, match=r"has no device.json"):
        install(source, Staged(root))


def test_what_is_installed_runs_as_the_unit_runs_it(tmp_path: Path, enrolled, hub: Hub):
    source = enrolled()
    mine = json.loads((source / "device.json").read_text()) | settings(hub.port, log="")
    (source / "device.json").write_text(json.dumps(mine))
    root = tmp_path / "root"
    install(source, Staged(root))
    (start,) = [line for line in unit_text("file").splitlines() if line.startswith("ExecStart=")]
    words = start.removeprefix("ExecStart=").replace("%d/device.json", str(root / IDENTITY)).split()
    process = subprocess.Popen(
        [*words, "--once", "--json"],
        env={**os.environ, "STATE_DIRECTORY": str(root / STATE)},
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert json.loads(hub.serve(process))["answered"]


def test_a_dry_run_changes_nothing(tmp_path: Path, enrolled):
    source = enrolled()
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    report = install(source, Staged(tmp_path / "root"), dry_run=True)
    assert str(tmp_path / "root" / IDENTITY) in [file["path"] for file in report["files"]]
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert not (tmp_path / "root").exists()


def test_wherever_the_power_goes_no_identity_lies_beside_counters_not_its_own(tmp_path: Path, enrolled):
    """A new identity in place of one that has counted to 641: at every step, whatever could run is safe."""
    used = slot(1 + 10 * BLOCK)
    for left in range(20):
        root = tmp_path / f"root-{left}"
        old = enrolled()
        install(old, Staged(root))
        first = root_of(root / IDENTITY)
        for name in ("counter.a", "counter.b"):
            (root / STATE / name).write_bytes(used)
        new = enrolled()
        second = root_of(new / "device.json")
        cut = Cut(root)
        cut.left = left
        try:
            install(new, cut)
            complete = True
        except Interrupted:
            complete = False
        lies = root_of(root / IDENTITY)
        counters = {(root / STATE / name).read_bytes() for name in ("counter.a", "counter.b")}
        if lies == first:
            assert counters == {used}
        elif lies == second:
            assert counters == {slot(1)}
        if complete:
            assert lies == second
            return
        # Again, after the interruption: it goes on, unless nothing was left to move.
        if (new / "counter.b").exists() and (new / "device.json").exists():
            install(new, Staged(root))
        assert root_of(root / IDENTITY) == second
        assert {(root / STATE / name).read_bytes() for name in ("counter.a", "counter.b")} == {slot(1)}
    pytest.fail("an installation takes more than twenty changes")


def test_installing_what_is_installed_already_leaves_its_counters(tmp_path: Path, enrolled):
    """The last step, removing the source, was interrupted; meanwhile the device has counted."""
    source, root = enrolled(), tmp_path / "root"
    kept = {path.name: path.read_bytes() for path in source.iterdir()}
    install(source, Staged(root))
    for name in ("counter.a", "counter.b"):
        (root / STATE / name).write_bytes(slot(1 + BLOCK))
    for name, data in kept.items():
        (source / name).write_bytes(data)
    report = install(source, Staged(root))
    assert report["identity"] == "in place already"
    assert {(root / STATE / name).read_bytes() for name in ("counter.a", "counter.b")} == {slot(1 + BLOCK)}
    assert not (source / "device.json").exists()


def test_a_device_that_runs_is_not_installed_from_under_itself(tmp_path: Path, hub: Hub):
    (tmp_path / "there").mkdir()
    directory = Directory(tmp_path / "there", hub.port)
    process = directory.start("--json")
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(DeviceError, match="another process runs the device"):
            install(directory.path, Staged(tmp_path / "root"))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: (d / "counter.a").unlink(), "has no counter.a"),
        (lambda d: (d / "counter.b").write_bytes(b"SWN1" + bytes(8)), "counter.b is spoilt"),
        (lambda d: (d / "device.json").write_text("{}"), "format None"),
        (lambda d: (d / "device.json").write_text("{"), "is no JSON"),
        (lambda d: (d / "head.bin").write_bytes(b"SWH1"), "head.bin cannot be used"),
    ],
)
def test_what_cannot_be_installed_is_refused_before_anything_changes(tmp_path: Path, enrolled, spoil, says):
    source = enrolled()
    spoil(source)
    with pytest.raises(SlimwireError, match=says):
        install(source, Staged(tmp_path / "root"))
    assert not (tmp_path / "root").exists()


def test_a_machine_that_lacks_something_is_told_what():
    failed = Check("runtime", "no LiteRT", False, "pip install 'slimwire[device]'")
    with pytest.raises(SlimwireError, match="runtime: no LiteRT") as error:
        checks.refuse_failed([Check("python", "3.11"), failed])
    assert "slimwire[device]" in error.value.remedy


def test_uninstall_keeps_identity_and_counters_unless_purged(tmp_path: Path, enrolled):
    root = tmp_path / "root"
    install(enrolled(), Staged(root))
    assert uninstall(Staged(root))["removed"] == [str(root / "etc/systemd/system" / NAME)]
    assert (root / IDENTITY).exists()
    assert (root / STATE / "counter.a").exists()
    removed = uninstall(Staged(root), purge=True)["removed"]
    assert removed[0] == str(root / IDENTITY)  # first: no identity is left without its counters
    assert not (root / STATE).exists()
    assert not (root / IDENTITY).parent.exists()
    assert uninstall(Staged(root), purge=True) == {"removed": []}


def test_on_the_command_line(tmp_path: Path, enrolled):
    source = enrolled()
    command = [sys.executable, "-m", "slimwire", "device"]
    where = ["--root", str(tmp_path / "root"), "--json"]
    done = subprocess.run(
        [*command, "install", source, *where], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["eui64"] == EUI.hex()
    again = subprocess.run(
        [*command, "install", source, *where], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert again.returncode == 2
    assert "moved, not copied" in again.stderr
    gone = subprocess.run(
        [*command, "uninstall", *where, "--purge"], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert len(json.loads(gone.stdout)["removed"]) == 6


def test_the_running_machine_s_systemd_is_told(tmp_path: Path, enrolled, monkeypatch: pytest.MonkeyPatch):
    """With a stand-in for systemctl alone: the order of its calls, and where one fails."""
    calls: list[list[str]] = []
    staged = Staged(tmp_path / "root", run=lambda command: calls.append(command) or 0)
    monkeypatch.setattr(Staged, "live", property(lambda self: True))
    monkeypatch.setattr("device.install.hidden_program", lambda extra: "/root/x lies in a home; move it")
    with pytest.raises(DeviceError, match="lies in a home"):
        install(enrolled(), staged)
    assert calls == []
    monkeypatch.setattr("device.install.hidden_program", lambda extra: "")
    assert install(enrolled(), staged)["started"]
    assert [call[1:] for call in calls] == [["stop", NAME], ["daemon-reload"], ["enable", "--now", NAME]]
    failing = Staged(tmp_path / "root", run=lambda command: 1)
    with pytest.raises(SlimwireError, match=r"systemctl .* ended with status 1"):
        uninstall(failing)


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize(("source", "exposure"), [("file", 13), ("camera", 18)])
def test_systemd_accepts_the_unit_and_finds_little_exposed(tmp_path: Path, source: str, exposure: int):
    path = tmp_path / NAME
    path.write_text(unit_text(source))
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    assert NAME not in verified.stderr
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={exposure}", path],
        capture_output=True,
        text=True,
    )
    assert scored.returncode == 0, scored.stdout[-500:]


def test_it_runs_without_memory_both_writable_and_executable(directory: Directory, hub: Hub):
    """As the unit's MemoryDenyWriteExecute has it, here by Linux's own switch for a process."""
    script = (
        "import ctypes, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
        "from slimwire.cli import main\n"
        "sys.argv = ['slimwire', *sys.argv[1:]]\n"
        "main()\n"
    )
    process = directory.start("--once", "--json", script=script)
    output = hub.serve(process)
    if process.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert json.loads(output)["answered"]
