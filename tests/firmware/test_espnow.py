"""ESP-NOW to a gateway's dongle: device and dongle on real MicroPython; only the radio is a stand-in."""

from __future__ import annotations

import json
import os
import pty
import select
import socket
import subprocess
import sys
import tty
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.head import Head
from provisioning import device_files, identity
from tests.firmware.loopback import REPOSITORY, log
from tests.gateway.test_journey import process
from wire import slip
from wire.ieee802154 import FrameKind, MacFrame

AIR = Path(__file__).with_name("espnow_air.py").read_text()
DEVICE = """
import sys
sys.path.append(".frozen")
install(int(sys.argv[2]))
lose[0] = 9
import firmware.main
sys.exit(firmware.main.run(sys.argv[1], float(sys.argv[3])))
"""
DONGLE = """
import asyncio, sys
sys.path.append(".frozen")
install(int(sys.argv[1]), [int(other) for other in sys.argv[2:]])
import firmware.dongle
firmware.dongle.run(sys.path[0] + "/dongle.json")
"""


def board(where: Path, script: str, *arguments: object, heap: str = "128k", **streams) -> subprocess.Popen:
    micropython = Path(sys.executable).with_name("micropython")
    where.mkdir(exist_ok=True)
    (where / "start.py").write_text(AIR + script)
    return subprocess.Popen(
        [micropython, "-X", f"heapsize={heap}", where / "start.py", *map(str, arguments)],
        env={**os.environ, "MICROPYPATH": f"{REPOSITORY}:.frozen"},
        **streams,
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def address(port: int) -> str:
    return (b"\x02\0\0\0" + port.to_bytes(2, "big")).hex()


@pytest.fixture
def line():
    """A serial line: (the end that a program holds, the path of the other one)."""
    held, other = pty.openpty()
    tty.setraw(other)
    yield held, os.ttyname(other)
    os.close(held)
    os.close(other)


def test_samples_go_by_espnow_dongle_and_serial_line_and_answers_come_back(micropython, tmp_path, line):
    """Device, dongle, gateway and edge server as processes; the air loses a ninth of the device's packets."""
    held, path = line
    bundle = Bundle.load("fashion-mnist")
    site = tmp_path / "site"
    settings = identity.create_device(site, gateway=bytes.fromhex("02000000000000ff"))
    device_port, dongle_port = free_ports(2)
    settings["link"] = {"type": "espnow", "dongle": address(dongle_port), "channel": 6}
    settings |= {"period_ms": 50, "deadline_ms": 400, "retries": 3}
    root = device_files.write_device_root(tmp_path / "device", bundle, settings)
    (tmp_path / "dongle").mkdir()
    (tmp_path / "dongle/dongle.json").write_text(json.dumps({"format": 1, "channel": 6}))
    dongle = board(tmp_path / "dongle", DONGLE, dongle_port, device_port, stdin=held, stdout=held)
    config = tmp_path / "gateway.toml"
    config.write_text(f'registry = "{site}/registry.json"\n[uart]\nport = "{path}"\n')
    edge_arguments = ["edge", "run", "--port", "0", "--registry", str(site / "edge-registry.json")]
    try:
        with process(tmp_path, *edge_arguments, until="listening on") as (_, edge_log):
            edge = edge_log.partition("http://")[2].split()[0].rstrip(",;")
            gateway_arguments = ["gateway", "run", "--config", str(config), "--state", str(tmp_path)]
            gateway_arguments += ["--listen", "127.0.0.1:0", "--edge", f"http://{edge}"]
            with process(tmp_path, *gateway_arguments, until="gateway: gateway"):
                device = board(root, DEVICE, root, device_port, 3, stdout=subprocess.PIPE, text=True)
                output, _ = device.communicate(timeout=60)
    finally:
        dongle.kill()
        dongle.wait()
    assert (device.returncode, output) == (0, "")
    lines = log(root)
    sent = {event["c"]: event for event in lines if event["e"] == "sent"}
    answers = [event for event in lines if event["e"] == "answer"]
    assert len(answers) >= 10
    assert not [event for event in lines if event["e"] == "lost"]
    assert any(event["a"] for event in sent.values()), "nothing was lost: the test tests less than it says"
    images, _ = bundle.camera()
    widths = [round(1000 * width.width) for width in bundle.headfile.widths]
    tail, head = bundle.tail(), Head(bundle.headfile)
    for answer in answers:
        width = widths.index(sent[answer["c"]]["w"])
        symbols = head.run(images[sent[answer["c"]]["img"]][None], width)[0]
        assert answer["cls"] == int(np.argmax(tail.run([(width, symbols)])[0]))


@pytest.fixture
def dongle(micropython, tmp_path: Path, line):
    """A dongle on a line, and a radio: send(port, frame) and hear(port)."""
    held, path = line
    radios = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(22)]
    for radio in radios:
        radio.bind(("127.0.0.1", 0))
        radio.settimeout(20)
    (own,) = free_ports(1)
    (tmp_path / "dongle.json").write_text(json.dumps({"format": 1, "channel": 11}))
    everybody = [radio.getsockname()[1] for radio in radios[:2]]
    running = board(tmp_path, DONGLE, own, *everybody, stdin=held, stdout=held)
    serial = os.open(path, os.O_RDWR | os.O_NOCTTY)
    yield radios, ("127.0.0.1", own), serial
    running.kill()
    running.wait()
    os.close(serial)
    for radio in radios:
        radio.close()


