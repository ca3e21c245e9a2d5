"""A board through mpremote, what is said when it cannot be used, and the files that it gets."""

import hashlib
import json
import subprocess
from dataclasses import replace

import pytest
from littlefs import LittleFS

from models.bundle import Bundle
from provisioning import access, payload, profiles
from provisioning.board import Board, key_check, veiled
from provisioning.emulated import BLOCK, EmulatedBoard, emulate, read_image
from provisioning.errors import BoardError
from provisioning.up import Request, Up
from security.keys import derive_gateway
from tests.vectors.registry import claim

C3 = profiles.load("esp32c3")


def test_files_are_written_as_they_are_and_read_back(tmp_path) -> None:
    files = {
        "/a/b/c.bin": bytes(range(256)) * 33,  # longer than one program, and than a block
        "/empty": b"",
        "/a/text.py": "print('ä')\n".encode(),
    }
    with emulate(C3, tmp_path / "flash.img", size_kib=256) as emulated:
        board = Board(str(emulated.port))
        said: list[str] = []
        board.probe()
        board.copy(files, said.append)
        assert said == list(files)
        expected = payload.Payload(files, None).digests()
        assert board.digests([*files, "/nothing"]) == {**expected, "/nothing": ""}
        assert board.clear("/a", ["/a/text.py"], ["/empty"]) == ["/a/b/c.bin", "/empty"]
        assert board.look("/a", [], []).files == {"/a/text.py": expected["/a/text.py"]}
    flash = read_image(tmp_path / "flash.img")
    with flash.open("/a/text.py", "rb") as file:
        assert file.read() == files["/a/text.py"]


def test_a_board_says_the_epoch_and_keys_that_it_sends_with(tmp_path, monkeypatch) -> None:
    """Whatever lies in its file `epoch`; and asking changes nothing of it. All cases in one program: each
    visit to a board takes a second.
    """
    cases = claim("epoch.json", "provisioning")
    files = {name: code for name, code in payload.firmware("x64").files.items() if name != payload.MAIN}
    for i, case in enumerate(cases):
        settings = {
            "format": 1,
            "eui64": case["device"],
            "epoch": case["enrolled"],
            "site": case["site"],
            "gateway": "02000000000000fe",
            "root": case["root"],
            "link": {"type": "zep", "host": "127.0.0.1"},
            "source": {"type": "file", "path": "camera.bin"},
        }
        files |= {f"/epoch.{i}": bytes.fromhex(case["bytes"]), f"/device.{i}": json.dumps(settings).encode()}
    said: list[str] = []
    with emulate(C3, tmp_path / "flash.img", size_kib=512) as emulated:
        board = Board(str(emulated.port))
        board.probe()
        board.copy(files, lambda _: None)
        look, names = board._exec, ["/epoch", "/epoch.new"]

        def all_of_them(code: str) -> list[str]:
            turns = "".join(
                f"os.rename('/epoch.{i}', '/epoch')\nos.rename('/device.{i}', '/device.json')\n"
                f"exec(code)\nprint('next')\n"
                for i in range(len(cases))
            )
            said.extend(look(f"import os\ncode = {code!r}\n{turns}"))
            return []

        monkeypatch.setattr(board, "_exec", all_of_them)
        nonce = board.look("/nothing", names, []).nonce
    answers = "\n".join(said).split("next")
    assert len(answers) == len(cases) + 1
    for case, answer in zip(cases, answers, strict=False):
        told = [tuple(json.loads(line)) for line in answer.split("\n") if line]
        epoch = case.get("use", case["enrolled"])
        device, root = bytes.fromhex(case["device"]), bytes.fromhex(case["root"])
        keys = derive_gateway(root, device, epoch, case["site"])
        assert dict(told)["keys"] == [epoch, key_check(nonce, keys.frag_up, keys.frag_dn)], case["name"]
        digest = hashlib.sha256(bytes.fromhex(case["bytes"])).hexdigest()
        assert [value for kind, value in told if kind == "file"] == [["/epoch", digest]]


def test_no_content_of_a_file_is_on_a_command_line(tmp_path, monkeypatch) -> None:
    seen: list[str] = []
    real = subprocess.Popen

    def watch(command, **options):
        seen.extend(map(str, command))
        return real(command, **options)

    with emulate(C3, tmp_path / "flash.img", size_kib=256) as emulated:
        board = Board(str(emulated.port))
        monkeypatch.setattr(subprocess, "Popen", watch)
        board.copy({"/secret": b"hush hush"}, lambda _: None)
    assert seen
    assert not any("hush" in word or "aHVzaCBodXNo" in word for word in seen)


