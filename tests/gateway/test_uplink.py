"""The couriers to edge servers, and what happens to batches when one is slow, away, busy, or wrong."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from gateway.breaker import State
from gateway.bus.http import HttpBus
from gateway.outbox import Message, Offered, Outbox, OutboxLimits, Store
from gateway.outbox.store import Work
from gateway.uplink import Uplink, UplinkLimits, assigned
from security.trust import Standing
from wire.batch import AnswerItem, IngestItem, Verdict, emit_response, parse_request

DEVICE = bytes.fromhex("02000000000000aa")
Handler = Callable[[list[IngestItem]], tuple[int, bytes]]


class Edge:
    """An ASGI application that answers each batch as the test says, and remembers what it was sent."""

    def __init__(self, *handlers: Handler) -> None:
        self.handlers = list(handlers)
        self.batches: list[list[IngestItem]] = []

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        items = parse_request(body)
        self.batches.append(items)
        handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
        status, answer = handler(items)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": answer})


def verdict(value: Verdict, sealed: bytes = b"") -> Handler:
    return lambda items: (200, emit_response([AnswerItem(*item[:3], value, sealed) for item in items]))


def status(code: int) -> Handler:
    return lambda items: (code, b"no")


class Bench:
    """An outbox in memory, and an uplink from it to such an edge server. `stored`: counters in the outbox."""

    def __init__(self, *handlers: Handler, stored: range = range(0), age: float = 0.0, **limits: Any) -> None:
        self.edge = Edge(*handlers)
        self.counters: Counter[str] = Counter()
        self.answers: list[tuple[Message, AnswerItem]] = []
        #: Devices and key epochs that the gateway's registry has only later keys for.
        self.overtaken: set[tuple[bytes, int]] = set()
        store = Store()
        store.commit(Work([self.offered(counter, store.clock() - age) for counter in stored]))
        self.outbox = Outbox(store, OutboxLimits(), self.counters)
        self.uplink = Uplink(
            [HttpBus("http://edge", 5.0, transport=httpx.ASGITransport(self.edge))],
            UplinkLimits(**{"pause": 0.001, "longest_pause": 0.002, **limits}),
            self.counters,
            self.outbox,
            self._taken,
            overtaken=lambda spoken: spoken in self.overtaken,
        )

    @staticmethod
    def offered(counter: int, came: float, device: bytes = DEVICE) -> Offered:
        return Offered(device, 0, counter, 0x40, came, b"sealed")

    def _taken(self, taken: list[tuple[Message, AnswerItem]]) -> None:
        self.answers += taken
        self.outbox.take([message for message, _ in taken])

    def put(self, *counters: int) -> None:
        for counter in counters:
            assert self.outbox.offer(self.offered(counter, self.outbox.clock()), Standing.FULL) is None

    def _decided(self, decided: Any) -> None:
        for _, result in decided:
            self.uplink.put(result, Standing.FULL)

    async def until_empty(self) -> None:
        tasks = [
            asyncio.create_task(self.outbox.run(self._decided)),
            asyncio.create_task(self.uplink.run()),
        ]
        async with asyncio.timeout(30):
            while self.outbox.messages:  # noqa: ASYNC110  (a count has no event)
                await asyncio.sleep(0.001)
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def sent(self) -> list[list[int]]:
        return [[item.counter for item in batch] for batch in self.edge.batches]

    @property
    def answered(self) -> list[int]:
        return [answer.counter for _, answer in self.answers]


async def test_messages_go_in_batches_of_the_limit_oldest_first() -> None:
    bench = Bench(verdict(Verdict.ANSWERED, b"answer"), stored=range(1, 8), batch=3)
    await bench.until_empty()
    assert bench.sent == [[1, 2, 3], [4, 5, 6], [7]]
    assert bench.answered == list(range(1, 8))
    assert bench.uplink.delivered == 7
    assert bench.counters == {}


async def test_what_was_read_from_the_disk_waits_for_nobody() -> None:
    bench = Bench(verdict(Verdict.ANSWERED), stored=range(1, 7))
    bench.uplink.adjust(UplinkLimits(batch=2, age=3600.0))
    await bench.until_empty()
    assert bench.sent == [[1, 2], [3, 4], [5, 6]]


async def test_answers_are_fetched_when_there_is_room_for_them() -> None:
    log: list[str] = []
    bench = Bench(verdict(Verdict.ANSWERED), stored=range(1, 5))

    async def room(answers: int) -> int:
        log.append(f"{answers} answers after {len(bench.edge.batches)} batches")
        return max(1, answers - len(bench.edge.batches))

    limits = UplinkLimits(batch=2, age=0.0)
    buses = [courier.bus for courier in bench.uplink.couriers]
    bench.uplink = Uplink(buses, limits, bench.counters, bench.outbox, bench._taken, room)
    await bench.until_empty()
    assert bench.sent == [[1, 2], [3], [4]]
    assert log == [f"2 answers after {done} batches" for done in range(3)]


async def test_the_age_is_that_since_the_gateway_had_the_message() -> None:
    bench = Bench(verdict(Verdict.ANSWERED), stored=range(1, 2), age=90.0)
    await bench.until_empty()
    assert 90_000 <= bench.edge.batches[0][0].age_ms < 100_000


@pytest.mark.parametrize("failure", [status(500), status(503), status(429), lambda _: (200, b"nonsense")])
async def test_a_failure_is_tried_again_and_nothing_is_lost(
    failure: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "gateway.uplink")
    bench = Bench(failure, failure, failure, verdict(Verdict.ANSWERED))
    bench.put(1, 2)
    await bench.until_empty()
    assert bench.answered == [1, 2]
    assert bench.sent[1] == bench.sent[2] == [1]  # after a failure a single message finds out
    assert not bench.uplink.away
    # The first failure is worth a warning, and so is its end.
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG", "DEBUG", "WARNING"]


async def test_answers_to_other_messages_are_a_failure() -> None:
    def swapped(items: list[IngestItem]) -> tuple[int, bytes]:
        return verdict(Verdict.ANSWERED)(items[::-1])

    bench = Bench(swapped, verdict(Verdict.ANSWERED), stored=range(1, 3))
    await bench.until_empty()
    assert bench.answered == [1, 2]
    assert bench.sent == [[1, 2], [1], [2]]


def poisoned(counter: int) -> Handler:
    """Refuses every batch in which that message is."""
    refused, taken = status(413), verdict(Verdict.ANSWERED)
    return lambda items: (refused if any(item.counter == counter for item in items) else taken)(items)


async def test_a_message_that_is_refused_does_not_hold_up_others_and_is_never_dropped() -> None:
    bench = Bench(poisoned(3), stored=range(1, 9), aside=0.2, batch=8)
    task = asyncio.create_task(bench.until_empty())
    async with asyncio.timeout(30):
        while len(bench.answers) < 7:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert sorted(bench.answered) == [1, 2, 4, 5, 6, 7, 8]
    assert bench.counters["uplink-refused"] >= 1
    assert bench.outbox.messages >= 1
    bench.edge.handlers = [verdict(Verdict.ANSWERED)]  # another release is installed there
    await task
    assert sorted(bench.answered) == list(range(1, 9))


async def test_an_edge_server_that_refuses_everything_loses_nothing_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(*[status(404)] * 9, verdict(Verdict.ANSWERED), stored=range(1, 41), aside=0.01)
    await bench.until_empty()
    assert sorted(bench.answered) == list(range(1, 41))
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "http://edge refused a batch of 40 with HTTP 404" in error.message
    assert "same version" in error.message


async def test_a_server_that_large_batches_are_too_much_for_gets_smaller_ones() -> None:
    slow = [status(504) if size > 4 else verdict(Verdict.ANSWERED) for size in range(33)]
    bench = Bench(lambda items: slow[len(items)](items), stored=range(1, 33), batch=16)
    await bench.until_empty()
    assert bench.answered == list(range(1, 33))
    sizes = [len(batch) for batch in bench.sent]
    # A half of what failed, once one message got through; and twice what went well.
    assert sizes[:10] == [16, 1, 8, 1, 4, 8, 1, 4, 8, 1]


async def test_busy_messages_stay_and_others_do_not_wait_for_them() -> None:
    def first_busy(items: list[IngestItem]) -> tuple[int, bytes]:
        verdicts = [Verdict.BUSY] + [Verdict.ANSWERED] * (len(items) - 1)
        return 200, emit_response([AnswerItem(*i[:3], v, b"") for i, v in zip(items, verdicts, strict=True)])

    bench = Bench(first_busy, verdict(Verdict.ANSWERED), stored=range(1, 4))
    await bench.until_empty()
    assert bench.answered == [2, 3, 1]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Verdict.SEAL, "edge-bad-seal"),
        (Verdict.LATENT, "edge-bad-latent"),
        (Verdict.UNKNOWN_MODEL, "edge-unknown-model"),
        (Verdict.REVOKED, "edge-revoked"),
    ],
)
async def test_verdicts_other_than_answers_are_counted(value: Verdict, reason: str) -> None:
    bench = Bench(verdict(value), stored=range(1, 2))
    await bench.until_empty()
    assert bench.counters == {reason: 1}
    assert bench.uplink.delivered == 1


OTHER = bytes.fromhex("02000000000000bb")


def stranger(device: bytes, taken: Verdict = Verdict.ANSWERED) -> Handler:
    """An edge server that has no keys for one device."""

    def answer(items: list[IngestItem]) -> tuple[int, bytes]:
        words = [Verdict.UNKNOWN_DEVICE if item.device == device else taken for item in items]
        return 200, emit_response([AnswerItem(*i[:3], v, b"") for i, v in zip(items, words, strict=True)])

    return answer


async def test_a_device_that_the_edge_server_does_not_know_waits_and_holds_up_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(stranger(DEVICE), stored=range(1, 201), batch=8, queue=16, unknown=0.02, aside=0.05)
    task = asyncio.create_task(bench.until_empty())
    async with asyncio.timeout(30):
        for counter in range(1, 101):  # of both, while it does not know the one
            clock = bench.outbox.clock()
            bench.outbox.offer(bench.offered(counter, clock, OTHER), Standing.FULL)
            bench.outbox.offer(bench.offered(200 + counter, clock), Standing.FULL)
            await asyncio.sleep(0.001)
        while len(bench.answers) < 100:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        asked = bench.counters["edge-unknown-device"]
        while bench.counters["edge-unknown-device"] < asked + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert bench.uplink.unknown() == {"http://edge": [(DEVICE, 0)]}
        assert bench.outbox.messages == 300  # nothing of it was dropped
        assert bench.uplink.live == 0
        assert sorted(m.counter for m, _ in bench.answers) == list(range(1, 101))
        # One message of it asks, after the batch that found it out.
        assert all([item.device for item in batch].count(DEVICE) <= 1 for batch in bench.edge.batches[1:])
        bench.edge.handlers = [verdict(Verdict.ANSWERED, b"answer")]  # it is enrolled there
        await task
    own = [m.counter for m, _ in bench.answers if m.device == DEVICE]
    assert sorted(own) == list(range(1, 301))  # each once
    assert own[1:] == sorted(own[1:])  # after the one that asked, in their order
    assert bench.uplink.unknown() == {"http://edge": []}
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [DEVICE.hex() in line for line in said] == [True, True]
    assert "edge-registry.json" in said[0]


async def test_a_device_that_stays_unknown_waits_as_long_as_custody_lasts() -> None:
    bench = Bench(stranger(DEVICE), stored=range(1, 4), age=99.9, unknown=0.01, aside=0.02)
    bench.outbox.adjust(OutboxLimits(age=100.0))
    task = asyncio.create_task(bench.until_empty())
    async with asyncio.timeout(30):
        while bench.outbox.messages:
            bench.outbox.tick()
            await asyncio.sleep(0.01)
        await task
    assert bench.answers == []
    assert bench.counters["outbox-expired"] == 3
    assert bench.counters["edge-unknown-device"] >= 3


async def test_what_a_key_sealed_that_is_gone_at_both_ends_is_let_go_and_all_else_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(verdict(Verdict.UNKNOWN_DEVICE), stored=range(1, 2001), queue=16, unknown=0.02, aside=0.05)
    task = asyncio.create_task(bench.until_empty())
    async with asyncio.timeout(30):
        for counter in range(1, 101):
            bench.outbox.offer(bench.offered(counter, bench.outbox.clock(), OTHER), Standing.FULL)
        while bench.counters["edge-unknown-device"] < 260 or bench.outbox.uncommitted:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert bench.outbox.messages == 2100  # both registries may get the keys yet
        bench.edge.handlers = [status(503)]
        bench.overtaken = {(DEVICE, 0)}
        asked = len(bench.edge.batches)
        while len(bench.edge.batches) < asked + 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert bench.outbox.messages == 2100  # the edge server was not asked
        bench.edge.handlers = [verdict(Verdict.UNKNOWN_DEVICE)]
        while bench.outbox.messages > 100:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        bench.put(2001)  # it was being committed meanwhile
        while bench.counters["outbox-key-gone"] <= 2000:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        found, _ = await bench.outbox.page(0, bench.outbox.last, 5000)
        assert [(m.device, m.counter) for m in found] == [(OTHER, counter) for counter in range(1, 101)]
        assert bench.uplink.unknown() == {"http://edge": [(OTHER, 0)]}
        assert bench.outbox._store.used()[DEVICE, 0] == [1, 2001]  # none of them is taken twice
        bench.edge.handlers = [verdict(Verdict.ANSWERED)]
        await task
    assert sorted((m.device, m.counter) for m, _ in bench.answers) == [(OTHER, i) for i in range(1, 101)]
    assert bench.counters["outbox-key-gone"] == 2001
    assert bench.outbox.bytes == 0
    assert len([record for record in caplog.records if "is dropped" in record.message]) == 1


async def test_a_key_that_the_edge_server_has_in_the_end_is_not_gone() -> None:
    def first_unknown(items: list[IngestItem]) -> tuple[int, bytes]:  # its registry changes meanwhile
        words = [Verdict.UNKNOWN_DEVICE, *[Verdict.ANSWERED] * (len(items) - 1)]
        return 200, emit_response([AnswerItem(*i[:3], v, b"") for i, v in zip(items, words, strict=True)])

    bench = Bench(first_unknown, verdict(Verdict.ANSWERED), stored=range(1, 1001))
    bench.overtaken = {(DEVICE, 0)}
    await bench.until_empty()
    assert sorted(bench.answered) == list(range(1, 1001))
    assert bench.counters["outbox-key-gone"] == 0


async def test_whether_the_server_is_there_is_known_before_there_is_a_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(status(503), status(503), verdict(Verdict.ANSWERED))
    await bench.uplink.greet()
    assert bench.uplink.away
    assert "503" in bench.uplink.problems()["http://edge"]
    task = asyncio.create_task(bench.uplink.run())  # it is asked again, without a message
    async with asyncio.timeout(30):
        while bench.uplink.away:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert bench.sent == [[]] * 3
    assert bench.uplink.problems() == {}
    first, last = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "start it, or correct `edge`" in first
    assert "is back after 2 failures" in last


async def test_stored_answers_are_asked_for_and_a_question_that_fails_is_forgotten() -> None:
    def record(items: list[IngestItem]) -> tuple[int, bytes]:
        assert all((item.octet0, item.sealed) == (0x50, b"") for item in items)
        kept = {1: b"one", 3: b"three"}
        return 200, emit_response(
            [AnswerItem(*i[:3], Verdict.ALREADY, kept.get(i.counter, b"")) for i in items]
        )

    bench = Bench(status(503), status(404), record)
    courier = bench.uplink.couriers[0]
    courier._on_stored = lambda question, sealed: heard.append((question, sealed))
    heard: list[tuple[Any, bytes]] = []
    task = asyncio.create_task(bench.uplink.run())
    async with asyncio.timeout(30):
        for asked in range(3):
            for counter in (1, 2, 3, 1):
                bench.uplink.ask((DEVICE, 0, counter))
            while len(bench.edge.batches) <= asked:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        while len(heard) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert heard == [((DEVICE, 0, 1), b"one"), ((DEVICE, 0, 3), b"three")]
    assert bench.sent == [[1, 2, 3]] * 3
    assert not bench.uplink.away  # a question says nothing about how the server takes messages
    assert bench.answers == []


async def test_a_server_that_is_away_is_asked_less_and_less_and_then_with_one_message() -> None:
    bench = Bench(*[status(503)] * 6, verdict(Verdict.ANSWERED), stored=range(1, 101), longest_pause=0.02)
    assert bench.uplink.states() == {"http://edge": State.CLOSED}
    await bench.until_empty()
    assert [len(batch) for batch in bench.sent] == [100, 1, 1, 1, 1, 1, 1, 4, 8, 16, 32, 39]
    assert bench.answered == list(range(1, 101))


async def test_what_is_new_goes_first_and_a_backlog_still_moves() -> None:
    """Live 3/4, backlog 1/4 of each batch; each in order."""
    bench = Bench(verdict(Verdict.ANSWERED), stored=range(1, 33), batch=8)
    later = Work([bench.offered(counter, bench.outbox.clock()) for counter in range(101, 133)])
    for message in bench.outbox._store.commit(later).committed:
        assert isinstance(message, Message)
        bench.outbox._hold(DEVICE, 1, len(message.sealed))
        bench.uplink.put(message, Standing.FULL)
    await bench.until_empty()
    assert bench.sent[0] == [101, 102, 103, 104, 105, 106, 1, 2]
    assert bench.sent[1] == [107, 108, 109, 110, 111, 112, 3, 4]
    assert [c for c in bench.answered if c < 100] == list(range(1, 33))
    assert [c for c in bench.answered if c > 100] == list(range(101, 133))


async def test_devices_are_spread_over_several_edge_servers_and_stay_with_theirs() -> None:
    devices = [bytes([2, 0, 0, 0, 0, 0, 0, n]) for n in range(64)]
    names = [f"http://edge-{n}" for n in range(3)]
    home = {device: assigned(device, names) for device in devices}
    assert len(Counter(home.values())) == 3
    # One server less moves only the devices that it had.
    assert all(home[d] == assigned(d, names[:2]) for d in devices if home[d] < 2)
    edges = [Edge(verdict(Verdict.ANSWERED)) for _ in names]
    counters: Counter[str] = Counter()
    store = Store()
    store.commit(Work([Bench.offered(c, 0.0, device) for c in (1, 2) for device in devices]))
    outbox = Outbox(store, OutboxLimits(), counters)
    uplink = Uplink(
        [
            HttpBus(name, 5.0, transport=httpx.ASGITransport(edge))
            for name, edge in zip(names, edges, strict=True)
        ],
        UplinkLimits(),
        counters,
        outbox,
        lambda taken: outbox.take([message for message, _ in taken]),
    )
    tasks = [asyncio.create_task(outbox.run(lambda _: None)), asyncio.create_task(uplink.run())]
    async with asyncio.timeout(30):
        while outbox.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for n, edge in enumerate(edges):
        got = [(item.counter, item.device) for batch in edge.batches for item in batch]
        assert sorted(got) == sorted((c, d) for c in (1, 2) for d in devices if home[d] == n)
