"""Trust at work: what quarantine takes and leaves, what is told of it, and what survives a restart."""

import asyncio
import contextlib
import json
import logging
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import kept_trust, trust_file
from gateway.admin import create_app
from gateway.admission import Limits
from gateway.enrolment import Enrolment
from gateway.links.base import Received
from gateway.outbox import Offered, Store, TrustRow
from gateway.outbox.store import Work
from gateway.receiver import Receiver
from gateway.service import Service
from gateway.settings import load
from security.chain import KeyedChain
from security.keys import derive_gateway
from security.trust import Cause, PaperTrust, PredictiveTrust, Standing
from tests.gateway.kit import (
    SITE,
    Node,
    accepted,
    edge_registry,
    feed,
    reasons,
    registry,
    save_registry,
    sealed_bytes,
)
from tests.gateway.test_journey import PATIENCE, SLIMWIRE, Radio, admin, process

A, B = Node(1), Node(2)


class Silence:
    """A link on which nothing is heard."""

    description = "nothing"

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()

    def legs(self) -> tuple[()]:
        return ()

    async def receive(self) -> Received:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, frame: bytes) -> None:
        raise AssertionError(frame)

    def learn(self, source: bytes, origin: object) -> None:
        pass

    def close(self) -> None:
        pass


LONG = sealed_bytes(1100)


def quarantined(now: float = 0.0) -> Receiver:
    """A receiver of A and B; A's seals did not open ten times."""
    target = Receiver(registry(A, B), KeyedChain(), PredictiveTrust())
    for _ in range(10):
        target.trust.observe(A.eui, False, now, Cause.SEAL)
    assert target.standing(A.eui, now) is Standing.QUARANTINE
    return target


def test_quarantine_leaves_messages_of_one_frame_and_every_verification() -> None:
    target = quarantined()
    single = A.frames(1, sealed_bytes(40))
    assert len(accepted(feed(target, single, 1.0))) == 1
    frames = A.frames(2, LONG)
    assert reasons(feed(target, frames[:1], 1.0)) == ["quarantined"]
    assert target.memory_used == 0
    forged = A.slices(3, LONG)[0][:-1] + b"?"
    assert reasons(feed(target, A.carry([forged], 3), 1.0)) == ["bad-mac"]


def test_quarantine_of_one_takes_nothing_from_another() -> None:
    target = quarantined()
    assert len(accepted(feed(target, B.frames(1, LONG), 1.0))) == 1


def test_after_quarantine_one_datagram_then_by_good_outcomes_the_whole_reserve() -> None:
    target = quarantined()
    first, second = A.frames(1, LONG), A.frames(2, LONG)
    assert reasons(feed(target, first, 29.0))[0] == "quarantined"
    assert len(accepted(feed(target, first, 45.0))) == 1  # the same message, sent again: nothing is lost
    feed(target, second[:1], 45.0)
    assert reasons(feed(target, A.frames(3, LONG)[:1], 46.0)) == ["evicted"]  # room for one
    for _ in range(40):
        target.trust.observe(A.eui, True, 47.0, Cause.ANSWERED)
    assert reasons(feed(target, A.frames(4, LONG)[:1], 47.0)) == []
    assert target.memory_used > 2 * 1100


def test_what_was_open_before_quarantine_may_be_finished() -> None:
    target = Receiver(registry(A), KeyedChain(), PredictiveTrust())
    frames = A.frames(1, LONG)
    feed(target, frames[:3], 0.0)
    for _ in range(10):
        target.trust.observe(A.eui, False, 0.0, Cause.SEAL)
    assert len(accepted(feed(target, frames[3:], 1.0))) == 1


def test_nothing_that_fails_to_authenticate_leads_to_quarantine() -> None:
    target = Receiver(registry(A), KeyedChain(), PredictiveTrust())
    genuine = A.frames(1, LONG)
    other = Node(1)
    other.keys = B.keys  # A's address, another's keys
    for counter in range(2, 300):
        feed(target, other.frames(counter, LONG), counter / 100)
    for _ in range(200):
        feed(target, genuine[:1], 5.0)
    assert target.trust.history(A.eui) == []
    assert target.standing(A.eui, 6.0) is Standing.FULL
    assert len(accepted(feed(target, genuine, 6.0))) == 1


@given(st.lists(st.tuples(st.sampled_from(Cause), st.floats(0, 40)), max_size=60))
def test_below_one_datagram_only_in_quarantine(evidence: list[tuple[Cause, float]]) -> None:
    target, now = Receiver(registry(A), KeyedChain(), PredictiveTrust()), 0.0
    for counter, (cause, pause) in enumerate(evidence, 1):
        now += pause
        target.trust.observe(A.eui, cause.outcome, now, cause)
        told = reasons(feed(target, A.frames(counter, LONG)[:1], now))
        if target.standing(A.eui, now) is Standing.QUARANTINE:
            assert told[-1] == "quarantined"
        else:
            assert {"quarantined", "quota"}.isdisjoint(told)


