"""The whole device, as a process, against the formats and keys of the other rooms."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from firmware.build import compile_to
from firmware.receiver import Receiver
from models.head import Head as Reference
from models.headfile import HeadFile
from tests.firmware.loopback import REPOSITORY, Arrived, Hub, log, settings, start, write_device
from tests.firmware.test_rotation import record
from tests.headgen import WIDTHS, random_head
from wire import rans
from wire.latent import LinkReport
from wire.reply import Answer, CustodyStatus

SHAPE = (12, 12, 1)
LAYERS = ((0, 2, 8), (1, 1, 8), (2, 1, 8))
HEAP = "96k"


@pytest.fixture
def hub():
    made = Hub()
    yield made
    made.close()


@pytest.fixture(scope="session")
def head():
    """Random weights, and tables that code each symbol in about 4 bits."""
    made = random_head(5, SHAPE, LAYERS)
    for width in made.widths:
        width.freqs[:] = np.array([200] * 8 + [312] * 8)
    return made


def of(lines: list[dict[str, object]], event: str) -> list[dict[str, object]]:
    return [line for line in lines if line["e"] == event]


@pytest.mark.parametrize("heap", [HEAP, None], ids=["micropython", "cpython"])
def test_every_sample_arrives_as_logged_and_is_answered(tmp_path: Path, hub: Hub, head, heap):
    """Symbols, widths, counters and seals are right; widths that the answers command apply to the next
    sample.
    """
    write_device(tmp_path, head.emit(), SHAPE, hub.port)
    hub.reply = lambda hub, message: hub.answer(message.counter, Answer(message.counter % 4, cls=3))
    assert hub.serve(start(tmp_path, 1.2, heap)) == ""
    lines = log(tmp_path)
    sent, answers = of(lines, "sent"), of(lines, "answer")
    assert len(sent) == len(answers) == len(hub.arrived) >= 8
    assert lines[0]["e"] == "start"
    assert lines[0]["widths"] == [250, 500, 750, 1000]
    assert lines[-1]["e"] == "end"
    camera = np.frombuffer((tmp_path / "camera.bin").read_bytes()[12:], np.uint8).reshape(-1, *SHAPE)
    width = 0
    for line, answer, message in zip(sent, answers, hub.arrived, strict=True):
        assert line["c"] == answer["c"] == message.counter
        assert line["w"] == round(1000 * WIDTHS[width])
        assert message.header.width == width
        made = head.widths[width]
        symbols = head.run(camera[line["img"]][None], width)[0]
        tables = rans.Tables(made.freqs.astype(np.uint16), made.index.astype(np.uint8))
        np.testing.assert_array_equal(rans.decode(message.coded, tables), symbols)
        assert line["bytes"] == len(message.coded)
        assert line["frames"] == len(message.frames)
        assert line["sealed"] == hashlib.sha256(message.sealed).hexdigest()[:16]
        assert message.header.model_tag == lines[0]["model"]
        assert answer["cls"] == 3
        width = message.counter % 4
        assert answer["next"] == round(1000 * WIDTHS[width])
    assert [line["c"] for line in sent] == list(range(1, len(sent) + 1))
    reports = [message.header.report for message in hub.arrived]
    assert reports[0].duration_ms == 0
    for report, answer in zip(reports[1:], answers, strict=False):
        assert report.duration_ms == LinkReport.unpack(LinkReport(max(answer["ms"], 1)).pack()).duration_ms
        assert report.retries == 0


@pytest.mark.parametrize(
    ("heap", "compiled", "kept"), [("64k", True, "auto"), ("96k", False, "auto"), ("96k", True, "ram")]
)
def test_the_shipped_bundle_runs_in_a_small_heap_and_leaves_it_flat(
    tmp_path: Path, hub: Hub, heap, compiled, kept
):
    """The whole agent with the real head, at every width, under forged answers, for 120 messages: what is
    installed, in 64 KiB; from sources, or with the head in memory, in 96.
    """
    data = (REPOSITORY / "models/bundles/fashion-mnist/head.bin").read_bytes()
    shape = (data[5], data[6], data[7])
    write_device(tmp_path, data, shape, hub.port)
    (tmp_path / "device.json").write_text(json.dumps(settings(hub.port, period_ms=5, head=kept)))
    package = REPOSITORY
    if compiled:
        package = tmp_path / "lib"
        compile_to(package, "x64")
    forged = 0

    def reply(hub: Hub, message: Arrived) -> list[bytes]:
        nonlocal forged
        answer = Answer(message.counter % 4, cls=message.counter, detail="a remark " * 11)
        frames, lies = under_attack(hub, message.counter, answer)
        forged += lies
        return frames

    hub.reply = reply
    assert hub.serve(start(tmp_path, 60, heap, package), messages=120) == ""
    lines = log(tmp_path)
    sent, answers = of(lines, "sent"), of(lines, "answer")
    assert lines[0]["head"] in {"64k-auto": ("flash",), "96k-auto": ("flash", "ram")}.get(
        f"{heap}-{kept}", (kept,)
    )
    # On a busy machine an answer may be late, and its message come twice.
    first = {message.counter: message for message in reversed(hub.arrived)}
    assert len(first) >= 110
    assert len(answers) >= 110
    assert all(answer["cls"] == answer["c"] for answer in answers)
    assert {line["w"] for line in sent} == set(lines[0]["widths"])
    counts = of(lines, "rx")[-1]
    assert 0 <= counts["accepted"] - 2 * len(answers) <= 1 + len(sent) - len({line["c"] for line in sent})
    assert sum(counts["rejected"].values()) >= forged * 0.9  # what came after the last answer may be unread
    assert lines[-1]["e"] == "end"
    assert lines[0]["heap_free"] - lines[-1]["heap_free"] < 3000
    assert lines[-1]["heap_free"] > 4096
    camera = np.frombuffer((tmp_path / "camera.bin").read_bytes()[12:], np.uint8).reshape(-1, *shape)
    parsed = HeadFile.parse(data)
    for line in sent:
        message = first[line["c"]]
        width = message.header.width
        symbols = Reference(parsed).run(camera[line["img"]][None], width)[0]
        assert np.array_equal(rans.decode(message.coded, parsed.widths[width].tables), symbols)


def under_attack(hub: Hub, counter: int, answer: Answer) -> tuple[list[bytes], int]:
    """The frames of an answer among every forgery of them that an attacker on the air can make, and how many
    those are.
    """
    frames = hub.answer(counter, answer)
    assert len(frames) >= 2
    first, *rest = frames
    lie = hub.answer(counter, Answer(0, cls=9999, detail="x" * len(answer.detail)))
    stranger = hub.reply_frames(counter, bytes(range(150)), key=bytes(32))
    flipped = [frame[:-1] + bytes((frame[-1] ^ 1,)) for frame in frames]
    elsewhere = [frame[:5] + b"\x55" + frame[6:] for frame in frames]
    bad = [*stranger, *flipped, *elsewhere, first[:-7], rest[0][:30], rest[0][:24]]
    # Lies after the genuine first fragment carry the right tag, size and offset, yet the wrong bytes.
    mixed = [*bad, first, *lie[1:], *reversed(rest[:-1]), *lie[1:], first, *rest[:-1], rest[-1], *frames]
    return mixed, len(bad) + 2 * len(lie[1:])


def test_a_retry_repeats_the_frames_and_a_lost_message_narrows_the_next(tmp_path: Path, hub: Hub, head):
    write_device(tmp_path, head.emit(), SHAPE, hub.port, deadline_ms=200, retries=2)

    def reply(hub: Hub, message: Arrived) -> list[bytes]:
        if message.counter == 3:
            return []
        attempts = sum(other.counter == message.counter for other in hub.arrived)
        return (
            hub.answer(message.counter, Answer(3)) if attempts == (2 if message.counter == 2 else 1) else []
        )

    hub.reply = reply
    hub.serve(start(tmp_path, 2.6, HEAP))
    lines = log(tmp_path)
    by_counter: dict[int, list[Arrived]] = {}
    for message in hub.arrived:
        by_counter.setdefault(message.counter, []).append(message)
    assert [len(by_counter[counter]) for counter in (1, 2, 3)] == [1, 2, 3]
    for messages in by_counter.values():
        assert all(
            [frame[3:-2] for frame in message.frames] == [frame[3:-2] for frame in messages[0].frames]
            for message in messages
        )
    numbers = [frame[2] for message in hub.arrived for frame in message.frames]
    assert numbers == [n & 0xFF for n in range(len(numbers))]
    assert [line["a"] for line in of(lines, "sent") if line["c"] == 3] == [0, 1, 2]
    assert [line["c"] for line in of(lines, "lost")] == [3]
    widths = {line["c"]: line["w"] for line in of(lines, "sent")}
    assert [widths[c] for c in (1, 2, 3, 4, 5, 6)] == [250, 1000, 1000, 750, 750, 1000]
    assert by_counter[3][0].header.report.retries == 1
    assert by_counter[4][0].header.report.retries == 2
    assert by_counter[4][0].header.report.duration_ms >= 200 + 400 + 800 - 16


@pytest.mark.parametrize("heap", [HEAP, None], ids=["micropython", "cpython"])
def test_a_link_that_fails_is_counted_and_does_not_end_the_agent(tmp_path: Path, hub: Hub, head, heap):
    """Nobody listens at first, which the system tells the socket; then the gateway comes."""
    hub.close()
    write_device(tmp_path, head.emit(), SHAPE, hub.port, deadline_ms=50, retries=0)
    process = start(tmp_path, 60, heap)
    end = time.monotonic() + 30
    while not (tmp_path / "log.jsonl").exists() or len(of(log(tmp_path), "lost")) < 4:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    late = Hub(port=hub.port)
    try:
        assert late.serve(process, messages=3) == ""
    finally:
        late.close()
    lines = log(tmp_path)
    assert of(lines, "rx")[-1]["link_errors"] >= 2
    assert of(lines, "answer")
    assert lines[-1]["e"] == "end"


def wait_for(process: subprocess.Popen[str], root: Path, event: str, count: int) -> None:
    """Until the device has logged so many of these; it must go on running."""
    end = time.monotonic() + 30
    while not (root / "log.jsonl").exists() or len(of(log(root), event)) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_flash_that_fails_stops_messages_and_not_the_device(tmp_path: Path, hub: Hub, head):
    """First the file of the key epoch cannot be written, at a message lost on trial; then, 64 messages later,
    a counter's slot. Each time the device goes on once it can, and uses no counter twice.
    """
    write_device(tmp_path, head.emit(), SHAPE, hub.port, deadline_ms=10, retries=0, period_ms=5)
    (tmp_path / "epoch").write_bytes(record(1, 0, 1))
    (tmp_path / "epoch.new").mkdir()
    process = start(tmp_path, 60, HEAP)
    try:
        wait_for(process, tmp_path, "lost", 2)
        assert not of(log(tmp_path), "epoch")
        (tmp_path / "counter.a").unlink()
        (tmp_path / "counter.a").mkdir()
        (tmp_path / "epoch.new").rmdir()
        wait_for(process, tmp_path, "epoch", 1)
        wait_for(process, tmp_path, "lost", 64)
        (tmp_path / "counter.a").rmdir()
        wait_for(process, tmp_path, "lost", 70)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == ""
    finally:
        process.kill()
    lines = log(tmp_path)
    counters = [line["c"] for line in of(lines, "sent")]
    assert counters == list(range(1, len(counters) + 1))
    assert [(line["epoch"], line["mark"]) for line in of(lines, "epoch")][:1] == [(0, -16)]
    assert of(lines, "rx")[-1]["link_errors"] >= 2
    assert max(int.from_bytes((tmp_path / f"counter.{x}").read_bytes()[4:8], "big") for x in "ab") == 129


def test_a_log_that_cannot_be_written_costs_lines_only(tmp_path: Path, hub: Hub, head):
    """A disk that is full, as Linux has one to try with."""
    write_device(tmp_path, head.emit(), SHAPE, hub.port, log="../../../../../../../../dev/full")
    process = start(tmp_path, 60, HEAP)
    assert hub.serve(process, messages=4).count("Traceback") == 0
    assert len({message.counter for message in hub.arrived}) >= 3


def test_what_was_received_is_reported_while_a_message_is_being_lost(tmp_path: Path, hub: Hub, head):
    write_device(tmp_path, head.emit(), SHAPE, hub.port, deadline_ms=1600, retries=1)
    hub.reply = lambda hub, message: [hub.answer(message.counter)[0][:-1]]
    hub.serve(start(tmp_path, 1, HEAP))
    lines = log(tmp_path)
    events = [line["e"] for line in lines]
    assert "rx" in events[: events.index("lost")]
    assert of(lines, "rx")[0]["rejected"] == {"bad-mac": 2}


def test_custody_stops_retries_but_not_the_wait(tmp_path: Path, hub: Hub, head):
    write_device(tmp_path, head.emit(), SHAPE, hub.port, deadline_ms=250)
    hub.reply = lambda hub, message: (
        hub.custody(message.counter, CustodyStatus.COMMITTED)
        + (hub.answer(message.counter) if message.counter > 1 else [])
    )
    hub.serve(start(tmp_path, 0.8, HEAP))
    lines = log(tmp_path)
    assert [line["a"] for line in of(lines, "sent") if line["c"] == 1] == [0]
    assert of(lines, "custody")[0] == {
        "t": of(lines, "custody")[0]["t"],
        "e": "custody",
        "c": 1,
        "status": "committed",
    }
    assert not of(lines, "lost")
    assert of(lines, "answer")[0]["c"] == 2


def test_a_device_that_keeps_until_the_answer_asks_again_after_custody(tmp_path: Path, hub: Hub, head):
    write_device(tmp_path, head.emit(), SHAPE, hub.port, deadline_ms=250, custody="keep-until-answer")
    attempts: dict[int, int] = {}

    def reply(hub: Hub, message: Arrived) -> list[bytes]:
        attempt = attempts[message.counter] = attempts.get(message.counter, -1) + 1
        status = CustodyStatus.ALREADY if attempt else CustodyStatus.COMMITTED
        answer = hub.answer(message.counter) if attempt == 1 or message.counter > 1 else []
        return hub.custody(message.counter, status) + answer

    hub.reply = reply
    hub.serve(start(tmp_path, 1.2, HEAP))
    lines = log(tmp_path)
    assert [line["a"] for line in of(lines, "sent") if line["c"] == 1] == [0, 1]
    assert [line["status"] for line in of(lines, "custody") if line["c"] == 1] == ["committed", "already"]
    assert of(lines, "answer")[0]["c"] == 1
    assert not of(lines, "lost")


def test_a_downlink_under_attack(tmp_path: Path, hub: Hub, head):
    """Answers of two and more fragments, and every forgery of them an attacker on the air can make: nothing
    forged is accepted, everything has its reason, and the heap stays what it was.
    """
    write_device(tmp_path, head.emit(), SHAPE, hub.port)
    details = "".join(chr(97 + i % 26) for i in range(300))
    forged = 0

    def reply(hub: Hub, message: Arrived) -> list[bytes]:
        nonlocal forged
        answer = Answer(2, cls=message.counter, detail=details[: 100 + message.counter % 3 * 90])
        frames, lies = under_attack(hub, message.counter, answer)
        forged += lies
        return frames

    hub.reply = reply
    hub.serve(start(tmp_path, 2.5, HEAP))
    lines = log(tmp_path)
    answers = of(lines, "answer")
    assert len(answers) == len(of(lines, "sent")) >= 4
    for answer in answers:
        assert answer["cls"] == answer["c"]
        assert answer["detail"] == details[: 100 + answer["c"] % 3 * 90]
    counts = of(lines, "rx")[-1]
    fragments = sum(2 + answer["c"] % 3 for answer in answers)
    assert counts["accepted"] == fragments
    rejected = counts["rejected"]
    assert set(rejected) >= {
        "bad-mac",
        "bad-tag",
        "duplicate",
        "foreign",
        "bad-size",
        "truncated",
        "no-first",
    }
    assert sum(rejected.values()) >= forged - len(answers)
    # A dictionary of reasons and the tasks are all that may have come to stay.
    assert lines[0]["heap_free"] - lines[-1]["heap_free"] < 3000


def test_the_receiver_keeps_within_two_kilobytes():
    keys = (bytes(64), bytes(64))
    receiver = Receiver(bytes(8), bytes(8), 0, keys, None, (bytes(18), bytes(36)))
    held = [value for value in vars(receiver).values() if isinstance(value, bytes | bytearray | memoryview)]
    assert sum(len(value) for value in held) + sum(map(len, keys)) + 8 * len(vars(receiver)) <= 2048
