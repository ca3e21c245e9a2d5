import os
import signal
import subprocess
import sys
import time

import pytest

from lab.demo.processes import Family, TierError, free_tcp_port, interruptible

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True)\ntime.sleep(600)",
]


def gone(pid):
    """Whether no process has this pid any more (or only a zombie that nobody waited for yet)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_gone(pid, seconds=10):
    end = time.monotonic() + seconds
    while not gone(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return gone(pid)


def test_leaving_the_family_ends_everyone(tmp_path):
    with Family(tmp_path) as family:
        children = [family.start(name, SLEEP) for name in ("a", "b")]
        assert all(child.alive for child in children)
    assert all(gone(child.process.pid) for child in children)


def test_an_exception_ends_everyone(tmp_path):
    started = []

    def run():
        with Family(tmp_path) as family:
            started.append(family.start("a", SLEEP).process.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert gone(started[0])


def test_one_that_ignores_sigterm_is_ended_with_its_own_children(tmp_path):
    with Family(tmp_path) as family:
        child = family.start("stubborn", STUBBORN)
        family.wait_until(child, lambda: child.log.read_text().strip().isdigit(), 20, "pid of its child")
        grandchild = int(child.log.read_text())
        family.stop(child, seconds=0.3)
        assert wait_gone(grandchild)
        assert gone(child.process.pid)


def test_a_child_that_ends_before_it_is_ready_is_named_with_what_it_said(tmp_path):
    with Family(tmp_path) as family:
        child = family.start("edge", [sys.executable, "-c", "print('no such bundle'); raise SystemExit(3)"])
        with pytest.raises(
            TierError, match=r"(?s)edge ended with status 3 before.*no such bundle.*edge\.log"
        ):
            family.wait_until(child, lambda: False, 20, "readiness")


def test_a_child_that_never_gets_ready_is_named(tmp_path):
    with Family(tmp_path) as family:
        child = family.start("gateway", SLEEP)
        with pytest.raises(TierError, match="gateway: no readiness within 0 s"):
            family.wait_until(child, lambda: False, 0.1, "readiness")


def test_a_child_that_fails_in_the_middle_is_noticed(tmp_path):
    with Family(tmp_path) as family:
        child = family.start("air", [sys.executable, "-c", "raise RuntimeError('out of air')"])
        child.process.wait(20)
        with pytest.raises(TierError, match="out of air"):
            family.check()


def test_a_program_that_is_not_there_is_named(tmp_path):
    with Family(tmp_path) as family, pytest.raises(TierError, match="cannot start device-1"):
        family.start("device-1", ["/nonexistent/micropython"])


def test_sigterm_is_an_interruption(tmp_path):
    started = []

    def run():
        with interruptible(), Family(tmp_path) as family:
            started.append(family.start("a", SLEEP).process.pid)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert gone(started[0])


def test_children_do_not_outlive_a_parent_that_is_killed(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from lab.demo.processes import Family\n"
        f"family = Family(Path({str(tmp_path)!r}))\n"
        "child = family.start('a', [sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.process.pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    assert wait_gone(pid)


def test_a_free_port_can_be_bound():
    assert 1024 <= free_tcp_port() <= 65535
