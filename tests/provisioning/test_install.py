"""Real mpremote against an emulated board: install, read back, install again; boards that cannot be used."""

import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from littlefs import LittleFS
from typer.testing import CliRunner

from models.bundle import Bundle
from provisioning import payload
from provisioning.board import Board
from provisioning.emulated import BLOCK, EmulatedBoard, read_image
from provisioning.errors import ProvisionError
from provisioning.identity import EDGE_FILE, GATEWAY_FILE, DeviceOptions
from provisioning.install import Plan, install
from security.keys import derive_edge
from security.registry import EdgeRegistry, GatewayRegistry
from slimwire.cli import app
from wire.ieee802154 import MacFrame
from wire.zep import ZepFrame

EUI = bytes.fromhex("020000fffeaabbcc")


def mpremote(board: EmulatedBoard, *arguments: str) -> str:
    command = [sys.executable, "-m", "mpremote", "connect", str(board.port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


class Installed:
    """A board installed twice, and everything that was seen on the way."""

    def __init__(self, directory: Path) -> None:
        self.site = directory / "site"
        self.image = directory / "flash.img"
        self.said: list[str] = []
        self.listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.listening.bind(("127.0.0.1", 0))
        self.listening.settimeout(30)
        port = self.listening.getsockname()[1]
        with EmulatedBoard(self.image, size=512 << 10) as board:
            plan = Plan(
                port=str(board.port),
                bundle=Bundle.load("fashion-mnist"),
                site_dir=self.site,
                images=2,
                options=DeviceOptions(link={**DeviceOptions().link, "port": port}, log=""),
            )
            self.dry = install(plan, self.said.append, dry_run=True)
            self.nothing = mpremote(board, "exec", "import os; print(os.listdir('/'))")
            self.site_after_dry_run = self.site.exists()
            self.first = install(plan, self.said.append)
            self.frame = self.listening.recv(2048)
            self.first_settings = json.loads(mpremote(board, "exec", "print(open('/device.json').read())"))
            self.config = mpremote(
                board,
                "exec",
                "import firmware.kernels; from firmware import config; c = config.load('/device.json'); "
                "print(c['eui64'].hex(), c['epoch'], c['link']['port'])",
            )
            mpremote(board, "fs", "cp", __file__, ":/lib/firmware/stale.py")
            self.forget_frames()
            self.second = install(plan, self.said.append)
            self.listening.recv(2048)
            self.second_settings = json.loads(mpremote(board, "exec", "print(open('/device.json').read())"))
        self.port = port

    def forget_frames(self) -> None:
        self.listening.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self.listening.recv(2048):
                pass
        self.listening.settimeout(30)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory):
    result = Installed(tmp_path_factory.mktemp("board"))
    yield result
    result.listening.close()


def test_a_dry_run_tells_everything_and_changes_nothing(installed) -> None:
    assert installed.dry["dry_run"]
    assert not installed.dry["verified"]
    assert installed.nothing == "[]"
    assert not installed.site_after_dry_run
    planned = [(f["path"], f["bytes"]) for f in installed.dry["files"]]
    assert planned == [(f["path"], f["bytes"]) for f in installed.first["files"]]


def test_what_was_installed_is_on_the_flash(installed) -> None:
    assert installed.second["verified"]
    flash = read_image(installed.image)
    for file in installed.second["files"]:
        with flash.open(file["path"], "rb") as content:
            assert len(content.read()) == file["bytes"]
    with flash.open("/head.bin", "rb") as head:
        assert head.read() == Bundle.load("fashion-mnist").head_bytes


def test_the_firmware_imports_on_the_board_and_reads_its_settings(installed) -> None:
    assert installed.config == f"{EUI.hex()} 0 {installed.port}"


def test_the_board_starts_and_sends_under_its_identity(installed) -> None:
    frame = MacFrame.parse(ZepFrame.parse(installed.frame).frame)
    assert frame.src == EUI
    assert frame.dst == bytes.fromhex(installed.first["gateway"])


def test_the_registries_know_the_device_as_the_board_does(installed) -> None:
    settings = installed.second_settings
    edge = EdgeRegistry.load(installed.site / EDGE_FILE)
    assert edge.devices[EUI].epochs == {1: derive_edge(bytes.fromhex(settings["root"]), EUI, 1)}
    assert GatewayRegistry.load(installed.site / GATEWAY_FILE).gateway.hex() == settings["gateway"]


def test_a_second_installation_makes_a_new_root(installed) -> None:
    assert installed.first_settings["root"] != installed.second_settings["root"]
    assert (installed.first["epoch"], installed.second["epoch"]) == (0, 1)


def test_a_second_installation_removes_what_is_stale(installed) -> None:
    assert set(installed.second["removed"]) == {"/lib/firmware/stale.py", "/device.json"}
    assert installed.first["removed"] == []


def test_the_root_secret_is_in_no_report_and_no_message(installed) -> None:
    told = json.dumps([installed.first, installed.second, installed.said])
    for settings in (installed.first_settings, installed.second_settings):
        assert settings["root"] not in told


def test_a_port_that_is_not_there_is_refused(tmp_path) -> None:
    result = CliRunner().invoke(
        app, ["provision", "install", "--port", str(tmp_path / "nothing"), "--site-dir", str(tmp_path / "s")]
    )
    assert isinstance(result.exception, ProvisionError)
    assert "there is no port" in str(result.exception)
    assert not (tmp_path / "s").exists()


def test_a_file_that_is_no_serial_port_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("hello")
    with pytest.raises(ProvisionError, match=r"cannot be opened|no MicroPython answers"):
        Board(str(tmp_path / "file")).probe()


def test_a_flash_that_fills_up_is_told_and_nothing_is_enrolled(tmp_path) -> None:
    image = tmp_path / "flash.img"
    flash = LittleFS(block_size=BLOCK, block_count=36)
    with flash.open("/filler", "wb") as file:
        file.write(bytes(90 << 10))
    image.write_bytes(flash.context.buffer)
    with EmulatedBoard(image) as board:
        plan = Plan(str(board.port), Bundle.load("fashion-mnist"), tmp_path / "site", images=1)
        with pytest.raises(ProvisionError, match="is full") as error:
            install(plan, lambda _: None)
    assert "delete files" in str(error.value)
    assert not (tmp_path / "site" / EDGE_FILE).exists()
    assert "device.json" not in read_image(image).listdir("/")


def test_a_flash_that_is_too_small_is_told_before_anything_is_copied(tmp_path) -> None:
    with EmulatedBoard(tmp_path / "flash.img", size=64 << 10) as board:
        plan = Plan(str(board.port), Bundle.load("fashion-mnist"), tmp_path / "site", images=1)
        with pytest.raises(ProvisionError, match="too small"):
            install(plan, lambda _: None)
    assert read_image(tmp_path / "flash.img").listdir("/") == []


def test_a_board_without_a_number_needs_an_address(tmp_path) -> None:
    with EmulatedBoard(tmp_path / "flash.img", unique_id=b"") as board:
        plan = Plan(str(board.port), Bundle.load("fashion-mnist"), tmp_path / "site", images=1)
        with pytest.raises(ProvisionError, match="--eui64"):
            install(plan, lambda _: None, dry_run=True)
        assert Board(str(board.port)).probe().machine.startswith("linux")


@pytest.mark.parametrize(
    ("mpy", "name"), [(2822, "x64"), (10 << 10 | 0x306, "xtensawin"), (4 << 10 | 0x306, "armv6m")]
)
def test_a_board_s_architecture_is_known_from_its_mpy_number(mpy, name) -> None:
    assert payload.architecture_of(mpy) == name
    assert payload.architecture_of(mpy ^ 1) is None
    assert payload.architecture_of(0) is None


@pytest.mark.parametrize("architecture", ["armv6m", "xtensawin", "rv32imc"])
def test_the_firmware_compiles_for_boards(tmp_path, architecture) -> None:
    built = payload.build(architecture, tmp_path)
    sources = payload.build(None, tmp_path)
    assert {p.removesuffix(".mpy") for p in built.files} == {p.removesuffix(".py") for p in sources.files} - {
        "/main"
    } | {"/main.py"}
    assert built.size < sources.size / 2
