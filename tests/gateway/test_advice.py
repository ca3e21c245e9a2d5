"""Each thing that goes wrong in the field comes with what to do."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from gateway.advice import advise
from gateway.enrolment import Enrolment
from gateway.links.base import Leg, Received
from gateway.outbox import Message
from gateway.service import Service
from gateway.settings import load
from security.chain import KeyedChain
from security.trust import PaperTrust
from tests.gateway.brokers import until
from tests.gateway.kit import Node, registry, save_registry, sealed_bytes

NODE, STRANGER = Node(1), Node(9)


class Silent:
    """A link that hears what is put into its queue."""

    description = "silence"

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.up = True
        self.queue: asyncio.Queue[Received] = asyncio.Queue()

    def legs(self) -> tuple[Leg, ...]:
        return (Leg("mqtt", "MQTT, broker b:1 (no broker answers at b:1; start it)", self.up, 0, 0),)

    async def receive(self) -> Received:
        return await self.queue.get()

    def learn(self, source: bytes, origin: object) -> None:
        pass

    async def send(self, frame: bytes) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
async def service(tmp_path: Path) -> Service:
    path = save_registry(tmp_path / "registry.json", NODE)
    settings = load(edge="http://127.0.0.1:9", state=tmp_path)
    return Service(settings, KeyedChain(), PaperTrust(), Silent(), Enrolment(path, create=False))  # type: ignore[arg-type]


async def test_devices_that_the_edge_server_does_not_know(service: Service) -> None:
    (courier,) = service.uplink.couriers
    courier._hold([Message(1, NODE.eui, 0, 1, 0x40, 0.0, b"")])
    (said,) = advise(service)
    assert f"has no keys for {NODE.eui.hex()}" in said
    assert "edge-registry.json" in said
    courier._hold([Message(2, NODE.eui, 9, 1, 0x44, 0.0, b"")])  # an epoch that the registry has no more
    _, said = advise(service)
    assert "nor has this gateway" in said
    assert "until its custody ends" in said
    service.receiver.update(registry(Node(1, epoch=5)))
    (said,) = advise(service)  # epoch 0 needs nobody: it goes when the edge server is asked once more
    assert "nor has this gateway" in said


async def test_all_is_well(service: Service) -> None:
    now = asyncio.get_running_loop().time()
    for frame in NODE.frames(1, sealed_bytes(50)):
        service.receiver.on_frame(frame, now)
    assert advise(service) == []


async def test_a_leg_that_does_not_work(service: Service) -> None:
    service.link.up = False  # type: ignore[attr-defined]
    (said,) = advise(service)
    assert "the mqtt leg does not work" in said
    assert "start it" in said


async def test_wrong_keys(service: Service) -> None:
    wrong = Node(1)
    wrong.root = bytes(32)
    wrong.__post_init__()
    wrong.keys = Node(2).keys
    now = asyncio.get_running_loop().time()
    for counter in range(1, 4):
        for frame in wrong.frames(counter, sealed_bytes(50)):
            service.receiver.on_frame(frame, now)
    (said,) = advise(service)
    assert f"nothing of {NODE.eui.hex()} verifies" in said
    assert "enrol it anew" in said


async def test_a_device_that_is_not_enrolled(service: Service) -> None:
    now = asyncio.get_running_loop().time()
    for frame in STRANGER.frames(1, sealed_bytes(50)):
        service.receiver.on_frame(frame, now)
    (said,) = advise(service)
    assert said.startswith(STRANGER.eui.hex())
    assert "enrol it with `slimwire provision`" in said


async def test_an_edge_server_that_is_absent_for_long(service: Service) -> None:
    running = asyncio.create_task(service.run())
    now = asyncio.get_running_loop().time()
    try:
        for counter in range(1, 4):
            for frame in NODE.frames(counter, sealed_bytes(50)):
                service.link.queue.put_nowait(Received(frame, None, 255, now))  # type: ignore[attr-defined]
        await until(lambda: service.uplink.away and service.outbox.messages == 3)
        (said,) = advise(service)
        assert "http://127.0.0.1:9 does not take messages (ConnectError" in said
        assert "3 are in custody" in said
        assert "start the edge server" in said
    finally:
        running.cancel()


async def test_a_registry_that_cannot_be_used(service: Service) -> None:
    service.enrolment.path.write_text("{}")
    service.enrolment.changed()
    (said,) = advise(service)
    assert "is not used, the last good one is" in said
