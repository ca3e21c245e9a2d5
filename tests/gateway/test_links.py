"""Links over real sockets and files, and the bad radio around them."""

import asyncio
import socket
from collections import Counter
from pathlib import Path

import pytest

from gateway.errors import LinkError
from gateway.links.base import Received
from gateway.links.faulty import Faults, FaultyLink
from gateway.links.pcap import PcapLink
from gateway.links.zep import ZepLink
from tests.gateway.kit import GATEWAY, PAN, Node
from wire.ieee802154 import FrameKind, MacFrame
from wire.pcap import Reader
from wire.zep import ZepFrame

NODE = Node()
FRAME = NODE.frames(1, b"x" * 20)[0]


def zep(frame: bytes, seq: int = 1) -> bytes:
    return ZepFrame(26, 1, 200, seq, frame).emit()


@pytest.fixture
def radio() -> socket.socket:
    """A UDP socket on loopback, as a device's radio."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


async def arrived(sock: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 512), 5)


async def test_frames_come_in_order_with_their_lqi_and_rubbish_is_counted(radio: socket.socket) -> None:
    link = await ZepLink.open("127.0.0.1:0")
    for packet in (zep(FRAME), b"rubbish", b"", b"EX\x02\x01", zep(FRAME)[:-1], zep(b"\x01" * 5)):
        radio.sendto(packet, link.address)
    first, second = await link.receive(), await link.receive()
    assert (first.frame, first.lqi, second.frame) == (FRAME, 200, b"\x01" * 5)
    assert first.origin == radio.getsockname()
    assert link.counters == {"bad-zep": 3}
    link.close()


async def test_the_receive_queue_is_bounded(radio: socket.socket) -> None:
    link = await ZepLink.open("127.0.0.1:0", queue=3)
    for n in range(5):
        radio.sendto(zep(bytes([n])), link.address)
    assert [(await link.receive()).frame for _ in range(3)] == [b"\0", b"\1", b"\2"]
    assert link.counters == {"link-overrun": 2}
    link.close()


async def test_a_frame_goes_where_its_destination_was_verified_and_nowhere_before(
    radio: socket.socket,
) -> None:
    link = await ZepLink.open("127.0.0.1:0")
    down = MacFrame(FrameKind.DATA, 1, PAN, NODE.eui, GATEWAY, b"answer").emit()
    await link.send(down)
    assert link.counters == {"downlink-unroutable": 1}
    link.learn(NODE.eui, radio.getsockname())
    await link.send(down)
    assert ZepFrame.parse(await arrived(radio)).frame == down
    link.close()


async def test_routes_are_bounded(radio: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        link = ZepLink(sock, None, routes=2)
        for number in (1, 2, 3):
            link.learn(Node(number).eui, radio.getsockname())
        for number in (1, 2, 3):
            await link.send(MacFrame(FrameKind.DATA, 1, PAN, Node(number).eui, GATEWAY, b"answer").emit())
        assert link.counters == {"downlink-unroutable": 1}
        link.close()
        link.close()  # a second time does nothing


async def test_with_a_peer_all_frames_go_there_and_it_hears_of_us_at_once(radio: socket.socket) -> None:
    host, port = radio.getsockname()
    link = await ZepLink.open("127.0.0.1:0", f"{host}:{port}")
    assert await arrived(radio) == b""
    await link.send(FRAME)
    assert ZepFrame.parse(await arrived(radio)).frame == FRAME
    link.close()


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:x", "127.0.0.1:70000", ":1"])
async def test_an_address_that_is_none_is_refused_with_what_was_expected(address: str) -> None:
    with pytest.raises(LinkError, match="expected: HOST:PORT"):
        await ZepLink.open(address if ":" in address else address + ":")


async def test_a_port_in_use_is_refused_with_the_remedy(radio: socket.socket) -> None:
    with pytest.raises(LinkError, match="remedy: stop what uses that port"):
        await ZepLink.open(f"127.0.0.1:{radio.getsockname()[1]}")


class Queue:
    """A link over two lists."""

    description = "two lists"

    def __init__(self, frames: list[bytes]) -> None:
        self.counters: Counter[str] = Counter()
        self.frames = list(frames)
        self.sent: list[bytes] = []
        self.learnt: list[bytes] = []
        self.closed = False

    async def receive(self) -> Received:
        if not self.frames:
            await asyncio.Event().wait()
        return Received(self.frames.pop(0), None, 255, 0.0)

    async def send(self, frame: bytes) -> None:
        self.sent.append(frame)

    def learn(self, source: bytes, origin: object) -> None:
        self.learnt.append(source)

    def close(self) -> None:
        self.closed = True


_STREAM = [n.to_bytes(2, "big") * 20 for n in range(400)]


async def drain(link: FaultyLink) -> list[bytes]:
    got = []
    try:
        while True:
            got.append((await asyncio.wait_for(link.receive(), 0.2)).frame)
    except TimeoutError:
        return got


async def test_without_faults_all_frames_pass_in_order() -> None:
    inner = Queue(_STREAM)
    link = FaultyLink(inner, 1, Faults())
    assert await drain(link) == _STREAM
    for frame in _STREAM:
        await link.send(frame)
    assert inner.sent == _STREAM


async def test_each_fault_happens_about_as_often_as_asked_and_the_seed_decides() -> None:
    async def run(seed: int, **faults: float) -> list[bytes]:
        return await drain(FaultyLink(Queue(_STREAM), seed, Faults(**faults), hold=0.01))

    lost = await run(1, loss=0.25)
    assert 60 <= 400 - len(lost) <= 140
    assert lost == [frame for frame in _STREAM if frame in lost]
    doubled = await run(1, duplicate=0.25)
    assert 60 <= len(doubled) - 400 <= 140
    corrupt = await run(1, corrupt=0.25)
    changed = [(a, b) for a, b in zip(corrupt, _STREAM, strict=True) if a != b]
    assert 60 <= len(changed) <= 140
    assert all((int.from_bytes(a) ^ int.from_bytes(b)).bit_count() == 1 for a, b in changed)
    mixed = await run(1, reorder=0.25)
    assert mixed != _STREAM
    assert sorted(mixed) == _STREAM
    everything = {"loss": 0.1, "duplicate": 0.1, "corrupt": 0.1, "reorder": 0.1}
    assert await run(5, **everything) == await run(5, **everything) != await run(6, **everything)


async def test_faults_work_towards_the_air_too() -> None:
    inner = Queue([])
    link = FaultyLink(inner, 3, Faults(loss=0.2, reorder=0.3))
    for frame in _STREAM:
        await link.send(frame)
    assert 280 <= len(inner.sent) <= 360
    assert inner.sent != sorted(inner.sent)


async def test_wrappers_pass_on_what_is_not_theirs() -> None:
    inner = Queue([])
    link = FaultyLink(inner, 1, Faults())
    link.learn(NODE.eui, None)
    link.close()
    assert (inner.learnt, inner.closed, link.description) == ([NODE.eui], True, "two lists")


async def test_a_capture_holds_every_frame_of_both_directions(tmp_path: Path) -> None:
    inner = Queue([FRAME])
    link = PcapLink(inner, tmp_path / "all.pcap")
    await link.receive()
    await link.send(b"\x01" * 9)
    link.close()
    assert inner.closed
    records = list(Reader((tmp_path / "all.pcap").read_bytes()))
    assert [(record.linktype, record.data) for record in records] == [(195, FRAME), (195, b"\x01" * 9)]
    assert 0 < records[0].timestamp <= records[1].timestamp


async def test_a_capture_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"cannot be written.*\n.*--pcap"):
        PcapLink(Queue([]), tmp_path / "nowhere" / "all.pcap")