def test_secrets_are_compared_by_digests_that_are_worth_nothing_later() -> None:
    settings = {"root": "aa" * 32, "site": "lab", "wifi": {"ssid": "w", "key": "hush"}}
    first, second = veiled(settings, b"1"), veiled(settings, b"2")
    assert "root" not in first
    assert first["wifi"]["ssid"] == "w"
    assert first["wifi"]["key"] not in ("hush", second["wifi"]["key"])
    assert key_check(b"1", b"a" * 32, b"b" * 32) != key_check(b"2", b"a" * 32, b"b" * 32)


MAIN = """
import time
end = time.ticks_add(time.ticks_ms(), {milliseconds})
while time.ticks_diff(end, time.ticks_ms()) > 0:
    try:
        time.sleep_ms(20)
        {action}
    except KeyboardInterrupt:
        pass
"""


def got_past(directory, milliseconds: int, action: str) -> tuple[Board, list[str]]:
    """Probe a board whose program swallows Ctrl-C for a while; the board, and the resets that it took."""
    with emulate(C3, directory / "flash.img", size_kib=256) as emulated:
        port = str(emulated.port)
        board = Board(port)
        machine = board.probe().machine
        main = MAIN.format(milliseconds=milliseconds, action=action)
        board.copy({"/main.py": main.encode()}, lambda _: None)
        board.reset()
        pressed: list[str] = []
        again = Board(port, pressed.append)
        assert again.probe().machine == machine
    return again, pressed


@pytest.mark.soak
def test_a_silent_program_that_swallows_ctrl_c_is_reset_and_got_past(tmp_path) -> None:
    _, pressed = got_past(tmp_path, 1800, "pass")
    assert len(pressed) <= 1  # none where this computer was so slow that the program ended by itself


@pytest.mark.soak
def test_a_talking_program_that_swallows_ctrl_c_is_got_past_by_the_ladder(tmp_path) -> None:
    """mpremote gives up after 10 s; the next rung does not."""
    board, pressed = got_past(tmp_path, 13000, "print('.')")
    assert board._way == ("resume",)
    assert pressed == []


def test_a_port_that_says_nothing_is_reset_once_and_then_named(tmp_path) -> None:
    import os

    master, slave = os.openpty()
    pressed: list[str] = []
    try:
        with pytest.raises(BoardError, match="no MicroPython answers") as error:
            Board(os.ttyname(slave), pressed.append).probe()
    finally:
        os.close(master)
        os.close(slave)
    assert len(pressed) == 1
    assert error.value.fault == "no-micropython"
    assert access.candidates() in error.value.remedy


def test_a_port_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(BoardError, match="there is no port") as error:
        Board(str(tmp_path / "nothing"))
    assert error.value.fault == "no-port"


def test_a_file_that_is_no_serial_port_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("hello")
    with pytest.raises(BoardError, match="cannot be opened"):
        Board(str(tmp_path / "file")).probe()


def test_a_flash_that_fills_up_in_the_middle_is_told(tmp_path) -> None:
    image = tmp_path / "flash.img"
    flash = LittleFS(block_size=BLOCK, block_count=36)
    with flash.open("/filler", "wb") as file:
        file.write(bytes(90 << 10))
    image.write_bytes(flash.context.buffer)
    with EmulatedBoard(image) as emulated:
        board = Board(str(emulated.port))
        with pytest.raises(BoardError, match="is full") as error:
            board.copy({"/big": bytes(60 << 10)}, lambda _: None)
    assert error.value.fault == "flash-full"
    assert "delete files" in error.value.remedy


@pytest.fixture(scope="module")
def request_of(running):
    return Request(site=running.site, profile=C3, bundle=Bundle.load("fashion-mnist"), wait_s=None)


def test_a_flash_that_is_too_small_is_told_before_anything_is_written(request_of, tmp_path) -> None:
    with (
        emulate(C3, tmp_path / "flash.img", size_kib=64) as emulated,
        pytest.raises(BoardError, match="too small"),
    ):
        Up(str(emulated.port), request_of, lambda _: None).run()
    assert read_image(tmp_path / "flash.img").listdir("/") == []


def test_a_board_without_a_number_needs_an_address(request_of, tmp_path) -> None:
    anything = replace(request_of, profile=profiles.load("generic"), dry_run=True)
    with EmulatedBoard(tmp_path / "flash.img", unique_id=b"") as emulated:
        with pytest.raises(BoardError, match="--eui64"):
            Up(str(emulated.port), anything, lambda _: None).run()
        named = replace(anything, eui=bytes.fromhex("0200000000000005"))
        assert Up(str(emulated.port), named, lambda _: None).run()["eui64"] == "0200000000000005"


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
