"""`slimwire demo` as a person runs it: real processes, real MicroPython, and nothing left behind."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from lab.demo import report, view
from lab.demo.run import Plan, check
from lab.sim.record import fragment_of, mac_of
from models.bundle import SHIPPED, Bundle, shipped
from slimwire.errors import SlimwireError
from tests.lab.test_air import datagrams
from wire import pcap
from wire.coverage import Coverage

MARK = "SLIMWIRE_TEST_RUN"


class Demo:
    """A demo in a process of its own, whose descendants can be found by a mark in their environment."""

    def __init__(self, directory, *options):
        self.mark = uuid.uuid4().hex
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "slimwire", "demo", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, MARK: self.mark, "TMPDIR": str(directory)},
        )

    def finish(self):
        out, err = self.process.communicate(timeout=200)
        return self.process.returncode, out, err

    def family(self):
        """Ids of the processes of this run that still live, the demo's own left out."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                marked = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0] if marked else "Z"
            except OSError:
                continue
            if marked and state != "Z" and int(entry.name) != self.process.pid:
                found.append(int(entry.name))
        return found

    def leftovers(self, seconds=10):
        """What lives a moment after the demo's end."""
        end = time.monotonic() + seconds
        while self.family() and time.monotonic() < end:
            time.sleep(0.1)
        return self.family()

    def wait_for_devices(self):
        """Wait until MicroPython runs."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            assert self.process.poll() is None, self.process.communicate()
            for log in self.directory.glob("slimwire-demo-*/device-*/log.jsonl"):
                if '"sent"' in log.read_text():
                    return
            time.sleep(0.1)
        pytest.fail("no device ever sent")


@pytest.fixture
def short_tmp():
    """A short path: the admin socket's is bounded."""
    with tempfile.TemporaryDirectory(prefix="swt-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """One run under attack with captures: its directory, result and standard error.

    At the widest width, whose messages have three frames: an attacker aims at open datagrams.
    """
    directory = tmp_path_factory.mktemp("demo")
    with tempfile.TemporaryDirectory(prefix="swt-") as name:
        demo = Demo(
            Path(name), "--seconds", "12", "--devices", "3", "--attack", "inject", "--seed", "7", "--json",
            "--policy", "fixed-1.0",
            "--pcap", str(directory / "all.pcap"), "--pcap-legit", str(directory / "legit.pcap"),
        )  # fmt: skip
        code, out, err = demo.finish()
        assert code == 0, err
        assert demo.leftovers() == []
        assert list(Path(name).iterdir()) == []
    return directory, json.loads(out), err


def test_the_whole_journey_under_attack(shown):
    _, result, err = shown
    assert (result["devices"], result["wifi"], result["seconds"], result["seed"]) == (4, 1, 12, 7)
    assert result["runtime"].startswith("micropython")
    assert (result["heap_kib"], result["camera"]) == (64, "512 pictures of the bundle")
    assert result["answers"] >= 0.9 * result["sent"]
    assert result["answers"] >= 60
    assert result["lost"] == 0
    low, high = result["top1_interval99"]
    assert low <= result["top1"] <= high
    assert sum(item["answers"] for item in result["widths"].values()) == result["answers"]
    assert set(result["widths"]) <= {"0.25", "0.5", "0.75", "1.0"}
    assert len(result["widths"]) >= 2
    assert result["switches"] >= 1
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    assert result["fragments"]["accepted"] >= result["answers"]
    assert "link" in err


def test_forgeries_hit_open_datagrams_and_none_is_accepted(shown):
    _, result, _ = shown
    forged = result["forged"]
    assert forged["sent"] >= 200
    assert forged["sent_at_open"] >= 60
    assert (forged["accepted"], forged["downlink_accepted"]) == (0, 0)
    assert sum(forged["by_kind"].values()) == forged["sent"]
    assert forged["by_kind"]["early-fragment"] > 0
    assert result["fragments"]["rejected"]["bad-tag"] > 0
    assert result["fragments"]["rejected"]["bad-mac"] > 0
    assert sum(result["downlink"]["rejected"].values()) > 0


def test_the_captures_differ_by_the_attackers_frames(shown):
    directory, result, _ = shown
    everything, legit = (
        Counter(record.data for record in pcap.Reader((directory / name).read_bytes()))
        for name in ("all.pcap", "legit.pcap")
    )
    assert legit <= everything
    # What was in the air's queue when it was stopped is in neither count.
    assert abs((everything - legit).total() - result["forged"]["sent"]) <= 5


def fully_sent(path):
    """(source, size, tag) of each fragmented datagram whose every octet is in the capture."""
    coverage = {}
    for record in pcap.Reader(path.read_bytes()):
        mac = mac_of(record.data)
        fragment = fragment_of(mac)
        if fragment is not None:
            key = (fragment.key[0].hex(), fragment.key[2], fragment.key[3])
            pieces = coverage.setdefault(key, Coverage(fragment.payload_length, 64))
            pieces.add(fragment.offset, fragment.length)
    return {key for key, pieces in coverage.items() if pieces.complete}


@pytest.mark.needs("tshark")
def test_tshark_and_wire_dump_reassemble_all_that_was_fully_sent(shown):
    directory, result, _ = shown
    path = directory / "legit.pcap"
    expected = fully_sent(path)
    assert len(expected) >= 10
    rows = datagrams(path)
    assert {row.checksum for row in rows} == {"1"}  # good
    assert not any(row.malformed for row in rows)
    assert {(row.source, row.size, row.tag) for row in rows if row.size} == expected
    assert len(rows) >= 2 * result["answers"]
    dump = subprocess.run(
        [sys.executable, "-m", "slimwire", "wire", "dump", str(path), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in dump.stdout.splitlines()]
    assert [line["error"] for line in lines if line.get("error")] == []
    assert sum("datagram" in line for line in lines) == len(rows)


def test_without_the_lock_forgeries_are_accepted(short_tmp):
    demo = Demo(short_tmp, "--seconds", "4", "--seed", "7", "--verifier", "pass-through", "--json")
    code, out, err = demo.finish()
    assert code == 0, err
    result = json.loads(out)
    assert result["verifier"] == "pass-through"
    assert result["forged"]["accepted"] > 0
    assert demo.leftovers() == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_nothing_is_left_behind_when_it_is_interrupted(number, code, short_tmp):
    demo = Demo(short_tmp, "--seconds", "60")
    demo.wait_for_devices()
    assert len(demo.family()) >= 7
    demo.process.send_signal(number)
    assert demo.finish()[0] == code
    assert demo.leftovers() == []
    if number != signal.SIGKILL:
        assert list(short_tmp.iterdir()) == []


def test_a_tier_that_cannot_start_is_named_and_its_log_kept(short_tmp, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(SHIPPED / "fashion-mnist", bundle)
    (bundle / "tail.tflite").write_bytes(b"not a tail")
    info = json.loads((bundle / "bundle.json").read_text())
    info["tail"]["sha256"] = hashlib.sha256(b"not a tail").hexdigest()
    (bundle / "bundle.json").write_text(json.dumps(info))
    demo = Demo(short_tmp, "--seconds", "5", "--bundle", str(bundle))
    code, out, err = demo.finish()
    assert (code, out) == (4, "")
    assert "edge ended with status" in err
    assert "the tail is no LiteRT model" in err
    assert len(list(short_tmp.glob("slimwire-demo-*/edge.log"))) == 1
    assert demo.leftovers() == []


def test_a_tier_that_fails_in_the_middle_ends_the_run(short_tmp):
    demo = Demo(short_tmp, "--seconds", "20", "--json", "--pcap", "/dev/full")
    code, out, err = demo.finish()
    assert (code, out) == (4, "")
    assert "air ended with status" in err
    assert "No space left" in err
    assert demo.leftovers() == []


@pytest.mark.parametrize(
    ("options", "said"), [(["--trace", "nowhere"], "norway3g-"), (["--bundle", "nothing"], "fashion-mnist")]
)
def test_a_plan_that_cannot_be_run_names_what_can(options, said, short_tmp):
    code, _, err = Demo(short_tmp, *options).finish()
    assert code == 2
    assert said in err
    assert list(short_tmp.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in shipped() if name != Plan().bundle])
def test_every_other_shipped_bundle_runs(name, short_tmp):
    demo = Demo(short_tmp, "--seconds", "5", "--devices", "1", "--bundle", name, "--attack", "none", "--json")
    code, out, err = demo.finish()
    assert code == 0, err
    result = json.loads(out)
    assert result["answers"] >= 0.8 * result["sent"] > 0
    assert result["heap_kib"] == Bundle.load(name).heap_kib
    assert (result["top1"] is None) == ("generated" in result["camera"])


def test_broken_promises_are_errors():
    good = {
        "verifier": "chain",
        "lost": 0,
        "forged": {"accepted": 0, "downlink_accepted": 0},
    }
    check(good)
    check({**good, "verifier": "pass-through", "forged": {"accepted": 3, "downlink_accepted": 0}})
    for forged in ({"accepted": 1, "downlink_accepted": 0}, {"accepted": 0, "downlink_accepted": 1}):
        with pytest.raises(SlimwireError, match="forged"):
            check({**good, "forged": forged})
    with pytest.raises(SlimwireError, match="never answered"):
        check({**good, "lost": 2})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pcap", "{d}/a.pcap", "--pcap-legit", "{d}/./a.pcap"), "are both"),
        (("--pcap", "{d}/none/a.pcap"), "a.pcap cannot be written"),
        (("--pcap-legit", "{d}"), "cannot be written"),
    ],
)
def test_a_capture_that_cannot_be_written_is_refused_before_anything_starts(short_tmp, options, said):
    demo = Demo(short_tmp, *(option.format(d=short_tmp) for option in options))
    code, out, err = demo.finish()
    assert (code, out) == (2, "")
    assert said in err
    assert list(short_tmp.iterdir()) == []


@pytest.mark.parametrize("terminal", [True, False])
def test_the_view_shows_every_device_and_the_attack(terminal, capsys):
    from rich.console import Console

    console = Console(force_terminal=terminal, width=120, stderr=True)
    state = view.State(
        elapsed=1.0,
        seconds=30.0,
        devices=[view.Device("device-1", 9, 8, 7, "Sneaker", 0.98, [250, 1000])],
        all_widths=[250, 500, 750, 1000],
        rate=123.0,
        rejected={"bad-tag": 5},
        forged=6,
        forged_at_open=4,
    )
    with view.make(console) as shown_view:
        shown_view.note("starting")
        shown_view.show(state)
    err = capsys.readouterr().err
    assert "123 kb/s" in err
    for text in ("device-1", "Sneaker", "bad-tag 5", "0.98") if terminal else ("answers 8/9", "refused 5"):
        assert text in err


def test_the_table_has_every_figure(shown):
    _, result, _ = shown
    from rich.console import Console

    console = Console(width=200, record=True, quiet=False, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(report.table(result))
    text = console.export_text()
    for width in result["widths"]:
        assert f"width {width}" in text
    for reason in result["fragments"]["rejected"]:
        assert reason in text


def test_the_default_plan_is_the_documented_one():
    plan = Plan()
    assert (plan.seconds, plan.devices, plan.wifi, plan.attack, plan.seed) == (30, 3, 1, True, 7)
    assert plan.verifier == "chain"