def test_with_the_papers_engine_there_is_no_quarantine() -> None:
    target = Receiver(registry(A), KeyedChain(), PaperTrust())
    for _ in range(100):
        target.trust.observe(A.eui, False, 0.0, Cause.SEAL)
    assert len(accepted(feed(target, A.frames(1, LONG), 1.0))) == 1


def test_reserves_by_standing() -> None:
    limits = Limits()
    assert [limits.reserve_at(standing) for standing in Standing] == [2560, 1280, 0]


async def test_what_is_told_of_a_revoked_device_is_that_it_is_revoked(tmp_path: Path) -> None:
    registry(A, revoked=(B,)).save(tmp_path / "registry.json")
    service = Service(
        load(),
        KeyedChain(),
        PredictiveTrust(),
        Silence(),
        Enrolment(tmp_path / "registry.json", create=False),
    )
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        told = (await client.get(f"/v1/trust/{B.eui.hex()}")).json()
        devices = (await client.get("/v1/devices")).json()["devices"]
        metrics = (await client.get("/metrics")).text
    assert told["standing"] == "revoked"
    assert {device["device"]: device["standing"] for device in devices} == {
        A.eui.hex(): "full",
        B.eui.hex(): "revoked",
    }
    assert "slimwire_gateway_quarantined 0.0" in metrics


# Over restarts.


def offender(now: float) -> PredictiveTrust:
    engine = PredictiveTrust(identities=[A.eui, B.eui])
    for _ in range(10):
        engine.observe(A.eui, False, now, Cause.LATENT)
    engine.observe(B.eui, True, now, Cause.ANSWERED)
    return engine


def test_kept_rows_outlive_a_reboot_and_time_passes_meanwhile() -> None:
    engine = offender(5000.0)
    rows = kept_trust.rows_of(engine, [A.eui, B.eui, Node(3).eui], 100.0)
    assert [row.device for row in rows] == [A.eui, B.eui]
    again = PredictiveTrust(identities=[A.eui, B.eui])
    kept_trust.restore(again, rows, 10.0, 120.0)  # the monotonic clock began anew
    assert again.standing(A.eui) is Standing.QUARANTINE
    assert again.release(A.eui) == pytest.approx(10.0 + 30 - 20)
    assert again.history(B.eui)[0].cause is Cause.ANSWERED
    later = PredictiveTrust(identities=[A.eui])
    kept_trust.restore(later, rows, 10.0, 130.0)
    assert later.standing(A.eui) is Standing.PROBATION
    early = PredictiveTrust(identities=[A.eui])
    kept_trust.restore(early, rows, 10.0, 0.0)  # a clock that fell back lets no time pass
    assert early.release(A.eui) == pytest.approx(10.0 + 30)


def test_rows_written_at_different_times_each_have_their_own_age() -> None:
    rows = kept_trust.rows_of(offender(5000.0), [A.eui], 100.0)
    newer = PredictiveTrust(identities=[B.eui])
    newer.observe(B.eui, False, 7.0, Cause.SEAL)
    rows += kept_trust.rows_of(newer, [B.eui], 700.0)
    again = PredictiveTrust(identities=[A.eui, B.eui])
    kept_trust.restore(again, rows, 1000.0, 710.0)
    assert again.history(A.eui)[0].until == pytest.approx(1000 - 610)
    assert again.history(B.eui)[0].until == pytest.approx(1000 - 10)


@pytest.mark.parametrize(
    "row",
    [
        TrustRow(A.eui, "PaperTrust", 0.0, "{}"),
        TrustRow(A.eui, "PredictiveTrust", 0.0, "{"),
        TrustRow(A.eui, "PredictiveTrust", 0.0, "[" * 100_000),
        TrustRow(A.eui, "PredictiveTrust", 0.0, '{"format": 9, "now": 0, "identities": {}}'),
    ],
)
def test_a_row_that_cannot_be_used_makes_a_newcomer_of_its_device_only(
    row: TrustRow, caplog: pytest.LogCaptureFixture
) -> None:
    engine = PredictiveTrust(identities=[A.eui, B.eui])
    kept_trust.restore(engine, [row, *kept_trust.rows_of(offender(0.0), [B.eui], 1.0)], 10.0, 2.0)
    assert engine.history(A.eui) == []
    assert engine.history(B.eui)
    assert f"the trust in {A.eui.hex()}" in caplog.text


