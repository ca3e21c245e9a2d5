import asyncio
import json
import subprocess
import sys
from typing import NamedTuple

import pytest

from lab.sim import trace as traces
from lab.sim.air import Air, Settings
from lab.sim.loss import LossModel
from lab.sim.record import fragment_of, frame_id, mac_of
from slimwire.errors import SlimwireError
from tests.lab.messages import DEVICE, GATEWAY, frames_of
from wire import pcap
from wire.zep import ZepAck, ZepFrame

CLEAN = LossModel(good_loss=0.0, bad_loss=0.0)


def settings(tmp_path, **more):
    return Settings(
        trace=traces.shipped()[0], seed=1, low=200, high=250, loss=more.pop("loss", CLEAN),
        pcap=str(tmp_path / "all.pcap"), pcap_legit=str(tmp_path / "legit.pcap"),
        record=str(tmp_path / "air.jsonl"), **more,
    )  # fmt: skip


class Node(asyncio.DatagramProtocol):
    """A radio: what it hears, and a way to send."""

    def __init__(self):
        self.heard = asyncio.Queue()

    def connection_made(self, transport):
        self.transport = transport
        transport.sendto(ZepAck(0).emit())

    def datagram_received(self, data, addr):
        self.heard.put_nowait(ZepFrame.parse(data).frame)

    def send(self, frame):
        self.transport.sendto(ZepFrame(26, 1, 255, 1, frame).emit())

    async def hears(self, count):
        return [await asyncio.wait_for(self.heard.get(), 20) for _ in range(count)]


async def nodes(air, *ports):
    loop = asyncio.get_running_loop()
    out = []
    for port in ports:
        out.append((await loop.create_datagram_endpoint(Node, remote_addr=("127.0.0.1", port)))[1])
    await asyncio.sleep(0.05)
    return out


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_everyone_overhears_and_the_record_tells_forged_from_genuine(tmp_path):
    air = Air(settings(tmp_path), asyncio.get_running_loop())
    port, attacker_port = await air.start()
    device, gateway, attacker = await nodes(air, port, port, attacker_port)
    gateway.send(frames_of(bytes(10), down=True)[0])  # so that the gateway's address is known
    await device.hears(1)
    await attacker.hears(1)

    first, second = frames_of(bytes(150))
    forged = frames_of(bytes([1]) * 150)[1]
    device.send(first)
    assert await gateway.hears(1) == await attacker.hears(1) == [first]
    attacker.send(forged)
    assert await gateway.hears(1) == await device.hears(1) == [forged]
    device.send(second)
    assert await gateway.hears(1) == await attacker.hears(1) == [second]
    attacker.send(forged)
    await gateway.hears(1)
    await asyncio.sleep(0)
    air.close()

    frames = [line for line in lines(tmp_path / "air.jsonl") if line["e"] == "frame"]
    assert [(f["sha"], f["forged"], f["open"]) for f in frames[1:]] == [
        (frame_id(first), False, False),
        (frame_id(forged), True, True),
        (frame_id(second), False, False),
        (frame_id(forged), True, False),
    ]
    assert all(f["delivered"] for f in frames[1:])
    assert (frames[1]["src"], frames[1]["dst"]) == (DEVICE.hex(), GATEWAY.hex())
    everything, legit = ((tmp_path / name).read_bytes() for name in ("all.pcap", "legit.pcap"))
    assert [record.data for record in pcap.Reader(everything)][1:] == [first, forged, second, forged]
    assert [record.data for record in pcap.Reader(legit)][1:] == [first, second]


async def test_strange_datagrams_are_counted_and_nothing_else_happens(tmp_path):
    air = Air(settings(tmp_path), asyncio.get_running_loop())
    port, _ = await air.start()
    device, gateway = await nodes(air, port, port)
    for data in (b"x", b"EX\x02", b"XX" + bytes(40), ZepFrame(26, 1, 255, 1, bytes(200)).emit()):
        device.transport.sendto(data)
    device.send(b"\x61\xdc")  # a frame that is none, but radio all the same
    assert await gateway.hears(1) == [b"\x61\xdc"]
    air.close()
    counted = air.counters
    assert (counted["truncated"], counted["zep-magic"], counted["frame-size"]) == (2, 1, 1)
    assert counted["frames"] == 1


class Shown(NamedTuple):
    """A UDP datagram as tshark sees it; size and tag are 0 if it came in one frame. Checksum "1" is good."""

    source: str
    size: int
    tag: int
    checksum: str
    malformed: bool


def datagrams(path):
    """What tshark makes of a capture, one `Shown` per UDP datagram."""
    fields = [
        "wpan.src64", "6lowpan.reassembled.length", "6lowpan.frag.tag", "udp.checksum.status",
        "_ws.malformed",
    ]  # fmt: skip
    command = [
        "tshark",
        "-r",
        str(path),
        "-o",
        "udp.check_checksum:TRUE",
        "-Y",
        "udp || _ws.malformed",
        "-T",
        "fields",
    ]
    command += [part for field in fields for part in ("-e", field)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    return [
        Shown(source.replace(":", ""), int(size or 0), int(tag or "0", 16), checksum, malformed != "")
        for source, size, tag, checksum, malformed in rows
    ]


@pytest.mark.needs("tshark")
async def test_tshark_reassembles_what_was_fully_sent_with_good_checksums(tmp_path):
    air = Air(settings(tmp_path, loss=LossModel(good_loss=0.2, bad_loss=0.5)), asyncio.get_running_loop())
    port, attacker_port = await air.start()
    device, _, attacker = await nodes(air, port, port, attacker_port)
    count = 0
    for counter in range(1, 12):
        for seq, frame in enumerate(frames_of(bytes([counter]) * (60 * (1 + counter % 5)), counter=counter)):
            device.send(frame)
            attacker.send(frame[:-1])
            count += 2
            assert seq < 8
    while air.counters["frames"] < count:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    air.close()
    rows = datagrams(tmp_path / "legit.pcap")
    assert len(rows) == 11
    assert {row.checksum for row in rows} == {"1"}
    assert not any(row.malformed for row in rows)
    assert {row.tag for row in rows if row.size} == {c for c in range(1, 12) if 60 * (1 + c % 5) + 13 > 98}


def test_only_fragments_of_data_frames_count_as_fragments():
    first, second = frames_of(bytes(150))
    a, b = fragment_of(mac_of(first)), fragment_of(mac_of(second))
    assert a.key == b.key
    assert (a.offset, b.offset) == (0, a.length)
    assert a.length + b.length == a.payload_length
    assert fragment_of(mac_of(frames_of(bytes(20))[0])) is None
    assert fragment_of(mac_of(b"nonsense")) is None


def test_the_process_says_where_it_listens_and_ends_on_sigterm(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "lab.sim.air", settings(tmp_path).to_json()], stdout=subprocess.PIPE, text=True
    ) as air:
        ports = json.loads(air.stdout.readline())
        assert {"port", "attacker_port"} == set(ports)
        air.terminate()
        json.loads(air.stdout.readline())
    assert air.returncode == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"trace": "x", "seed": 1, "volume": 11}', '{"loss": 3}'])
def test_bad_settings_are_refused(text):
    with pytest.raises(SlimwireError, match="settings"):
        Settings.from_json(text)
