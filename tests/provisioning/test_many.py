"""Several boards at once, and ports that are named in several ways."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from typer.testing import CliRunner

from provisioning import access, many, profiles
from provisioning.emulated import emulate
from provisioning.errors import BoardError, SomeFailedError
from slimwire.cli import app

C3 = profiles.load("esp32c3")


def provision(running, directory, count: int, jobs: int):
    """`up` over a pattern of ports, one of which is no board, twice."""
    with contextlib.ExitStack() as boards:
        for number in range(count):
            boards.enter_context(
                emulate(C3, directory / f"{number}.img", directory / f"board{number}", size_kib=512)
            )
        arguments = ["provision", "up", "--port", str(directory / "board*"), "--board", "esp32c3"]
        arguments += ["--site", str(running.path), "--jobs", str(jobs), "--json"]
        first = CliRunner().invoke(app, arguments)
        assert first.exit_code == 0, first.output
        master, slave = os.openpty()  # a port that nobody is at
        try:
            second = CliRunner().invoke(app, [*arguments, "--port", os.ttyname(slave)])
        finally:
            os.close(master)
            os.close(slave)
    return json.loads(first.stdout), second


def check(first, second, count: int) -> None:
    assert (first["done"], first["failed"]) == (count, 0)
    assert all(board["verified"] and board["changed"] for board in first["boards"])
    assert len({board["eui64"] for board in first["boards"]}) == count
    assert isinstance(second.exception, SomeFailedError)
    assert second.exception.exit_code == 9
    told = json.loads(second.stdout)
    assert (told["done"], told["failed"]) == (count, 1), [board.get("error") for board in told["boards"]]
    *good, bad = told["boards"]
    assert all(board["verified"] and not board["changed"] for board in good)
    assert bad["error"]["fault"] == "no-micropython"
    assert bad["error"]["remedy"]


def test_boards_are_provisioned_side_by_side_and_one_that_fails_stops_no_other(running, tmp_path) -> None:
    check(*provision(running, tmp_path, 2, 2), 2)


@pytest.mark.soak
def test_ten_boards_four_at_a_time(running, tmp_path) -> None:
    check(*provision(running, tmp_path, 10, 4), 10)


def test_no_more_boards_at_a_time_than_asked_for() -> None:
    busy, most, lock = 0, 0, threading.Lock()

    def work(port: str, _):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.02)
        with lock:
            busy -= 1
        if port == "3":
            raise BoardError("it fell down", remedy="pick it up", fault="fallen")
        return {"port": port}

    reports, failed = many.each([str(n) for n in range(8)], 3, work)
    assert most == 3
    assert [report["port"] for report in reports] == [str(n) for n in range(8)]
    assert [error.what for error in failed] == ["it fell down"]
    assert reports[3]["error"]["fault"] == "fallen"
    assert isinstance(many.verdict(8, failed), SomeFailedError)
    assert many.verdict(1, failed) is failed[0]
    assert many.verdict(8, []) is None


def test_an_interruption_ends_those_that_wait() -> None:
    """Ctrl-C comes to the main thread; a board's thread may be waiting for a message then."""
    script = """
import signal, time
from provisioning import many
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell is started without
def work(port, check):
    print("waiting", flush=True)
    while True:
        check()
        time.sleep(0.01)
many.each(["a", "b"], 2, work)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as it:
        assert it.stdout.readline().startswith(b"waiting")
        it.send_signal(signal.SIGINT)
        try:
            assert it.wait(30) != 0
        finally:
            it.kill()
        assert b"KeyboardInterrupt" in it.stderr.read()


def test_ports_are_named_by_path_pattern_and_usb(tmp_path, monkeypatch) -> None:
    for name in ("ttyA", "ttyB", "other"):
        (tmp_path / name).symlink_to("/dev/null")
    (tmp_path / "ttyA.img").write_text("a board's flash, and no port")
    there = [
        access.Port(str(tmp_path / "ttyB"), "303a:1001", "123456", "USB JTAG"),
        access.Port(str(tmp_path / "other"), "", "", ""),
    ]
    monkeypatch.setattr(access, "ports", lambda: there)
    a, b = str(tmp_path / "ttyA"), str(tmp_path / "ttyB")
    assert access.resolve([str(tmp_path / "tty*")]) == [a, b]
    assert access.resolve([b, str(tmp_path / "tty*"), b]) == [b, a]  # each once
    assert access.resolve(["auto"]) == access.resolve(["id:123456"]) == [b]
    for wanted, said in (("id:9", "--port id:9 would find"), (str(tmp_path / "x*"), "there is no port")):
        with pytest.raises(BoardError, match=said) as error:
            access.resolve([wanted])
        assert b in error.value.remedy  # what there is instead
        assert error.value.exit_code == 5
    monkeypatch.setattr(access, "ports", list)
    with pytest.raises(BoardError, match="no board is plugged in"):
        access.resolve(["auto"])
    result = CliRunner().invoke(app, ["provision", "discover", "--json"])
    assert json.loads(result.stdout) == {"ports": []}


def test_discover_names_the_boards_that_a_usb_chip_is_found_on(monkeypatch) -> None:
    there = [access.Port("/dev/ttyACM0", "2e8a:0005", "E66", "Board in FS mode")]
    monkeypatch.setattr(access, "ports", lambda: there)
    result = CliRunner().invoke(app, ["provision", "discover", "--json"])
    (port,) = json.loads(result.stdout)["ports"]
    assert port["boards"] == ["pico-w", "pico2-w"]
    assert CliRunner().invoke(app, ["provision", "discover"]).stdout.startswith("/dev/ttyACM0  USB 2e8a:0005")
