"""The service in one process, over a bad radio."""

import asyncio
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.enrolment import Enrolment
from gateway.links.base import Received
from gateway.links.faulty import Faults, FaultyLink
from gateway.outbox import Offered, OutboxError, Store
from gateway.outbox.store import Work
from gateway.service import Service
from gateway.settings import load
from security.chain import KeyedChain
from security.keys import derive_gateway
from security.trust import PaperTrust
from tests.gateway.kit import SITE, Node, custody_ack, registry, save_registry, sealed_bytes
from tests.gateway.test_downlink import hear
from wire.batch import AnswerItem, Verdict, emit_response, parse_request
from wire.ieee802154 import MacFrame
from wire.message import Kind, kind_of
from wire.reply import CustodyStatus

NODES = [Node(1), Node(2), Node(3)]
MESSAGES = 25


class Radio:
    """Devices that repeat each message until its answer was heard, and then send the next one."""

    description = "devices"

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.counter = {node.eui: 1 for node in NODES}
        self.answers: dict[tuple[bytes, int], bytes] = {}
        self._partial: dict[bytes, list[bytes]] = {}
        self._queue: asyncio.Queue[Received] = asyncio.Queue()
        self.done = asyncio.Event()

    def transmit(self, now: float) -> None:
        for node in NODES:
            counter = self.counter[node.eui]
            if counter <= MESSAGES:
                for frame in node.frames(counter, sealed_bytes(counter * 30, node.number)):
                    self._queue.put_nowait(Received(frame, None, 255, now))

    async def receive(self) -> Received:
        return await self._queue.get()

    async def send(self, frame: bytes) -> None:
        try:
            mac = MacFrame.parse(frame)
        except ValueError:
            return  # corrupted on its way
        (node,) = [node for node in NODES if node.eui == mac.dst]
        if custody_ack(frame, node) is not None:
            return
        counter, sealed = hear([frame], node)
        self.answers[(node.eui, counter)] = sealed
        if counter == self.counter[node.eui]:
            self.counter[node.eui] += 1
        if min(self.counter.values()) > MESSAGES:
            self.done.set()

    def learn(self, source: bytes, origin: object) -> None:
        pass

    def close(self) -> None:
        pass