def trust_json(path: Path, engine: PredictiveTrust, wall: float) -> None:
    """The file of release 0.1."""
    head = {"format": 1, "engine": "PredictiveTrust", "saved": wall, "trust": engine.to_dict()}
    path.write_text(json.dumps(head) + "\n")


def test_the_file_of_release_0_1_is_taken_over_once(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    trust_json(path, offender(5000.0), 1e9)
    for _ in range(2):
        engine = PredictiveTrust(identities=[A.eui, B.eui])
        store = Store(tmp_path)
        kept_trust.take_over(path, engine, store, 10.0, 1e9 + 20)
        again = PredictiveTrust(identities=[A.eui, B.eui])
        kept_trust.restore(again, store.trust(), 10.0, store.clock())
        assert again.release(A.eui) == pytest.approx(10.0 + 30 - 20, abs=5.0)
        assert not path.exists()
        store.close()
    assert (tmp_path / "trust.json.taken-over").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: "\ud800".encode("utf-8", "surrogatepass"),
        lambda text: text.replace('"format": 1', '"format": 2', 1),
        lambda text: text.replace('"trust": {"format": 1', '"trust": {"format": 9', 1),
        lambda text: text.replace("PredictiveTrust", "PaperTrust"),
        lambda text: text.replace('"good": 0.0', '"good": -1'),
        lambda text: text.replace('"saved": 1000000000.0', '"saved": "yesterday"'),
    ],
)
def test_a_file_that_cannot_be_used_is_set_aside_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Any
) -> None:
    path = tmp_path / "trust.json"
    trust_json(path, offender(0.0), 1e9)
    damaged = change(path.read_text())
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    content = path.read_bytes()
    engine = PredictiveTrust(identities=[A.eui])
    with caplog.at_level(logging.WARNING):
        trust_file.restore(path, engine, 10.0, 1e9 + 1)
    assert "set aside as trust.json.set-aside" in caplog.text
    assert engine.standing(A.eui) is Standing.FULL
    assert not path.exists()
    assert (tmp_path / "trust.json.set-aside").read_bytes() == content


async def test_evidence_without_a_message_is_kept_too(tmp_path: Path) -> None:
    def service() -> Service:
        path = save_registry(tmp_path / "registry.json", A)
        return Service(
            load(edge="http://127.0.0.1:9"),
            KeyedChain(),
            PredictiveTrust(),
            Silence(),
            Enrolment(path, create=False),
            store=Store(tmp_path),
        )

    first = service()
    running = asyncio.create_task(first.run())
    first.trust.observe(A.eui, False, time.monotonic(), Cause.OVER_QUOTA)
    first.receiver.observed.add(A.eui)
    async with asyncio.timeout(PATIENCE):
        while not first.outbox.commits:  # noqa: ASYNC110  (a counter has no event)
            await asyncio.sleep(0.02)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    second = service()
    assert second.trust.history(A.eui)[0].cause is Cause.OVER_QUOTA
    task = asyncio.create_task(second.run())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_who_was_revoked_and_is_taken_back_starts_as_a_newcomer_also_after_a_restart(
    tmp_path: Path,
) -> None:
    def service() -> Service:
        enrolment = Enrolment(tmp_path / "registry.json", create=False)
        return Service(
            load(edge="http://127.0.0.1:9"),
            KeyedChain(),
            PredictiveTrust(),
            Silence(),
            enrolment,
            store=Store(tmp_path),
        )

    async def run(one: Service, commits: int) -> None:
        running = asyncio.create_task(one.run())
        async with asyncio.timeout(PATIENCE):
            while one.outbox.commits < commits:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    save_registry(tmp_path / "registry.json", A, B)
    first = service()
    for node in (A, B):
        first.trust.observe(node.eui, False, time.monotonic(), Cause.SEAL)
        first.receiver.observed.add(node.eui)
    await run(first, 1)
    registry(A, revoked=(B,)).save(tmp_path / "registry.json")
    await run(service(), 1)
    save_registry(tmp_path / "registry.json", A, B)
    last = service()
    assert last.trust.history(A.eui)
    assert not last.trust.history(B.eui)
    last.outbox._store.close()


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it was off"])
async def test_who_is_enrolled_anew_starts_as_a_newcomer(tmp_path: Path, running: bool) -> None:
    """The same EUI-64 under another root: what was done with the old one, by whoever had it, is not its."""
    path = tmp_path / "registry.json"

    def service(made: Store) -> Service:
        parts = KeyedChain(), PredictiveTrust(), Silence(), Enrolment(path, create=False)
        return Service(load(edge="http://127.0.0.1:9"), *parts, store=made)

    registry(A, B).save(path)
    made = Store(tmp_path)
    first = service(made)
    for node in (A, B):
        for _ in range(20):
            first.trust.observe(node.eui, False, time.monotonic(), Cause.SEAL)
    assert first.receiver.standing(A.eui, time.monotonic()) is Standing.QUARANTINE
    rows = kept_trust.rows_of(first.trust, (A.eui, B.eui), first.outbox.clock())
    offered = [Offered(node.eui, node.epoch, 7, 0x40, 0.0, b"sealed") for node in (A, B)]
    assert made.commit(Work(offered=offered, trust={row.device: row for row in rows})).kept
    again = Node(A.number, epoch=A.epoch + 1)
    again.keys = derive_gateway(b"\x99" * 32, A.eui, again.epoch, SITE)
    anew = registry(again, B)
    anew.version = 2
    anew.save(path)
    if running:
        first._follow(time.monotonic() + 1)
        assert not made.commit(first.outbox._work).problem
    else:
        made.close()
        made = Store(tmp_path)
        first = service(made)
        assert not made.commit(first.outbox._work).problem
    now = time.monotonic()
    assert (first.receiver.standing(A.eui, now), first.trust.history(A.eui)) == (Standing.FULL, [])
    assert first.receiver.standing(B.eui, now) is Standing.QUARANTINE
    assert [row.device for row in made.trust()] == [B.eui]
    made.close()


