"""`slimwire device run` as a person or a service manager runs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from firmware.counter import BLOCK, slot
from models.bundle import Bundle
from models.head import Head
from tests.device.conftest import HEAD, Directory
from tests.firmware.loopback import Hub
from wire import rans
from wire.reply import Answer, CustodyStatus


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_once_sends_one_sample_and_prints_its_answer(directory: Directory, hub: Hub):
    hub.reply = lambda hub, message: hub.answer(message.counter, Answer(2, cls=7, confidence=65535))
    process = directory.start("--once", "--json", "--quiet")
    output = hub.serve(process)
    assert process.returncode == 0
    result = json.loads(output)
    (message,) = hub.arrived
    assert result.pop("ms") >= 0
    assert result == {
        "answered": True,
        "counter": 1,
        "image": 0,
        "width": 0.25,
        "bytes": len(message.coded),
        "frames": len(message.frames),
        "attempts": 1,
        "class": 7,
        "confidence": 1.0,
        "next_width": 0.75,
    }


def test_once_without_an_answer_ends_with_its_own_exit_code(tmp_path: Path, hub: Hub):
    directory = Directory(tmp_path, hub.port, deadline_ms=50, retries=1)
    process = directory.start("--once", "--json", "--quiet")
    hub.reply = lambda hub, message: []
    output = hub.serve(process)
    assert process.returncode == 14
    result = json.loads(output)
    assert (result["answered"], result["attempts"]) == (False, 2)
    assert "class" not in result


def test_once_ends_where_the_gateway_took_custody_and_the_answer_is_late(tmp_path: Path, hub: Hub):
    directory = Directory(tmp_path, hub.port, deadline_ms=80)
    hub.reply = lambda hub, message: hub.custody(message.counter, CustodyStatus.COMMITTED)
    process = directory.start("--once", "--json", "--quiet")
    result = json.loads(hub.serve(process))
    assert process.returncode == 14
    assert (result["custody"], len(hub.arrived)) == ("committed", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_counters_go_on_behind_the_reserved_ones(
    directory: Directory, hub: Hub, number: int
):
    for start in (1, 1 + BLOCK):
        hub.arrived.clear()
        process = directory.start("--json")

        def reply(hub: Hub, message, process=process):
            if len(hub.arrived) == 3:
                process.send_signal(number)
            return hub.answer(message.counter)

        hub.reply = reply
        events = [json.loads(line) for line in hub.serve(process).splitlines()]
        assert process.returncode == 0
        assert events[0]["e"] == "start"
        assert [event["e"] for event in events[-2:]] == ["rx", "end"]
        assert [message.counter for message in hub.arrived][:3] == [start, start + 1, start + 2]
        assert len(hub.arrived) <= 4


def test_what_a_service_logs_is_what_fails(directory: Directory, hub: Hub):
    process = directory.start("--quiet", "--seconds", "0.2")
    hub.reply = lambda hub, message: hub.answer(message.counter)
    end = time.monotonic() + 30
    hub._socket.settimeout(0.05)
    while process.poll() is None and time.monotonic() < end:
        try:
            data, peer = hub._socket.recvfrom(512)
        except TimeoutError:
            continue
        message = hub.take(data[32:])
        if message:
            for frame in hub.answer(message.counter):
                hub.send(frame, peer)
    code, out, err = ended(process)
    assert (code, out) == (0, "")
    assert [line.split(": ")[1].split(" ")[0] for line in err.splitlines()] == ["started", "ended"]


def test_npz_images_reach_the_gateway_as_the_reference_computes_them(directory: Directory, hub: Hub):
    images = np.random.default_rng(3).integers(0, 256, (5, *directory.shape[:2]), dtype=np.uint8)
    np.savez(directory.path / "mine.npz", x=images)
    hub.reply = lambda hub, message: hub.answer(message.counter, Answer(message.counter % 4, cls=1))
    process = directory.start("--source", "npz", "--path", str(directory.path / "mine.npz"), "--json")
    output = hub.serve(process, messages=8)
    sent = [event for event in map(json.loads, output.splitlines()) if event["e"] == "sent"]
    assert [event["img"] for event in sent[:8]] == [0, 1, 2, 3, 4, 0, 1, 2]
    headfile = Bundle.load("fashion-mnist").headfile
    for event, message in zip(sent, hub.arrived, strict=False):
        width = message.header.width
        symbols = rans.decode(message.coded, headfile.widths[width].tables)
        image = images[event["img"]][None, ..., None]
        assert (symbols == Head(headfile).run(image, width)[0]).all()


def test_two_processes_never_share_counters(directory: Directory, hub: Hub):
    hub.reply = lambda hub, message: hub.answer(message.counter)
    first = directory.start("--json")
    try:
        assert first.stdout is not None
        assert json.loads(first.stdout.readline())["e"] == "start"
        code, _, err = ended(directory.start())
        assert code == 2
        assert "another process runs the device" in err
    finally:
        first.kill()
        first.communicate()


def test_a_kill_at_any_moment_never_repeats_a_counter(directory: Directory, hub: Hub):
    """SIGKILL after one, two, three messages: no message of one run has a counter of another."""
    seen: list[int] = []
    for messages in (1, 2, 3):
        hub.arrived.clear()
        process = directory.start("--quiet")

        def reply(hub: Hub, message, process=process, messages=messages):
            if len(hub.arrived) == messages:
                process.kill()
            return hub.answer(message.counter)

        hub.reply = reply
        hub.serve(process)
        seen += sorted({message.counter for message in hub.arrived})
    assert len(seen) == len(set(seen)) >= 6
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("spoil", "options", "says"),
    [
        (lambda d: d.config.chmod(0o640), [], "others may read it (mode 0640)"),
        (lambda d: d.config.unlink(), [], "device.json cannot be used: No such file"),
        (lambda d: (d.path / "head.bin").unlink(), [], "head.bin cannot be read"),
        (lambda d: (d.path / "head.bin").write_bytes(HEAD.read_bytes()[:-1]), [], "head.bin cannot be used"),
        (lambda d: [(d.path / f"counter.{x}").unlink() for x in "ab"], [], "enrol it anew"),
        (lambda d: (d.path / "camera.bin").unlink(), [], "there is no"),
        (lambda d: None, ["--path", "x.npz"], "--path is of a source"),
        (lambda d: (d.path / "y.npz").write_bytes(b"PK\3\4"), ["y.npz"], "y.npz cannot be used"),
    ],
    ids=["private", "no settings", "no head", "head", "no counters", "no camera", "path", "npz"],
)
def test_a_device_that_is_not_fit_says_why_and_what_to_do(directory: Directory, spoil, options, says):
    spoil(directory)
    if options == ["y.npz"]:
        options = ["--source", "npz", "--path", str(directory.path / "y.npz")]
    code, out, err = ended(directory.start("--once", *options))
    assert (code, out) == (2, "")
    assert says in " ".join(err.split())
    assert "Traceback" not in err
    assert "000102030405" not in err  # the root secret


def test_what_a_source_on_no_linux_needs_is_named(tmp_path: Path, hub: Hub):
    directory = Directory(tmp_path, hub.port, source={"type": "adc"})
    code, _, err = ended(directory.start("--once"))
    assert code == 2
    assert "source adc" in err


def test_the_identity_may_lie_elsewhere_as_a_credential(directory: Directory, hub: Hub):
    """systemd hands credentials over in a directory of its own, readable as its version sees fit."""
    credentials = directory.path / "credentials"
    credentials.mkdir()
    moved = credentials / "identity"
    directory.config.rename(moved)
    moved.chmod(0o440)
    os.environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    try:
        process = directory.start("--config", str(moved), "--once", "--json", "--quiet")
    finally:
        del os.environ["CREDENTIALS_DIRECTORY"]
    assert json.loads(hub.serve(process))["answered"]
    assert (directory.path / "counter.a").read_bytes() != slot(1) or (
        directory.path / "counter.b"
    ).read_bytes() != slot(1)


def test_systemd_is_told_of_start_progress_and_end(directory: Directory, hub: Hub):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory.path / "notify"))
        manager.settimeout(10)
        os.environ["NOTIFY_SOCKET"] = str(directory.path / "notify")
        try:
            process = directory.start("--once", "--json", "--quiet")
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert json.loads(hub.serve(process))["answered"]
        states = []
        while "STOPPING=1" not in states:
            states.append(manager.recv(100).decode())
    assert states[0] == "WATCHDOG=1"  # the event `start`
    assert states.count("READY=1") == 1
    assert states.count("WATCHDOG=1") >= 3
