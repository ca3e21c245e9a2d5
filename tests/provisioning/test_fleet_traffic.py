"""Rotation and revocation under traffic: real services, a real MicroPython with 64 KiB of heap, the commands.

What a device sent before it was revoked is answered, each message once, whatever its keys were meanwhile.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware.build import compile_to
from models.bundle import Bundle
from provisioning import site_file, watch
from provisioning.device_files import write_device_root
from provisioning.emulated import find_interpreter
from provisioning.errors import GatewayAwayError
from provisioning.identity import DeviceOptions, Site
from provisioning.secret import key_file

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60.0
SLIMWIRE = [sys.executable, "-m", "slimwire"]


def until(happens: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while True:
        result = happens()
        if result:
            return result
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Lab:
    """A site with a vault, its services as processes, and one device."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.toml = directory / "sites" / "lab.toml"
        self.admin = directory / "gw.sock"
        self.log = directory / "device" / "log.jsonl"
        site_file.write(self.toml, host="127.0.0.1", admin=self.admin)
        with self.toml.open("a") as file:
            file.write('\n[vault]\nkey_file = "vault.key"\n')
        self.key = directory / "sites" / "vault.key"
        self.key.write_bytes(os.urandom(32))
        self.key.chmod(0o600)
        self.children: list[subprocess.Popen[bytes]] = []
        self.provision("vault")
        self.site = directory / "sites" / "lab"
        self.gateway = watch.Gateway([self.admin])
        self.device: subprocess.Popen[bytes] | None = None
        self.heap, self.restarts = "64k", 0

    def provision(self, *arguments: str) -> Any:
        command = [*SLIMWIRE, "provision", *arguments, "--site", str(self.toml), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, name: str, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
                cwd=self.directory,
            )
        self.children.append(child)
        return child

    def said(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def services(self) -> int:
        """Start both; the gateway's UDP port."""
        key = ["--registry-key", str(self.site / "registry.pub")]
        edge = [*SLIMWIRE, "edge", "run", "--port", "0", "--registry", str(self.site / "edge-registry.json")]
        edge += [*key, "--bundle", "fashion-mnist", "--state", str(self.directory / "edge")]
        self.start("edge", edge)
        url = until(lambda: _after(self.said("edge"), "listening on ", ","), "the edge server's address")
        gateway = [*SLIMWIRE, "gateway", "run", "--registry", str(self.site / "registry.json"), *key]
        gateway += ["--listen", "127.0.0.1:0", "--edge", url, "--admin", str(self.admin)]
        self.start("gateway", [*gateway, "--state", str(self.directory / "gateway")])
        until(lambda: _answers(self.gateway), "the gateway")
        return int(self.gateway.status()["link"].rpartition(":")[2].split()[0].rstrip(",;)"))

    def run_device(self, library: Path) -> None:
        # Relative, as short as a board's /lib: the paths of modules lie in the device's heap.
        command = [
            find_interpreter(),
            "-X",
            f"heapsize={self.heap}",
            "-m",
            "firmware.main",
            self.log.parent.name,
        ]
        self.device = self.start("device", command, MICROPYPATH=f"{library.name}:.frozen")

    def until(self, happens: Callable[[], Any], what: str) -> Any:
        """As `until`; a device that asks to be started anew is, as a board resets itself."""

        def look() -> Any:
            if self.device is not None and self.device.poll() == 3:
                self.restarts += 1
                self.run_device(self.directory / "l")
            return happens()

        return until(look, what)

    def stop_device(self) -> None:
        assert self.device is not None
        self.device.send_signal(signal.SIGINT)
        self.device.wait(PATIENCE)

    def lines(self, event: str) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        whole = self.log.read_text().rpartition("\n")[0]
        return [line for line in map(json.loads, whole.splitlines()) if line["e"] == event]

    def answered(self) -> set[int]:
        return {line["c"] for line in self.lines("answer")}

    def sent(self) -> list[int]:
        return [line["c"] for line in self.lines("sent") if line["a"] == 0]

    def more_answers(self, count: int) -> None:
        before = len(self.answered())
        self.until(
            lambda: len(self.answered()) >= before + count, f"{count} more answers\n{self.said('device')}"
        )


def _after(text: str, before: str, behind: str) -> str:
    return text.partition(before)[2].partition(behind)[0]


def _answers(gateway: watch.Gateway) -> bool:
    try:
        return bool(gateway.status())
    except GatewayAwayError:
        return False


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    for child in made.children:
        child.kill()
        child.wait()


@pytest.mark.parametrize("heap", ["64k", "128k"])
def test_rotate_under_traffic_loses_nothing_and_revoke_holds_from_the_next_frame(
    lab: Lab, tmp_path: Path, heap: str
) -> None:
    lab.heap = heap
    library = tmp_path / "l"
    compile_to(library, "x64")
    port = lab.services()
    link = {**DeviceOptions().link, "port": port, "gap_ms": 2}
    options = DeviceOptions(link=link, period_ms=60, deadline_ms=1000, retries=3)
    with Site.open(lab.site, secret=key_file(lab.key)) as site:
        settings = site.new_identity(bytes.fromhex("0200000000000001"), options)
        site.enrol(settings, "pump")
    old, new = settings["epoch"], settings["epoch"] + 1
    bundle = Bundle.load("fashion-mnist")
    write_device_root(lab.log.parent, bundle, settings, bundle.camera()[0][:8])
    lab.run_device(library)
    lab.more_answers(5)

    report = lab.provision("rotate", "pump")
    assert report["rotated"] == [{"eui64": settings["eui64"], "from": old, "to": new}]
    lab.until(lambda: [line["mark"] for line in lab.lines("epoch")][-1:] == [0], "an epoch that is kept")
    assert [(line["epoch"], line["mark"]) for line in lab.lines("epoch")] == [(new, 1), (new, 0)]
    assert lab.restarts == (1 if heap == "64k" else 0)
    lab.more_answers(5)
    (device,) = lab.gateway.devices()
    assert (device["epochs"], device["epoch_heard"]) == ([old, new], new)

    # A restart goes on in the new epoch, with counters that go on.
    lab.stop_device()
    before = lab.sent()
    end = lab.lines("end")[-1]
    lab.log.rename(lab.log.with_name("first.jsonl"))
    lab.run_device(library)
    lab.more_answers(5)
    epochs = {m["counter"]: m["epoch"] for m in lab.gateway._get("/v1/delivered?since=0")["messages"]}
    assert min(lab.sent()) > max(before)
    assert {epochs[counter] for counter in lab.answered()} == {new}
    assert {epoch for counter, epoch in epochs.items() if counter in before} == {old, new}
    assert not lab.lines("epoch")

    # Revoked: the next frame is refused under that name; nothing is delivered any more.
    lab.provision("revoke", "pump", "--yes")
    delivered = lab.gateway.mark()
    rejected = until(lambda: lab.gateway.status()["fragments"]["rejected"].get("revoked"), "reason `revoked`")
    assert rejected >= 1
    assert lab.gateway.mark() == delivered
    answered, sent = lab.answered(), lab.sent()
    lab.stop_device()

    first = [json.loads(line) for line in lab.log.with_name("first.jsonl").read_text().splitlines()]
    assert not [line for line in first if line["e"] == "lost"]
    assert len({line["c"] for line in first if line["e"] == "answer"}) >= len(before) - 1  # the one under way
    assert len(set(sent) - answered) <= 1 + sum(counter > max(answered) for counter in sent)
    assert end["heap_free"] > 0
    for name in ("gateway", "edge"):
        assert settings["root"] not in lab.said(name)
        assert "Traceback" not in lab.said(name)