# Real processes.


def test_quarantine_outlives_a_real_restart_and_is_explained(tmp_path: Path) -> None:
    edge_registry(A).save(tmp_path / "edge-registry.json")
    save_registry(tmp_path / "registry.json", A)
    socket = tmp_path / "gateway.sock"

    def trust() -> Any:
        return admin(socket, f"/v1/trust/{A.eui.hex()}")

    with process(
        tmp_path,
        "edge",
        "run",
        "--port",
        "0",
        "--registry",
        str(tmp_path / "edge-registry.json"),
        until="listening on",
    ) as (_, edge_log):
        edge = re.search(r"http://[0-9.]+:[0-9]+", edge_log)
        assert edge
        arguments = ["gateway", "run", "--state", str(tmp_path), "--listen", "127.0.0.1:0", "--edge", edge[0]]
        with process(tmp_path, *arguments, until="gateway: gateway") as (_, log):
            address = re.search(r"ZEP on UDP ([0-9.]+):([0-9]+)", log)
            assert address
            radio = Radio((address[1], int(address[2])))
            deadline = time.monotonic() + PATIENCE
            counter = 0
            while trust()["standing"] != "quarantine":
                counter += 1
                radio.send(A.frames(counter, b"no seal at all" * 3))
                time.sleep(0.02)
                assert time.monotonic() < deadline
            before = trust()
            radio.close()
        assert (tmp_path / "outbox.sqlite").stat().st_mode & 0o777 == 0o600
        with process(tmp_path, *arguments, until="gateway: gateway") as (_, log):
            after = trust()
            assert after["standing"] == "quarantine"
            assert after["reserve"] == after["extra"] == 0
            assert 0 < after["quarantine_s"] <= before["quarantine_s"]
            assert after["history"][0]["before"] == before["history"][0]["before"]
            (entry,) = [
                change
                for change in after["history"]
                if change["standing_before"] == "full" != change["standing_after"]
            ]
            assert entry["cause"] == "seal"
            assert entry["budget_before"] >= 2560
            assert entry["budget_after"] == 0
            shown = subprocess.run(
                [*SLIMWIRE, "gateway", "trust", "show", A.eui.hex(), "--admin", str(socket)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert "slimwire_gateway_quarantined 1.0" in admin(socket, "/metrics")
            assert "standing quarantine for another" in shown
            assert "the edge server could not open the seal of a message" in shown
            assert "quarantined: only messages of one frame pass" in shown
            assert shown.count("trust 0.") == len(after["history"]) + 1
            told = subprocess.run(
                [*SLIMWIRE, "gateway", "trust", "show", A.eui.hex(), "--admin", str(socket), "--json"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert json.loads(told)["history"][0]["happened"] == after["history"][0]["happened"]


def test_a_damaged_trust_file_does_not_keep_the_gateway_from_starting(tmp_path: Path) -> None:
    save_registry(tmp_path / "registry.json", A)
    (tmp_path / "trust.json").write_text("{")
    arguments = ["gateway", "run", "--state", str(tmp_path), "--listen", "127.0.0.1:0"]
    with process(tmp_path, *arguments, until="gateway: gateway") as (running, log):
        assert "set aside" in log
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
