"""The UART leg over a pty: the other end is the radio co-processor."""

import asyncio
import os
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.downlink import Reply, reply_frames
from gateway.errors import LinkError
from gateway.links.uart import UartLink
from tests.gateway.brokers import until
from tests.gateway.kit import GATEWAY, Node, accepted, receiver, sealed_bytes
from wire import slip

NODE = Node(1)


class Radio:
    """A co-processor at the other end of a pty, reachable by a name that can go away, as on USB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plug()

    def plug(self) -> None:
        self._end, port = os.openpty()
        tty.setraw(self._end)
        self.path.symlink_to(os.ttyname(port))
        self._port = port
        self._decoder = slip.Decoder()

    def unplug(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._end)
        os.close(self._port)

    def write(self, data: bytes) -> None:
        os.write(self._end, data)

    async def read(self, count: int) -> list[bytes | None]:
        packets: list[bytes | None] = []
        while len(packets) < count:
            data = await asyncio.wait_for(asyncio.to_thread(os.read, self._end, 4096), 20)
            packets.extend(self._decoder.feed(data))
        return packets


@pytest.fixture
def radio(tmp_path: Path) -> Iterator[Radio]:
    made = Radio(tmp_path / "ttyRADIO")
    yield made
    made.unplug()


async def test_frames_pass_both_ways_unharmed(radio: Radio) -> None:
    link = await UartLink.open(radio.path, 115200)
    try:
        frames = NODE.frames(1, sealed_bytes(300))
        radio.write(b"noise" + b"".join(map(slip.encode, frames)))
        target = receiver(NODE)
        assert (await link.receive()).frame == b"noise"  # what it is not, its FCS says
        events = [event for _ in frames for event in target.on_frame((await link.receive()).frame, 0.0)]
        (message,) = accepted(events)
        assert message.sealed == sealed_bytes(300)
        replies = reply_frames(
            GATEWAY, Reply(NODE.eui, NODE.epoch, 1, sealed_bytes(200), 0x23F0, NODE.keys.frag_dn), 0
        )
        for frame in replies:
            await link.send(frame)
        assert await radio.read(len(replies)) == replies
        (leg,) = link.legs()
        assert (leg.name, leg.up, leg.received, leg.sent) == ("uart", True, len(frames) + 1, len(replies))
    finally:
        link.close()


async def test_bytes_that_are_no_slip_are_counted(radio: Radio) -> None:
    link = await UartLink.open(radio.path, 115200)
    try:
        radio.write(b"\xc0\xdb\x00\xc0" + slip.encode(b"frame"))
        assert (await link.receive()).frame == b"frame"
        assert link.counters == {"bad-slip": 1}
    finally:
        link.close()


async def test_a_port_that_goes_away_is_used_again_when_it_is_back(
    radio: Radio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.links.uart._FIRST_DELAY", 0.05)
    link = await UartLink.open(radio.path, 115200)
    try:
        radio.unplug()
        await until(lambda: not link.legs()[0].up)
        assert "away" in link.description
        await link.send(b"frame")
        assert link.counters == {"link-unsent": 1}
        radio.plug()
        await until(lambda: link.legs()[0].up)
        radio.write(slip.encode(b"again"))
        assert (await link.receive()).frame == b"again"
    finally:
        link.close()


async def test_a_port_that_cannot_be_used_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"correct `port` in \[uart\]"):
        await UartLink.open(tmp_path / "nothing", 115200)
    (tmp_path / "file").write_text("")
    with pytest.raises(LinkError, match=r"correct `port` in \[uart\]"):
        await UartLink.open(tmp_path / "file", 115200)
    with pytest.raises(LinkError, match="a speed such as"):
        await UartLink.open(tmp_path / "nothing", 12345)
