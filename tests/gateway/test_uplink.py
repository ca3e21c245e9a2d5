"""The queue to the edge server, and what happens to batches when that one is slow, away, busy, or wrong."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uplink import Uplink, UplinkLimits
from gateway.waiting import Queued, UplinkQueue
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
    """An uplink to such an edge server."""

    def __init__(self, *handlers: Handler, **limits: Any) -> None:
        self.edge = Edge(*handlers)
        self.counters: Counter[str] = Counter()
        self.answers: list[tuple[AnswerItem, Queued]] = []
        self.uplink = Uplink(
            "http://edge",
            UplinkLimits(**{"pause": 0.001, "longest_pause": 0.002, **limits}),
            self.counters,
            lambda answer, message: self.answers.append((answer, message)),
            transport=httpx.ASGITransport(self.edge),
        )

    def put(self, *counters: int) -> None:
        for counter in counters:
            self.uplink.put(DEVICE, 0x40, counter, Queued(b"sealed", time.monotonic(), False))

    async def until_empty(self) -> None:
        task = asyncio.create_task(self.uplink.run())
        while len(self.uplink.queue):  # noqa: ASYNC110  (a queue of its own kind, without events)
            await asyncio.sleep(0.001)
        task.cancel()


async def test_messages_go_in_batches_of_the_limit_oldest_first() -> None:
    bench = Bench(verdict(Verdict.ANSWERED, b"answer"), batch=3)
    bench.put(*range(1, 8))
    await bench.until_empty()
    assert [[item.counter for item in batch] for batch in bench.edge.batches] == [[1, 2, 3], [4, 5, 6], [7]]
    assert [answer.counter for answer, _ in bench.answers] == list(range(1, 8))
    assert bench.uplink.delivered == 7
    assert bench.counters == {}


async def test_the_age_is_that_since_the_gateway_had_the_message() -> None:
    bench = Bench(verdict(Verdict.ANSWERED))
    bench.uplink.put(DEVICE, 0x40, 1, Queued(b"", time.monotonic() - 90.0, False))
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
    assert [answer.counter for answer, _ in bench.answers] == [1, 2]
    assert not bench.uplink.away
    # The first failure is worth a warning, and so is its end.
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG", "DEBUG", "WARNING"]


async def test_answers_to_other_messages_are_a_failure() -> None:
    def swapped(items: list[IngestItem]) -> tuple[int, bytes]:
        return verdict(Verdict.ANSWERED)(items[::-1])

    bench = Bench(swapped, verdict(Verdict.ANSWERED))
    bench.put(1, 2)
    await bench.until_empty()
    assert [answer.counter for answer, _ in bench.answers] == [1, 2]
    assert len(bench.edge.batches) == 2


async def test_a_refused_batch_is_dropped_and_counted_rather_than_sent_for_ever() -> None:
    bench = Bench(status(415), verdict(Verdict.ANSWERED))
    bench.put(1, 2)
    await bench.until_empty()
    assert bench.answers == []
    assert bench.counters == {"uplink-refused": 2}


async def test_busy_messages_stay_and_others_do_not_wait_for_them() -> None:
    def first_busy(items: list[IngestItem]) -> tuple[int, bytes]:
        verdicts = [Verdict.BUSY] + [Verdict.ANSWERED] * (len(items) - 1)
        return 200, emit_response([AnswerItem(*i[:3], v, b"") for i, v in zip(items, verdicts, strict=True)])

    bench = Bench(first_busy, verdict(Verdict.ANSWERED))
    bench.put(1, 2, 3)
    await bench.until_empty()
    assert [answer.counter for answer, _ in bench.answers] == [2, 3, 1]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Verdict.UNKNOWN_DEVICE, "edge-unknown-device"),
        (Verdict.SEAL, "edge-bad-seal"),
        (Verdict.LATENT, "edge-bad-latent"),
        (Verdict.UNKNOWN_MODEL, "edge-unknown-model"),
        (Verdict.REVOKED, "edge-revoked"),
    ],
)
async def test_verdicts_other_than_answers_are_counted(value: Verdict, reason: str) -> None:
    bench = Bench(verdict(value))
    bench.put(1)
    await bench.until_empty()
    assert bench.counters == {reason: 1}
    assert bench.uplink.delivered == 1


async def test_a_message_that_waits_is_not_queued_twice() -> None:
    bench = Bench(verdict(Verdict.ANSWERED))
    bench.put(1, 1)
    assert bench.counters == {"already-queued": 1}
    await bench.until_empty()
    bench.put(1)  # answered: now it may ask again
    await bench.until_empty()
    assert len(bench.edge.batches) == 2


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_the_queue_is_bounded_keeps_order_and_drops_the_oldest(counters: list[int], bound: int) -> None:
    queue, model = UplinkQueue(bound), []
    for counter in counters:
        reason = queue.put((DEVICE, 0, counter), Queued(b"", 0.0, False))
        expected = None
        if counter in model:
            expected = "already-queued"
        else:
            model.append(counter)
            if len(model) > bound:
                del model[0]
                expected = "uplink-full"
        assert reason == expected
    assert [key[2] for key, _ in queue.head(99)] == model
    assert len(queue) == len(model)


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.sampled_from(Standing)), max_size=60),
)
def test_lesser_standing_waits_longer_and_gives_way_first_and_a_flood_pushes_out_itself(
    bound: int, arrivals: list[tuple[int, int, Standing]]
) -> None:
    queue, first, last = UplinkQueue(bound), [], []
    for device, counter, standing in arrivals:
        key = (bytes([device]) * 8, 0x40, counter)
        reason = queue.put(key, Queued(b"", 0.0, False), standing)
        if key in first + last:
            assert reason == "already-queued"
            continue
        (first if standing is Standing.FULL else last).append(key)
        now = [entry for entry, _ in queue.head(bound + 1)]
        gone = [entry for entry in first + last if entry not in now]
        assert reason == ("uplink-full" if gone else None)
        for entry in gone:
            lane = last if last else first
            assert entry in lane
            mine = [other for other in lane if other[0] == entry[0]]
            assert mine[0] == entry
            assert all(sum(other[0] == whose for other in lane) <= len(mine) for whose, _, _ in lane)
            lane.remove(entry)
        assert now == first + last
        assert len(queue) == len(now) <= bound
