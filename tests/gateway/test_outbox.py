"""Custody at work: bounds, group commit, lanes, and what an outage of the edge server does to all of it."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.breaker import Breaker, State
from gateway.bus.base import BusError
from gateway.lanes import Lanes
from gateway.outbox import Message, Offered, Outbox, OutboxLimits, Store
from gateway.outbox.outbox import ROW
from gateway.outbox.store import Work
from gateway.parking import Parked, Parking
from gateway.uplink import Uplink, UplinkLimits
from security.trust import Standing
from wire.batch import AnswerItem, IngestItem, Verdict
from wire.reply import CustodyStatus

FULL, PROBATION = Standing.FULL, Standing.PROBATION


def device(number: int) -> bytes:
    return bytes([2, 0, 0, 0, 0, 0, 0, number])


def offered(counter: int, number: int = 1, size: int = 100, came: float = 0.0) -> Offered:
    return Offered(device(number), 0, counter, 0x40, came, bytes(size))


class Running:
    """An outbox at work, and what was decided. `async with` it."""

    def __init__(self, store: Store | None = None, **limits: Any) -> None:
        self.counters: Counter[str] = Counter()
        self.store = store or Store()
        self.outbox = Outbox(self.store, OutboxLimits(**limits), self.counters)
        self.decided: list[tuple[Offered, Message | CustodyStatus]] = []

    async def __aenter__(self) -> "Running":
        self._task = asyncio.create_task(self.outbox.run(self.decided.extend))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def settled(self) -> None:
        async with asyncio.timeout(30):
            while self.outbox.uncommitted or self.outbox._leaving or not self._idle():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def _idle(self) -> bool:
        return not self.outbox._work and not self.outbox._offered


# Bounds.


async def test_what_does_not_fit_is_refused_at_once_and_nothing_gives_way() -> None:
    async with Running(bytes=1000 * (100 + ROW)) as box:
        statuses = [
            box.outbox.offer(offered(counter, number), FULL)
            for counter in range(1, 41)
            for number in range(1, 61)
        ]
        await box.settled()
        assert statuses.count(CustodyStatus.FULL) == 2400 - box.outbox.messages
        assert box.outbox.bytes <= box.outbox.bound
        assert len(box.decided) == box.outbox.messages > 900
        assert all(isinstance(result, Message) for _, result in box.decided)
        assert box.counters["outbox-share"] + box.counters["outbox-full"] == 2400 - box.outbox.messages
        # What leaves makes room again, exactly.
        box.outbox.take([result for _, result in box.decided if isinstance(result, Message)])
        await box.settled()
        assert (box.outbox.messages, box.outbox.bytes, box.outbox._held) == (0, 0, {})


async def test_a_device_that_fills_the_outbox_leaves_room_for_others_and_one_in_disgrace_more() -> None:
    for standing, most in ((FULL, 0.8), (PROBATION, 0.2)):
        async with Running(bytes=1000 * (100 + ROW)) as box:
            for counter in range(1, 1500):
                box.outbox.offer(offered(counter), standing)
            await box.settled()
            assert most - 0.01 < box.outbox.bytes / box.outbox.bound <= most
            assert box.outbox.offer(offered(1, 2), FULL) is None
            assert box.counters["outbox-full"] == 0
            await box.settled()


async def test_messages_that_nobody_took_for_too_long_are_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Running(age=3600.0) as box:
        now = box.outbox.clock()
        for counter, came in ((1, now - 4000), (2, now - 3700), (3, now - 3500), (4, now)):
            assert box.outbox.offer(offered(counter, came=came), FULL) is None
        await box.settled()
        in_hand = [result for _, result in box.decided if isinstance(result, Message)]
        assert 4000 <= (box.outbox.age() or 0) < 4100
        box.outbox.tick()
        async with asyncio.timeout(10):
            while not box.counters:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert box.counters == {"outbox-expired": 2}
        assert "2 messages were dropped: nobody took them for 1.0 h" in caplog.text
        assert box.outbox.messages == 2
        # Whoever had them in hand and delivered them after all does not spoil the account.
        box.outbox.take(in_hand)
        await box.settled()
        assert (box.outbox.messages, box.outbox.bytes, box.outbox._held) == (0, 0, {})


async def test_it_says_how_long_the_room_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("gateway.outbox.outbox.time", SimpleNamespace(monotonic=lambda: now[0]))
    async with Running(bytes=36_000 * (100 + ROW)) as box:
        assert box.outbox.hours_left() is None
        for second in range(600):
            now[0] += 1.0
            box.outbox.offer(offered(second + 1), FULL)
            box.outbox.tick()
        await box.settled()
        # One message a second, and room for 36,000 less what is there.
        hours = box.outbox.hours_left()
        assert hours is not None
        assert hours == pytest.approx((36_000 - 600) / 3600, rel=0.01)


# Commits.


async def test_the_event_loop_goes_on_while_a_commit_waits_for_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    disk, commit = threading.Event(), store.commit

    def slow(work: Work) -> Any:
        assert disk.wait(30)
        return commit(work)

    monkeypatch.setattr(store, "commit", slow)
    async with Running(store) as box:
        box.outbox.offer(offered(1), FULL)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert box.decided == []  # no custody before the commit
        for counter in range(2, 301):
            box.outbox.offer(offered(counter), FULL)
        disk.set()
        await box.settled()
        # Whatever waited went into the next transaction.
        assert box.outbox.committed == 300
        assert box.outbox.commits <= 4
        assert [o.counter for o, _ in box.decided] == list(range(1, 301))


async def test_a_disk_slower_than_what_comes_ends_in_refusals_and_not_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    disk, commit = threading.Event(), store.commit
    monkeypatch.setattr(store, "commit", lambda work: (disk.wait(30), commit(work))[1])
    async with Running(store, bytes=1 << 40) as box:
        statuses = [box.outbox.offer(offered(counter), FULL) for counter in range(20_000)]
        assert statuses.count(None) == 8192
        disk.set()
        await box.settled()


async def test_what_was_delivered_while_the_disk_is_full_leaves_when_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.outbox.outbox._RETRY", 0.01)
    store = Store(tmp_path)
    async with Running(store) as box:
        box.outbox.offer(offered(1), FULL)
        await box.settled()
        real, full = store._commit, [True]

        def failing(work: Work) -> Any:
            if full[0]:
                error = __import__("sqlite3").OperationalError("database or disk is full")
                error.sqlite_errorcode = 13
                raise error
            return real(work)

        monkeypatch.setattr(store, "_commit", failing)
        (message,) = [result for _, result in box.decided if isinstance(result, Message)]
        box.outbox.take([message])
        box.outbox.offer(offered(2), FULL)
        async with asyncio.timeout(10):
            while len(box.decided) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert box.decided[1][1] is CustodyStatus.FULL
        assert box.outbox.refusing
        assert await box.outbox.page(0, 99, 99) == ([], message.id)  # it is not delivered again meanwhile
        full[0] = False
        await box.settled()
        assert not box.outbox.refusing
        box.outbox.offer(offered(2), FULL)
        await box.settled()
    assert "cannot be written" in caplog.text
    assert "can be written again" in caplog.text
    store = Store(tmp_path)
    assert [m.counter for m in store.page(0, 99, 99)] == [2]
    store.close()


async def test_what_waits_at_the_end_is_still_committed(tmp_path: Path) -> None:
    async with Running(Store(tmp_path)) as box:
        await asyncio.sleep(0.01)
        box.outbox.offer(offered(1), FULL)
        await asyncio.sleep(0)
    store = Store(tmp_path)
    assert store.last() == 1
    store.close()


# Lanes.


@given(
    st.lists(st.sampled_from(["new", "old", "demote", "deliver"]), max_size=80),
    st.integers(1, 9),
    st.integers(1, 6),
    st.integers(0, 12),
)
@settings(max_examples=200, deadline=None)
def test_every_message_is_delivered_once_and_each_lane_keeps_its_order(
    steps: list[str], batch: int, bound: int, stored: int
) -> None:
    disk = {i: Message(i, device(i % 3), 0, i, 0x40, 0.0, b"") for i in range(1, stored + 1)}
    lanes, following, delivered = Lanes(bound, stored), stored + 1, list[int]()
    behind, live = set(disk), set[Message]()  # what is in the backlog, and what is not

    def deliver() -> None:
        asked = lanes.wanted(batch)
        if asked is not None:
            after, until, count = asked
            found = [disk[i] for i in sorted(disk) if after < i <= until][:count]
            lanes.read(asked, found, found[-1].id if found else None)
        head = lanes.head(batch)
        assert len(head) <= batch
        old_ids = [m.id for m in head if m.id in behind]
        assert old_ids == sorted(old_ids)
        for one in {m.device for m in head}:
            ids = [m.id for m in head if m.device == one and m.id not in behind]
            assert ids == sorted(ids)
            assert not any(m.device == one and m.id < max(ids, default=0) for m in live if m.id not in ids)
        live.difference_update(head)
        old = [m for m in head if m.id in behind]
        if lanes.live and old and batch >= 4:
            assert len(old) <= max(batch // 4, batch - lanes.live)
        lanes.done(m.id for m in head)
        for message in head:
            del disk[message.id]
            delivered.append(message.id)

    for step in steps:
        if step in ("new", "old"):
            message = Message(following, device(following % 3), 0, following, 0x40, 0.0, b"")
            disk[following] = message
            following += 1
            before = lanes.live
            lanes.put(message, FULL if step == "new" else PROBATION)
            live.add(message)
            if lanes.live <= before:
                behind |= set(disk)
                live.clear()
        elif step == "demote":
            lanes.demote()
            behind |= set(disk)
            live.clear()
        elif step == "deliver":
            deliver()
        assert lanes.live <= bound
        assert lanes.empty or disk
    while not lanes.empty:
        deliver()
    assert sorted(delivered) == list(range(1, following))
    assert len(set(delivered)) == len(delivered)


@given(
    st.lists(
        st.sampled_from(["new", "demote", "deliver", "deliver", "hold", "known", "slow read"]), max_size=120
    ),
    st.integers(1, 9),
    st.integers(1, 6),
    st.integers(0, 12),
)
@settings(max_examples=200, deadline=None)
def test_what_is_held_comes_back_once_whatever_happens_meanwhile(
    steps: list[str], batch: int, bound: int, stored: int
) -> None:
    disk = {i: Message(i, device(i % 3), 0, i, 0x40, 0.0, b"") for i in range(1, stored + 1)}
    lanes, following, delivered = Lanes(bound, stored), stored + 1, list[int]()
    held: set[bytes] = set()
    slow: list[tuple[tuple[int, int, int], list[Message]]] = []

    def read(later: bool = False) -> None:
        asked = lanes.wanted(batch)
        if asked is not None and not slow:
            after, until, count = asked
            slow.append((asked, [disk[i] for i in sorted(disk) if after < i <= until][:count]))
        if not later:
            while slow:
                asked, found = slow.pop()
                lanes.read(asked, [m for m in found if m.id in disk], found[-1].id if found else None)

    def deliver() -> None:
        read()
        head = lanes.head(batch)
        assert len({m.id for m in head}) == len(head)
        for message in head:
            if message.device in held:
                lanes.hold(message)
        gone = [m for m in head if m.device not in held]
        lanes.done(m.id for m in gone)
        for message in gone:
            del disk[message.id]
            delivered.append(message.id)

    def known() -> None:
        for name in held:
            if (name, 0) in lanes._held:
                lanes.known((name, 0))
        held.clear()

    for step in steps:
        if step == "new":
            message = Message(following, device(following % 3), 0, following, 0x40, 0.0, b"")
            disk[following] = message
            following += 1
            lanes.put(message, FULL)
        elif step == "demote":
            lanes.demote()
        elif step == "deliver":
            deliver()
        elif step == "hold":
            held.add(device(1))
        elif step == "known":
            read()  # who sends batches does one thing after the other
            known()
        else:
            read(later=True)
        assert lanes.live <= bound
        # That a page was the last one, the next one says, by being empty.
        assert lanes.empty or disk or lanes.wanted(batch)
    read()
    known()
    while not lanes.empty:
        deliver()
    assert sorted(delivered) == list(range(1, following))


def test_a_batch_of_strangers_is_held_in_one_look_at_what_waits() -> None:
    looked = 0

    class Looking(Lanes):
        def _holds(self, message: Message) -> bool:
            nonlocal looked
            looked += 1
            return super()._holds(message)

    lanes = Looking(4096, 0)
    for number in range(1, 1001):
        device = bytes(7) + bytes([number % 250])
        lanes.put(Message(number, device, 0, number, 0x40, 0.0, b"sealed"), Standing.FULL)
    batch = lanes.head(200)
    lanes.hold(*batch)
    assert looked == 1000
    assert lanes.live == 200  # of the fifty that nobody asked about
    assert {message.device for message in lanes.head(1000)}.isdisjoint(message.device for message in batch)


def test_devices_of_full_standing_go_first() -> None:
    lanes = Lanes(10, 0)
    for i, standing in ((1, PROBATION), (2, FULL), (3, Standing.QUARANTINE), (4, FULL)):
        lanes.put(Message(i, device(i), 0, i, 0x40, 0.0, b""), standing)
    assert [m.id for m in lanes.head(4)] == [2, 4, 1, 3]


# The edge server away for an hour.


class Edge:
    """A bus to an edge server that keeps exact count, as the real one does, and can be away."""

    description = "a record"

    def __init__(self) -> None:
        self.away = self.loses_answers = False
        self.answered: Counter[tuple[bytes, int]] = Counter()
        self.order: list[tuple[bytes, int]] = []
        self.largest = 0

    async def exchange(self, items: Sequence[IngestItem]) -> list[AnswerItem]:
        self.largest = max(self.largest, len(items))
        if self.away:
            raise BusError("nobody there")
        answers = []
        for item in items:
            name = (item.device, item.counter)
            verdict = Verdict.ALREADY if name in self.answered else Verdict.ANSWERED
            if verdict is Verdict.ANSWERED:
                self.answered[name] += 1
                self.order.append(name)
            answers.append(AnswerItem(*item[:3], verdict, b"answer"))
        if self.loses_answers:
            raise BusError("its word got lost")
        return answers

    async def close(self) -> None:
        pass


async def test_an_hour_without_the_edge_server_and_every_message_is_delivered_exactly_once(
    tmp_path: Path,
) -> None:
    """3,600 s of traffic, 2 messages/s of 20 devices, each with the age it has then; then it is back."""
    edge, live = Edge(), 256
    edge.away = True
    store = Store(tmp_path)
    start = store.clock() - 3600.0
    counters: Counter[str] = Counter()
    outbox = Outbox(store, OutboxLimits(), counters)
    limits = UplinkLimits(queue=live, pause=0.001, longest_pause=0.002)
    answered: Counter[tuple[bytes, int]] = Counter()
    peak = 0

    def taken(some: list[tuple[Message, AnswerItem]]) -> None:
        answered.update((m.device, m.counter) for m, _ in some)
        outbox.take([m for m, _ in some])

    uplink = Uplink([edge], limits, counters, outbox, taken)

    def decided(some: Any) -> None:
        nonlocal peak
        for _, result in some:
            uplink.put(result, FULL)
            peak = max(peak, uplink.live)

    tasks = [asyncio.create_task(outbox.run(decided)), asyncio.create_task(uplink.run())]
    rng = random.Random(7)
    names = []
    for second in range(3600):
        for _ in range(2):
            number = rng.randrange(1, 21)
            names.append((device(number), len(names) + 1))
            assert outbox.offer(offered(len(names), number, 60, start + second), FULL) is None
        if second % 40 == 0:
            await asyncio.sleep(0.001)
    async with asyncio.timeout(60):
        while outbox.committed < len(names):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert uplink.away
        assert not edge.answered
        assert 3600 <= (outbox.age() or 0) < 3700
        # It comes back, its first words get lost, and new messages come meanwhile.
        edge.away, edge.loses_answers = False, True
        while len(edge.answered) < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        edge.loses_answers = False
        for number in range(1, 21):
            names.append((device(number), len(names) + 1))
            assert outbox.offer(offered(len(names), number, 60, outbox.clock()), FULL) is None
        while outbox.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert edge.answered == Counter(names)
    assert answered == Counter(names)
    assert peak <= live
    # Each device's backlog came in its order, and what was new did not wait behind all of it.
    late = set(names[7200:])
    for number in range(1, 21):
        own = [
            counter for name, counter in edge.order if name == device(number) and (name, counter) not in late
        ]
        assert own == sorted(own)
    assert min(edge.order.index(name) for name in late) < 7000


def test_a_breaker_opens_for_longer_and_longer_and_closes_at_once() -> None:
    breaker, now = Breaker(0.2, 10.0, random.Random(1)), 0.0
    assert breaker.state(now) is State.CLOSED
    pauses = []
    for _ in range(10):
        pauses.append(breaker.failed(now))
        assert breaker.state(now) is State.OPEN
        assert breaker.wait(now) == pytest.approx(pauses[-1])
        now += pauses[-1]
        assert breaker.state(now) is State.HALF_OPEN
    assert all(0.8 * 0.2 * 2**n <= pause <= 1.2 * 0.2 * 2**n for n, pause in enumerate(pauses[:5]))
    assert max(pauses) <= 12.0
    assert breaker.succeeded() == 10
    assert breaker.state(now) is State.CLOSED


def test_answers_for_devices_not_heard_yet_are_kept_within_bounds_and_their_messages_with_them() -> None:
    def parked(number: int, counter: int, since: float = 0.0) -> Parked:
        message = Message(100 * number + counter, device(number), 0, counter, 0x40, 0.0, b"")
        return Parked(message, b"answer", since)

    parking = Parking(bound=3)
    arrivals = [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1)]
    gave_way = [parking.put(parked(*one)) for one in arrivals]
    assert gave_way == [None, None, None, parked(1, 1), parked(1, 2)]  # the device that has waited longest
    assert [m.id for m in parking.release([one for one in gave_way if one])] == [101, 102]
    assert parking.take(device(1)) == []
    assert [one.message.counter for one in parking.take(device(2))] == [1, 2]
    assert parking.take(device(2)) == []
    parking.put(parked(4, 1, 50.0))
    assert parking.overdue(59.0) == []
    assert [m.id for m in parking.overdue(60.0)] == [201, 202, 301]
    # The answer is still there for whoever comes late; its message is not released twice.
    late = parking.take(device(3))
    assert late == [parked(3, 1)]
    assert parking.release(late) == []
    assert [m.id for m in parking.overdue(111.0)] == [401]
