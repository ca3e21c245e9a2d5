"""The gateway as a process between a radio and the real edge server: genuine latents, answers on the air."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models.bundle import Bundle
from models.head import Head
from security import seal
from tests.gateway.kit import GATEWAY, Node, custody_ack, edge_registry, registry, save_registry
from tests.gateway.test_downlink import hear
from wire import latent, lowpan, rans
from wire.ieee802154 import MacFrame
from wire.latent import InnerHeader
from wire.message import Kind, octet0
from wire.reply import Answer, CustodyStatus, Status
from wire.zep import ZepFrame

SLIMWIRE = [sys.executable, "-m", "slimwire"]
PATIENCE = 60.0  # s; only ever spent when something is broken

Run = Callable[..., tuple["subprocess.Popen[str]", str]]


@contextlib.contextmanager
def process(directory: Path, *arguments: str, until: str, **environment: str) -> Iterator[tuple[Any, str]]:
    """A `slimwire` process and what it had logged once it logged `until`; SIGTERM ends it."""
    log = directory / f"{arguments[0]}-{time.monotonic_ns()}.log"
    # Of the environment only what programs need: a developer's own settings stay out.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    with log.open("w") as sink:
        running = subprocess.Popen(
            [*SLIMWIRE, *arguments], stderr=sink, stdout=sink, text=True, env={**kept, **environment}
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while until not in log.read_text():
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield running, log.read_text()
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            # uvicorn ends the edge server with the signal it got, once it has shut down.
            assert running.wait(PATIENCE) in ((0,) if arguments[0] == "gateway" else (0, -signal.SIGTERM))
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        running.kill()
        running.wait()


def admin(path: Path, question: str) -> Any:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        response = client.get("http://gateway" + question)
        assert response.status_code == 200, response.text
        return response.json() if "json" in response.headers["content-type"] else response.text


class Radio:
    """A device's side of the air: a UDP socket that speaks ZEP to the gateway."""

    def __init__(self, gateway: tuple[str, int]) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.connect(gateway)
        self._sock.settimeout(PATIENCE)
        self._seq = 0
        #: Custody acks heard: counter and status.
        self.custody: list[tuple[int, str]] = []

    def told(self, node: Node) -> tuple[int, str]:
        """The next custody ack; answers before it are passed over."""
        while True:
            ack = custody_ack(ZepFrame.parse(self._sock.recv(512)).frame, node)
            if ack is not None:
                return ack.counter, CustodyStatus(ack.status).name.lower()

    def send(self, frames: list[bytes]) -> None:
        for frame in frames:
            self._seq += 1
            self._sock.send(ZepFrame(26, 1, 255, self._seq, frame).emit())

    def answer(self, node: Node, counter: int) -> bytes:
        """The sealed answer to message `counter`; every frame is verified, as are custody acks before it."""
        frames: list[bytes] = []
        while True:
            frame = ZepFrame.parse(self._sock.recv(512)).frame
            ack = custody_ack(frame, node)
            if ack is not None:
                self.custody.append((ack.counter, CustodyStatus(ack.status).name.lower()))
                continue
            frames.append(frame)
            mac = MacFrame.parse(frames[0])
            first = lowpan.parse(mac.payload, mac.src, mac.dst)
            total = 1 if isinstance(first, lowpan.Unfragmented) else 2
            if len(frames) >= total:
                heard, sealed = hear(frames, node)
                assert heard == counter
                return sealed

    def silent(self) -> bool:
        """Whether nothing has come."""
        self._sock.setblocking(False)
        try:
            self._sock.recv(512)
        except BlockingIOError:
            return True
        finally:
            self._sock.settimeout(PATIENCE)
        return False

    def close(self) -> None:
        self._sock.close()


class Camera:
    """Latents of the shipped bundle's images."""

    def __init__(self) -> None:
        self.bundle = Bundle.load("fashion-mnist")
        self.images, _ = self.bundle.camera()
        self.head = Head(self.bundle.headfile)

    def sealed(self, node: Node, counter: int, image: int, width: int) -> bytes:
        symbols = self.head.run(self.images[image : image + 1], width)[0]
        coded = rans.encode(symbols, self.bundle.headfile.widths[width].tables)
        plaintext = latent.emit(InnerHeader(self.bundle.headfile.model_tag, width), coded)
        return seal.seal_up(node.edge_keys, node.eui, octet0(Kind.DATA, node.epoch), counter, plaintext)

    def class_of(self, image: int, width: int) -> int:
        """What the bundle's own tail says."""
        symbols = self.head.run(self.images[image : image + 1], width)[0]
        return int(np.argmax(self.bundle.tail().run([(width, symbols)])[0]))


