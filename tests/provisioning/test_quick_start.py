"""The README's quick start, line by line, with the emulated board that it offers to those without one."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.provisioning.test_flashing import esp_image

README = Path(__file__).parents[2] / "README.md"
BIN = Path(sys.executable).parent


def block(marker: str) -> list[str]:
    """The commands of the code block after a comment, in order."""
    text = README.read_text()
    found = re.search(rf"<!-- {marker}[^\n]*-->\n```sh\n(.*?)```", text, re.DOTALL)
    assert found, marker
    return [line for line in found[1].splitlines() if line and not line.startswith("#")]


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Shell:
    """Runs lines as a person would, in a directory and with ports of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.udp, self.tcp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        self.env = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(directory),
            "XDG_STATE_HOME": str(directory / "state"),
            "SLIMWIRE_WIFI_KEY": "not asked for here",
            "SLIMWIRE_GATEWAY__EDGE": f"http://127.0.0.1:{self.tcp}",
            "COLUMNS": "200",
        }
        self.background: list[subprocess.Popen[bytes]] = []
        self.said: dict[str, str] = {}

    def run(self, line: str) -> None:
        """One line. What a test machine needs: its own ports, and the emulated board for a plugged-in one."""
        ours = line.replace("192.0.2.10", f"127.0.0.1 --port {self.udp}").replace(":17754", f":{self.udp}")
        ours = ours.replace("--port auto", "--port board")
        ours = ours.replace("edge run", f"edge run --port {self.tcp}")
        ours = ours.replace("edge status", f"edge status --url http://127.0.0.1:{self.tcp}")
        words = shlex.split(ours.removesuffix("&"))
        if line.endswith("&"):
            log = (self.directory / f"{len(self.background)}.log").open("wb")
            self.background.append(
                subprocess.Popen(words, cwd=self.directory, env=self.env, stdout=log, stderr=log)
            )
            log.close()
            return
        done = subprocess.run(
            words, cwd=self.directory, env=self.env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr, self.logs())
        self.said[line] = done.stdout + done.stderr

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.directory.glob("*.log")))

    def wait_for(self, *paths: str) -> None:
        end = time.monotonic() + 60
        while not all((self.directory / path).exists() for path in paths):
            assert time.monotonic() < end, self.logs()
            time.sleep(0.05)

    def wait_for_edge(self) -> None:
        end = time.monotonic() + 90
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.tcp)) == 0:
                    return
            assert time.monotonic() < end, self.logs()
            time.sleep(0.1)

    def stop(self) -> None:
        for process in self.background:
            process.send_signal(signal.SIGTERM)
        for process in self.background:
            process.wait(30)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("quick"))
    esp_image(shell.directory / "ESP32_GENERIC_C3.bin")
    try:
        for line in block("quick-start: emulated"):
            shell.run(line)
        for line in block("quick-start: tests"):
            if line.startswith("slimwire provision discover"):  # a person has seen both services start
                shell.wait_for("board", "state/slimwire/gateway.sock")
                shell.wait_for_edge()
            shell.run(line)
        yield shell
    finally:
        shell.stop()


def said(shell: Shell, word: str) -> str:
    return next(text for line, text in shell.said.items() if word in line)


def test_every_line_of_the_quick_start_runs(shell) -> None:
    lines = block("quick-start: tests") + block("quick-start: emulated")
    assert sum(line.endswith("&") for line in lines) == len(shell.background) == 3
    assert set(shell.said) == {line for line in lines if not line.endswith("&")}
    assert all(process.poll() is None for process in shell.background)


def test_it_ends_with_an_answer(shell) -> None:
    events = [json.loads(line) for line in said(shell, "logs").splitlines() if line.startswith("{")]
    assert [event for event in events if event["e"] == "answer"]


def test_the_dry_run_shows_the_plan_and_up_carries_it_out(shell) -> None:
    plan = said(shell, "--dry-run")
    assert re.search(r"files +would +copy \d+ files", plan)
    done = next(text for line, text in shell.said.items() if " up " in line and "--dry-run" not in line)
    assert "verified: the gateway took a message" in done


def test_the_wi_fi_key_is_told_nowhere(shell) -> None:
    everything = "".join(shell.said.values()) + shell.logs()
    assert shell.env["SLIMWIRE_WIFI_KEY"] not in everything
    for path in (shell.directory / "sites").rglob("*"):
        if path.is_file():
            assert shell.env["SLIMWIRE_WIFI_KEY"] not in path.read_text("latin-1")


def test_make_sets_up_what_it_needs() -> None:
    asked = subprocess.run(
        ["make", "--dry-run", "--always-make", "setup"],
        cwd=README.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert "[dev]" in asked.stdout
