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

from gateway.admin import create_app
from gateway.admission import Limits
from gateway.enrolment import Enrolment
from gateway.links.base import Received
from gateway.receiver import Receiver
from gateway.service import Service
from gateway.settings import load
from gateway.trust_file import TrustFile
from security.chain import KeyedChain
from security.trust import Cause, PaperTrust, PredictiveTrust, Standing
from tests.gateway.kit import (
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


# The file.


def offender(now: float) -> PredictiveTrust:
    engine = PredictiveTrust(identities=[A.eui, B.eui])
    for _ in range(10):
        engine.observe(A.eui, False, now, Cause.LATENT)
    engine.observe(B.eui, True, now, Cause.ANSWERED)
    return engine


def kept(path: Path, engine: PredictiveTrust, now: float, wall: float) -> None:
    file = TrustFile(path, engine)
    text = file.snapshot(now, wall)
    assert text is not None
    file.write(text)


def test_the_file_outlives_a_reboot_and_time_passes_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trust.json"
    kept(path, offender(5000.0), 5001.0, 1e9)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["trust.json"]
    again = PredictiveTrust(identities=[A.eui, B.eui])
    TrustFile(path, again).restore(10.0, 1e9 + 20)  # the monotonic clock began anew
    assert again.standing(A.eui) is Standing.QUARANTINE
    assert again.release(A.eui) == pytest.approx(10.0 + 30 - 21)
    assert again.history(B.eui)[0].cause is Cause.ANSWERED
    later = PredictiveTrust(identities=[A.eui])
    TrustFile(path, later).restore(10.0, 1e9 + 30)
    assert later.standing(A.eui) is Standing.PROBATION
    early = PredictiveTrust(identities=[A.eui])
    TrustFile(path, early).restore(10.0, 0.0)  # a clock that fell back lets no time pass
    assert early.release(A.eui) == pytest.approx(10.0 + 29)


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    engine = offender(0.0)
    file = TrustFile(tmp_path / "trust.json", engine)
    assert file.snapshot(1.0, 0.0) is not None
    assert file.snapshot(2.0, 1.0) is None
    engine.observe(B.eui, True, 3.0, Cause.ANSWERED)
    assert file.snapshot(3.0, 2.0) is not None


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
    kept(path, offender(0.0), 1.0, 1e9)
    damaged = change(path.read_text())
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    content = path.read_bytes()
    engine = PredictiveTrust(identities=[A.eui])
    with caplog.at_level(logging.WARNING):
        TrustFile(path, engine).restore(10.0, 1e9 + 1)
    assert "set aside as trust.json.set-aside" in caplog.text
    assert engine.standing(A.eui) is Standing.FULL
    assert not path.exists()
    assert (tmp_path / "trust.json.set-aside").read_bytes() == content


def test_a_file_that_cannot_be_written_is_said_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    file = TrustFile(tmp_path / "file" / "trust.json", offender(0.0))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            text = file.snapshot(1.0, 0.0)
            assert text is not None  # it is tried again
            file.write(text)
    assert [record.message.count("cannot be kept") for record in caplog.records] == [1]


async def test_what_changes_is_written_while_it_runs_and_once_more_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.service._KEEP", 0.01)
    path, engine = tmp_path / "trust.json", PredictiveTrust()
    service = Service(
        load(edge="http://127.0.0.1:9"),
        KeyedChain(),
        engine,
        Silence(),
        Enrolment(save_registry(tmp_path / "registry.json", A), create=False),
        trust_file=path,
    )
    running = asyncio.create_task(service.run())
    engine.observe(A.eui, False, time.monotonic(), Cause.SEAL)
    async with asyncio.timeout(PATIENCE):
        while not path.exists() or A.eui.hex() not in path.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    monkeypatch.setattr("gateway.service._KEEP", 1e6)
    await asyncio.sleep(0.05)
    engine.observe(A.eui, False, time.monotonic(), Cause.SEAL)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    again = PredictiveTrust(identities=[A.eui])
    TrustFile(path, again).restore(time.monotonic(), time.time())
    assert again.history(A.eui)[0].times == 2


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
        assert (tmp_path / "trust.json").stat().st_mode & 0o777 == 0o600
        with process(tmp_path, *arguments, until="gateway: gateway") as (_, log):
            assert "trust taken over from" in log
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