class Edge:
    """Checks that it is given what a device sealed, and answers a message the same way every time."""

    def __init__(self) -> None:
        self.seen: set[tuple[bytes, int]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answers = []
        for item in parse_request(body):
            (node,) = [node for node in NODES if node.eui == item.device]
            again = (item.device, item.counter) in self.seen
            if kind_of(item.octet0) is Kind.REPLY:  # a question for the answer given before
                found = sealed_bytes(40, item.counter) if again else b""
                answers.append(AnswerItem(*item[:3], Verdict.ALREADY, found))
                continue
            assert item.sealed == sealed_bytes(item.counter * 30, node.number)
            self.seen.add((item.device, item.counter))
            word = Verdict.ALREADY if again else Verdict.ANSWERED
            answers.append(AnswerItem(*item[:3], word, sealed_bytes(40, item.counter)))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": emit_response(answers)})


async def test_over_a_bad_radio_every_message_arrives_unharmed_and_every_answer_with_it(
    tmp_path: Path,
) -> None:
    radio, edge = Radio(), Edge()
    link = FaultyLink(radio, 7, Faults(loss=0.1, duplicate=0.1, corrupt=0.1, reorder=0.1), hold=0.005)
    path = save_registry(tmp_path / "registry.json", *NODES)
    settings = load(edge="http://edge", downlink={"gap": 0.0}, uplink={"age": 0.0})
    service = Service(
        settings,
        KeyedChain(),
        PaperTrust(),
        link,
        Enrolment(path, create=False),
        transport=httpx.ASGITransport(edge),
    )
    running = asyncio.create_task(service.run())
    now = time.monotonic()
    while not radio.done.is_set():
        assert not running.done()
        now += 1.0  # by the devices' clock a second passes, so that copies are retries
        radio.transmit(now)
        await asyncio.sleep(0.03)
    running.cancel()
    everything = {(node.eui, counter) for node in NODES for counter in range(1, MESSAGES + 1)}
    assert edge.seen == everything
    assert {key: sealed_bytes(40, key[1]) for key in everything} == radio.answers
    assert service.rejected().keys() >= {"malformed-frame", "duplicate"}
    assert service.receiver.memory_used <= service.receiver.memory_bound
    # Corruption is noise, not evidence: what the trust engine saw is good.
    assert {change.cause for node in NODES for change in service.trust.history(node.eui)} == {"answered"}


async def test_a_file_that_breaks_while_it_runs_ends_the_service_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_registry(tmp_path / "registry.json", *NODES)
    radio, store = Radio(), Store(tmp_path / "state")
    service = Service(
        load(edge="http://edge"),
        KeyedChain(),
        PaperTrust(),
        radio,
        Enrolment(path, create=False),
        transport=httpx.ASGITransport(Edge()),
        store=store,
    )
    running = asyncio.create_task(service.run())
    radio.transmit(time.monotonic())
    async with asyncio.timeout(30):
        while not service.outbox.committed:  # noqa: ASYNC110  (a count has no event)
            await asyncio.sleep(0.005)

    def broken(work: Work) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    monkeypatch.setattr(store, "_commit", broken)
    radio.counter = dict.fromkeys(radio.counter, 20)
    radio.transmit(time.monotonic())
    with pytest.raises(OutboxError, match="start the gateway again"):
        await asyncio.wait_for(running, 30)
    Store(tmp_path / "state").close()  # the directory is free for it


async def test_answers_wait_for_devices_that_were_not_heard_since_the_start(tmp_path: Path) -> None:
    path = save_registry(tmp_path / "registry.json", *NODES)
    node = NODES[0]
    store = Store(tmp_path / "state")
    sealed = sealed_bytes(30, node.number)
    store.commit(Work([Offered(node.eui, 0, 1, 0x40, 0.0, sealed)]))
    radio = Radio()
    service = Service(
        load(edge="http://edge", downlink={"gap": 0.0}),
        KeyedChain(),
        PaperTrust(),
        radio,
        Enrolment(path, create=False),
        transport=httpx.ASGITransport(Edge()),
        store=store,
    )
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(30):
        while not service.uplink.delivered:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert radio.answers == {}
        assert service.outbox.messages == 1  # a kill now would not lose the answer
        radio.transmit(time.monotonic())  # a retry of it among others: its custody ack had got lost
        while (node.eui, 1) not in radio.answers or service.outbox.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert radio.answers[node.eui, 1] == sealed_bytes(40, 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class Listener(Radio):
    """Hears the custody acks of one device."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node
        self.heard: list[tuple[int, CustodyStatus]] = []

    async def send(self, frame: bytes) -> None:
        ack = custody_ack(frame, self.node)
        if ack is not None:
            self.heard.append((ack.counter, CustodyStatus(ack.status)))

    def say(self, counter: int) -> None:
        for frame in self.node.frames(counter, sealed_bytes(30)):
            self._queue.put_nowait(Received(frame, None, 255, time.monotonic()))


class Ignorant(Edge):
    """An edge server that is away at first, and has the keys of one epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch, self.there = epoch, False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        words = {True: Verdict.ANSWERED, False: Verdict.UNKNOWN_DEVICE}
        items = parse_request(body)
        answers = [AnswerItem(*item[:3], words[item.epoch == self.epoch], b"") for item in items]
        status = 200 if self.there else 503
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": emit_response(answers)})


async def test_what_a_thief_left_in_the_outbox_does_not_keep_out_the_device_that_is_enrolled_anew(
    tmp_path: Path,
) -> None:
    path = save_registry(tmp_path / "registry.json", *NODES)
    thief, named = NODES[0], NODES[1]
    store = Store(tmp_path / "state")
    filling = [Offered(thief.eui, 0, counter, 0x40, 0.0, bytes(1000)) for counter in range(1, 51)]
    waiting = [Offered(named.eui, 0, counter, 0x40, 0.0, b"sealed") for counter in range(1, 4)]
    store.commit(Work([*filling, *waiting]))
    again = Node(thief.number, epoch=1)
    again.keys = derive_gateway(b"\x99" * 32, again.eui, again.epoch, SITE)
    radio, edge = Listener(again), Ignorant(again.epoch)
    service = Service(
        load(edge="http://edge", downlink={"gap": 0.0}, outbox={"bytes": 65536}),
        KeyedChain(),
        PaperTrust(),
        radio,
        Enrolment(path, create=False),
        transport=httpx.ASGITransport(edge),
        store=store,
    )
    running = asyncio.create_task(service.run())
    async with asyncio.timeout(30):
        while not service.uplink.away:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        anew = registry(again, *NODES[1:])
        anew.version = 2
        anew.save(path)
        await asyncio.sleep(0.05)
        radio.say(1)
        while not radio.heard:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert radio.heard == [(1, CustodyStatus.FULL)]
        assert service.outbox.messages == 53  # nobody asked the edge server yet
        edge.there = True
        while service.outbox.messages > 3:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        radio.say(2)
        while len(radio.heard) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert radio.heard[1] == (2, CustodyStatus.COMMITTED)
        while not service.uplink.delivered:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert service.rejected()["outbox-key-gone"] == 50
    # What this gateway has a key for waits.
    assert service.uplink.unknown() == {"http://edge": [(named.eui, 0)]}
    assert store.sizes()[named.eui][0] == 3
    assert store.used()[thief.eui, 0] == [1, 50]  # none of them is taken twice
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_service_that_stops_takes_nothing_new_and_lets_out_what_is_there(tmp_path: Path) -> None:
    path = save_registry(tmp_path / "registry.json", *NODES)
    radio, edge, gate = Radio(), Edge(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await edge(scope, receive, send)

    service = Service(
        load(edge="http://edge", downlink={"gap": 0.0}),
        KeyedChain(),
        PaperTrust(),
        radio,
        Enrolment(path, create=False),
        transport=httpx.ASGITransport(slow),
        store=Store(tmp_path / "state"),
    )
    running = asyncio.create_task(service.run())
    radio.transmit(time.monotonic())
    async with asyncio.timeout(30):
        while service.outbox.committed < len(NODES):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        stopping = asyncio.create_task(service.drain(20.0))
        await asyncio.sleep(0.02)
        radio.counter = dict.fromkeys(radio.counter, 2)
        radio.transmit(time.monotonic())  # too late
        gate.set()
        await stopping
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert radio.answers.keys() == {(node.eui, 1) for node in NODES} == edge.seen
    store = Store(tmp_path / "state")
    assert store.used() == {(node.eui, 0): [1, 1] for node in NODES}
    assert store.page(0, 99, 99) == []
    store.close()
