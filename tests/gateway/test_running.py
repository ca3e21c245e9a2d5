"""The gateway as a process: its legs, its settings read again, its live view, what stops it from starting."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from security import custody
from tests.gateway.brokers import free_port
from tests.gateway.kit import GATEWAY, Node, save_registry, sealed_bytes
from tests.gateway.test_mqtt import Device, fragments
from wire import mqtt
from wire.reply import Custody, CustodyStatus

NODE = Node(1)


class Gateway:
    """One process and its directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.broker, self.metrics = free_port(), free_port()
        self.settings = directory / "gateway.toml"
        save_registry(directory / "registry.json", NODE)
        self.write()
        self.process: subprocess.Popen[str] | None = None

    def write(self, more: str = "") -> None:
        self.settings.write_text(
            f'format = 2\nlisten = "127.0.0.1:0"\nstate = "{self.directory}"\n'
            f'registry = "{self.directory}/registry.json"\nedge = "http://127.0.0.1:9"\n'
            f'metrics = "127.0.0.1:{self.metrics}"\n'
            f'[mqtt]\nbroker = "embedded"\nlisten = "127.0.0.1:{self.broker}"\n{more}'
        )

    def start(self) -> None:
        self.log = self.directory / "log"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "slimwire",
                    "gateway",
                    "run",
                    "--json-logs",
                    "--debug",
                    "--config",
                    self.settings,
                ],
                stdout=out,
                stderr=out,
                text=True,
                env={**os.environ, "SLIMWIRE_GATEWAY__DOWNLINK__QUEUE": "77"},
            )

    def until(self, done: Callable[[], bool]) -> None:
        assert self.process is not None
        end = time.monotonic() + 40
        while not done():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def ask(self, path: str) -> httpx.Response:
        transport = httpx.HTTPTransport(uds=str(self.directory / "gateway.sock"))
        with httpx.Client(transport=transport, base_url="http://gateway") as client:
            return client.get(path)

    def ready(self) -> bool:
        try:
            return self.ask("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    made.start()
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()


def test_a_wifi_device_gets_custody_while_the_edge_server_is_away(gateway: Gateway) -> None:
    gateway.until(gateway.ready)
    with closing(Device(gateway.broker, NODE)) as device:
        gateway.until(lambda: device._there)
        device.publish(*fragments(NODE, 1, sealed_bytes(300), 200))
        gateway.until(lambda: bool(device.heard))
        fragment = mqtt.Fragment.parse(device.heard[0])
        ack = Custody.parse(fragment.data)
        assert (fragment.counter, ack.status) == (1, CustodyStatus.COMMITTED)
        assert custody.verify(NODE.keys.frag_dn, GATEWAY, NODE.eui, ack)
    status = gateway.ask("/v1/status").json()
    assert status["outbox"]["messages"] == 1
    legs = {leg["name"]: leg for leg in status["legs"]}
    assert (legs["mqtt"]["up"], legs["mqtt"]["received"]) == (True, 2)
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.metrics}") as outside:
        assert [outside.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        assert [outside.get(path).status_code for path in ("/v1/status", "/v1/devices", "/docs")] == [404] * 3
        metrics = outside.get("/metrics").text
    assert NODE.eui.hex() not in metrics
    assert 'slimwire_gateway_leg_received_total{leg="mqtt"} 2.0' in metrics
    assert 'slimwire_gateway_leg_up{leg="zep"} 1.0' in metrics
    assert 'slimwire_gateway_custody_total{status="full"} 0.0' in metrics
    assert 'slimwire_gateway_edge_away{server="http://127.0.0.1:9"} 1.0' in metrics
    assert 'slimwire_gateway_dropped_total{reason="bad-mac"} 0.0' in metrics
    assert 'slimwire_gateway_trust_bucket{le="1.0"} 1.0' in metrics
    assert gateway.end() == 0
    assert any("127.0.0.1:9 does not answer" in line["message"] for line in gateway.lines())
    steps = [line for line in gateway.lines() if line["logger"] == "slimwire.trace"]
    assert [line["message"] for line in steps] == ["accepted", "committed"]
    assert {(line["device"], line["counter"], len(line["trace"])) for line in steps} == {
        (NODE.eui.hex(), 1, 16)
    }


def test_settings_are_read_again_on_sighup(gateway: Gateway) -> None:
    gateway.until(gateway.ready)
    assert gateway.process is not None

    def told(text: str) -> Callable[[], bool]:
        return lambda: any(text in line["message"] for line in gateway.lines())

    gateway.write("[limits]\nrate = 5.0\n[uplink]\nqueue = 9\n")
    gateway.process.send_signal(signal.SIGHUP)
    gateway.until(told("settings read again: limits.rate changed"))
    gateway.until(told("to be in force these need a restart: uplink.queue"))
    gateway.write("[limits]\nrate = 0\n")
    gateway.process.send_signal(signal.SIGHUP)
    gateway.until(told("the changed settings are not used"))
    gateway.until(gateway.ready)


def test_the_live_view_shows_legs_and_devices(gateway: Gateway) -> None:
    gateway.until(gateway.ready)
    shown = subprocess.run(
        [
            sys.executable, "-m", "slimwire", "gateway", "top", "--count", "2", "--every", "0.2",
            "--admin", gateway.directory / "gateway.sock",
        ],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "150"},
    ).stdout  # fmt: skip
    assert "embedded broker" in shown
    assert NODE.eui.hex() in shown
    assert "edge server" in shown


def test_ports_in_use_are_named_with_the_remedy(tmp_path: Path) -> None:
    for kind, setting in (
        (socket.SOCK_DGRAM, "listen"),
        (socket.SOCK_STREAM, "broker"),
        (socket.SOCK_STREAM, "metrics"),
    ):
        directory = tmp_path / setting
        directory.mkdir()
        made = Gateway(directory)
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", 0))
            if kind is socket.SOCK_STREAM:
                other.listen()
            port = other.getsockname()[1]
            if setting == "listen":
                text = made.settings.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}")
            else:
                text = made.settings.read_text().replace(str(getattr(made, setting)), str(port))
            made.settings.write_text(text)
            made.start()
            assert made.process is not None
            assert made.process.wait(40) != 0
        said = made.log.read_text()
        assert f"127.0.0.1:{port}" in said
        assert "remedy: stop what uses that port" in said