def frame(source: int, destination: int, body: bytes = b"x") -> MacFrame:
    """A data frame between two devices that numbers name."""
    src, dst = (bytes((2, 0, 0, 0, 0, 0, 0, number)) for number in (source, destination))
    return MacFrame(FrameKind.DATA, 1, 0x23F0, dst, src, body, version=1)


def passed_on(radio: socket.socket, where: tuple[str, int], serial: int, sent: MacFrame) -> bytes:
    """What the line gives of a frame, which is sent again until the dongle has started."""
    decoder, found = slip.Decoder(), b""
    while not found:
        radio.sendto(sent.emit()[:-2], where)
        while not found and select.select([serial], [], [], 0.2)[0]:
            for packet in decoder.feed(os.read(serial, 1)):
                assert packet is not None
                found = packet if MacFrame.parse(packet).src == sent.src else found
    return found


def test_a_dongle_learns_who_is_where_and_sends_to_everybody_else(dongle):
    radios, where, serial = dongle
    awkward = bytes((0xC0, 0xDB, 0xDC, 0xDD)) * 20
    for number in (0, 1):
        mine = frame(number, 99, awkward)
        assert passed_on(radios[number], where, serial, mine) == mine.emit()
    os.write(serial, b"noise\xc0\xdb\x01" + slip.encode(frame(99, 1).emit()[:-1] + b"?"))
    down = frame(99, 1, awkward).emit()
    os.write(serial, slip.encode(down))
    assert radios[1].recv(500) == down[:-2]
    stranger = frame(99, 7).emit()
    os.write(serial, slip.encode(stranger))
    assert radios[1].recv(500) == stranger[:-2]
    assert radios[0].recv(500) == stranger[:-2]  # and nothing of what was for the other one, nor the noise


def test_a_dongle_knows_more_devices_than_espnow_has_peers(dongle):
    """The one unheard for longest makes room; it is still reached, as everybody is."""
    radios, where, serial = dongle
    for number, radio in enumerate(radios):
        passed_on(radio, where, serial, frame(number, 99))
    for number in (21, 10, 4, 0):
        down = frame(99, number, bytes((number,))).emit()
        os.write(serial, slip.encode(down))
        assert radios[number].recv(500) == down[:-2]
    radios[1].settimeout(0.2)
    assert radios[1].recv(500) == frame(99, 0, b"\0").emit()[:-2]  # device 0 was forgotten: all are asked


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no"),
        ("{", "is no JSON"),
        ('{"format": 2}', "format is 2; expected a number from 1 to 1"),
        ('{"format": 1, "channel": 0}', "channel is 0; expected a number from 1 to 14"),
        ('{"format": 1, "channel": 6, "uart": {"id": 1}}', "tx is missing"),
    ],
)
def test_a_dongle_without_good_settings_says_so(micropython, tmp_path: Path, content, says):
    if content is not None:
        (tmp_path / "dongle.json").write_text(content)
    running = board(tmp_path, DONGLE, 1, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    output, _ = running.communicate(timeout=30)
    assert output.startswith("slimwire: ")
    assert says in output


def test_a_board_without_espnow_says_so(micropython, tmp_path: Path):
    settings = identity.create_device(tmp_path / "site")
    settings["link"] = {"type": "espnow", "dongle": "020000000001", "channel": 6}
    root = device_files.write_device_root(tmp_path / "device", Bundle.load("fashion-mnist"), settings)
    command = [micropython, "-X", "heapsize=128k", "-m", "firmware.main", root]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "MICROPYPATH": "."}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout.startswith("slimwire: ")
    assert "espnow" in done.stdout