def opened(node: Node, counter: int, sealed: bytes) -> Answer:
    return Answer.parse(seal.open_down(node.edge_keys, octet0(Kind.REPLY, node.epoch), counter, sealed))


NODE, LATE, LATER = Node(1), Node(2), Node(3)


@pytest.fixture(scope="module")
def edge_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("edge")


@pytest.fixture(scope="module")
def edge(edge_home: Path) -> Iterator[str]:
    """The URL of a real edge server that serves the shipped bundle."""
    directory = edge_home
    edge_registry(NODE, LATE).save(directory / "edge-registry.json")
    arguments = ["edge", "run", "--port", "0", "--registry", str(directory / "edge-registry.json")]
    with process(directory, *arguments, until="listening on") as (_, log):
        found = re.search(r"http://[0-9.]+:[0-9]+", log)
        assert found
        yield found[0]


class Bench:
    """A running gateway, its files and its radio."""

    def __init__(self, directory: Path, log: str) -> None:
        self.directory = directory
        self.registry = directory / "registry.json"
        self.admin = directory / "gateway.sock"
        found = re.search(r"ZEP on UDP ([0-9.]+):([0-9]+)", log)
        assert found
        self.address = (found[1], int(found[2]))


@pytest.fixture(scope="module")
def bench(edge: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("gateway")
    save_registry(directory / "registry.json", NODE)
    arguments = ["gateway", "run", "--state", str(directory), "--listen", "127.0.0.1:0", "--edge", edge]
    with process(directory, *arguments, until="gateway: gateway") as (_, log):
        bench = Bench(directory, log)
        yield bench
    assert not bench.admin.exists()


@pytest.fixture
def radio(bench: Bench) -> Iterator[Radio]:
    radio = Radio(bench.address)
    yield radio
    radio.close()


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera()


def test_a_latent_goes_up_and_its_answer_comes_down(bench: Bench, radio: Radio, camera: Camera) -> None:
    before = admin(bench.admin, "/v1/status")
    widths = range(len(camera.bundle.headfile.widths))
    for counter, width in enumerate(widths, 100):
        sealed = camera.sealed(NODE, counter, image=counter % 7, width=width)
        radio.send(NODE.frames(counter, sealed))
        answer = opened(NODE, counter, radio.answer(NODE, counter))
        assert answer.status is Status.ANSWERED
        assert answer.cls == camera.class_of(counter % 7, width)
        (entry,) = [m for m in admin(bench.admin, "/v1/delivered")["messages"] if m["counter"] == counter]
        assert entry["device"] == NODE.eui.hex()
        assert entry["sha256"] == hashlib.sha256(sealed).hexdigest()[:16]
    after = admin(bench.admin, "/v1/status")
    assert after["messages"] - before["messages"] == len(widths)
    assert after["uplink"]["delivered"] - before["uplink"]["delivered"] == len(widths)
    assert after["memory"]["used"] == 0
    trust = admin(bench.admin, f"/v1/trust/{NODE.eui.hex()}")
    assert trust["history"][-1]["cause"] == "answered"
    assert trust["trust"] > 0.5


def test_a_retry_is_answered_with_the_stored_answer(bench: Bench, radio: Radio, camera: Camera) -> None:
    frames = NODE.frames(200, camera.sealed(NODE, 200, 0, 0))
    radio.send(frames)
    first = radio.answer(NODE, 200)
    rejected = admin(bench.admin, "/v1/status")["fragments"]["rejected"].get("already-complete", 0)
    radio.send(frames)  # at once: late duplicates
    while admin(bench.admin, "/v1/status")["fragments"]["rejected"].get(
        "already-complete", 0
    ) < rejected + len(frames):
        time.sleep(0.01)
    assert radio.silent()
    time.sleep(0.25)  # the retry gap
    radio.send(frames[:1])  # its first fragment is enough
    assert radio.answer(NODE, 200) == first
    assert radio.custody == [(200, "committed"), (200, "already")]


def test_forgeries_are_counted_and_draw_no_answers_away(bench: Bench, radio: Radio, camera: Camera) -> None:
    attacker = Radio(bench.address)
    sealed = camera.sealed(NODE, 300, 1, 0)
    frames = NODE.frames(300, sealed)
    forged = MacFrame.parse(NODE.frames(301, sealed)[0])
    forged.payload = forged.payload[:-1] + bytes([forged.payload[-1] ^ 1])
    stranger = Node(9).frames(1, b"x" * 30)
    for _ in range(20):
        attacker.send([forged.emit(), *stranger, b"rubbish"])
    radio.send(frames)
    opened(NODE, 300, radio.answer(NODE, 300))
    assert attacker.silent()
    rejected = admin(bench.admin, "/v1/status")["fragments"]["rejected"]
    assert rejected["bad-mac"] >= 20
    assert rejected["stranger"] >= 20
    assert rejected["malformed-frame"] >= 20
    assert admin(bench.admin, "/v1/devices")["strangers"][0]["source"] == Node(9).eui.hex()
    assert 'slimwire_gateway_dropped_total{reason="bad-mac"}' in admin(bench.admin, "/metrics")
    attacker.close()


def test_a_replayed_message_does_not_say_where_its_device_is(
    bench: Bench, radio: Radio, camera: Camera
) -> None:
    """Whoever recorded an older one would have custody acks and answers sent to himself, on any leg."""
    attacker = Radio(bench.address)
    older, newest = (NODE.frames(counter, camera.sealed(NODE, counter, 1, 0)) for counter in (350, 351))
    for counter, frames in ((350, older), (351, newest)):
        radio.send(frames)
        radio.answer(NODE, counter)
    time.sleep(0.25)  # the retry gap
    attacker.send(older[:1])
    assert radio.told(NODE) == (350, "already")
    radio.answer(NODE, 350)
    assert attacker.silent()
    moved = Radio(bench.address)
    moved.send(newest[:1])  # a device that repeats its newest message is believed
    moved.answer(NODE, 351)
    attacker.close()
    moved.close()


def test_a_seal_that_does_not_open_costs_trust_once(bench: Bench, radio: Radio) -> None:
    def history() -> list[dict[str, Any]]:
        changes = admin(bench.admin, f"/v1/trust/{NODE.eui.hex()}")["history"]
        return [change for change in changes if change["cause"] != "time"]

    radio.send(NODE.frames(400, b"no seal at all" * 3))
    while not history() or history()[-1]["cause"] != "seal":
        time.sleep(0.01)
    assert radio.told(NODE) == (400, "committed")
    time.sleep(0.25)  # a copy of it, by whoever: not taken again, and no evidence
    radio.send(NODE.frames(400, b"no seal at all" * 3))
    assert radio.told(NODE) == (400, "already")
    assert history()[-1]["times"] == 1
    assert history()[-1]["after"] < history()[-1]["before"]


def test_a_device_enrolled_while_it_runs_is_served(bench: Bench, radio: Radio, camera: Camera) -> None:
    save_registry(bench.registry, NODE, LATE)
    while len(admin(bench.admin, "/v1/devices")["devices"]) < 2:
        time.sleep(0.05)
    radio.send(LATE.frames(1, camera.sealed(LATE, 1, 2, 0)))
    assert opened(LATE, 1, radio.answer(LATE, 1)).status is Status.ANSWERED


def test_a_device_that_the_edge_server_does_not_know_yet_loses_nothing(
    bench: Bench, edge_home: Path, radio: Radio, camera: Camera
) -> None:
    """The gateway has the new registry, the edge server has not: custody is given, and kept."""

    def told(text: str) -> bool:
        return any(text in line for line in admin(bench.admin, "/v1/status")["advice"])

    save_registry(bench.registry, NODE, LATE, LATER)
    while len(admin(bench.admin, "/v1/devices")["devices"]) < 3:
        time.sleep(0.05)
    for counter in (1, 2, 3):
        radio.send(LATER.frames(counter, camera.sealed(LATER, counter, 2, 0)))
        assert radio.told(LATER) == (counter, "committed")
    while not told(f"has no keys for {LATER.eui.hex()}"):
        time.sleep(0.05)
    radio.send(NODE.frames(450, camera.sealed(NODE, 450, 2, 0)))  # the others are served meanwhile
    opened(NODE, 450, radio.answer(NODE, 450))
    state = admin(bench.admin, "/v1/status")
    assert list(state["uplink"]["unknown"].values()) == [[{"device": LATER.eui.hex(), "epoch": 0}]]
    assert state["outbox"]["messages"] == 3
    assert 'slimwire_gateway_edge_unknown{server="http' in admin(bench.admin, "/metrics")
    edge_registry(NODE, LATE, LATER).save(edge_home / "edge-registry.json")
    for counter in (1, 2, 3):
        assert opened(LATER, counter, radio.answer(LATER, counter)).status is Status.ANSWERED
    while admin(bench.admin, "/v1/status")["outbox"]["messages"]:
        time.sleep(0.05)
    assert not told("has no keys")


def test_a_device_that_was_revoked_is_told_so(bench: Bench, radio: Radio, camera: Camera) -> None:
    registry(NODE, revoked=(LATE,)).save(bench.registry)
    while not any(device["revoked"] for device in admin(bench.admin, "/v1/devices")["devices"]):
        time.sleep(0.05)
    radio.send(LATE.frames(2, camera.sealed(LATE, 2, 2, 0)))
    assert radio.told(LATE) == (2, "revoked")
    assert 'slimwire_gateway_custody_total{status="revoked"} 1.0' in admin(bench.admin, "/metrics")
    save_registry(bench.registry, NODE, LATE)


def test_a_damaged_registry_leaves_the_last_good_one_in_force(
    bench: Bench, radio: Radio, camera: Camera
) -> None:
    good = bench.registry.read_text()
    bench.registry.write_text("{")
    time.sleep(1.2)  # the file is looked at every second
    radio.send(NODE.frames(500, camera.sealed(NODE, 500, 2, 0)))
    assert opened(NODE, 500, radio.answer(NODE, 500)).status is Status.ANSWERED
    bench.registry.write_text(good)


def test_the_commands_ask_the_running_gateway(bench: Bench) -> None:
    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*SLIMWIRE, "gateway", *arguments, "--admin", str(bench.admin)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    state = json.loads(ask("status", "--json").stdout)
    assert state["gateway"] == GATEWAY.hex()
    assert NODE.eui.hex() in [device["device"] for device in state["devices"]]
    assert NODE.eui.hex() in ask("status").stdout
    assert "bad" not in ask("trust", "show", NODE.eui.hex()).stderr
    unknown = ask("trust", "show", "ffffffffffffffff")
    assert unknown.returncode == 2
    assert "not enrolled" in unknown.stderr


def test_a_second_gateway_on_the_same_socket_is_refused(bench: Bench) -> None:
    second = subprocess.run(
        [*SLIMWIRE, "gateway", "run", "--state", str(bench.directory), "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2
    assert "belongs to another gateway that is running" in second.stderr


def test_with_no_arguments_it_makes_its_state_and_says_how_to_enrol(tmp_path: Path) -> None:
    with process(
        tmp_path,
        "gateway",
        "run",
        "--listen",
        "127.0.0.1:0",
        until="gateway: gateway",
        XDG_STATE_HOME=str(tmp_path),
    ) as (_, log):
        assert "made an empty registry" in log
        assert "enrol one with" in log
        registry = tmp_path / "slimwire" / "registry.json"
        assert registry.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "slimwire" / "gateway.sock").stat().st_mode & 0o777 == 0o660


def test_a_socket_left_by_a_killed_gateway_is_taken_over(tmp_path: Path) -> None:
    arguments = ["gateway", "run", "--state", str(tmp_path), "--listen", "127.0.0.1:0"]
    with process(tmp_path, *arguments, until="gateway: gateway") as (first, _):
        first.kill()
        first.wait()
    assert (tmp_path / "gateway.sock").exists()
    with process(tmp_path, *arguments, until="gateway: gateway"):
        assert admin(tmp_path / "gateway.sock", "/healthz") == "ok\n"


def test_an_answer_that_got_lost_is_had_again_from_a_gateway_that_was_killed_since(
    edge: str, edge_home: Path, tmp_path: Path, camera: Camera
) -> None:
    save_registry(tmp_path / "registry.json", NODE)
    arguments = ["gateway", "run", "--state", str(tmp_path), "--listen", "127.0.0.1:0", "--edge", edge]
    sealed = camera.sealed(NODE, 9000, 3, 0)
    heard, told = [], []
    for _ in range(2):
        with process(tmp_path, *arguments, until="gateway: gateway") as (gateway, log):
            radio = Radio(Bench(tmp_path, log).address)
            radio.send(NODE.frames(9000, sealed))
            heard.append(radio.answer(NODE, 9000))
            told += radio.custody
            radio.close()
            gateway.kill()
            gateway.wait()
    assert told == [(9000, "committed"), (9000, "already")]
    assert heard[0] == heard[1]
    assert opened(NODE, 9000, heard[1]).cls == camera.class_of(3, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--registry", "/nonexistent/registry.json"], "there is no registry /nonexistent/registry.json"),
        (["--state", "/dev/null/state"], "no registry can be made at /dev/null/state/registry.json"),
        (["--edge", "nowhere"], "--edge is 'nowhere'"),
        (["--pcap", "/nonexistent/all.pcap"], "--pcap"),
        (["--admin", "/nonexistent-" + "x" * 120], "at most 107 bytes"),
        (["--config", "/nonexistent.toml"], "/nonexistent.toml: no such file"),
    ],
)
def test_what_it_cannot_start_with_is_named_with_a_remedy(
    tmp_path: Path, options: list[str], said: str
) -> None:
    ended = subprocess.run(
        [*SLIMWIRE, "gateway", "run", "--listen", "127.0.0.1:0", "--state", str(tmp_path), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "remedy: " in ended.stderr
    assert "Traceback" not in ended.stderr
