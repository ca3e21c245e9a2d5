"""One batch in, one batch out: every verdict, retries, and that a bad item spoils nothing."""

import logging
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_server.enrolled import Enrolled
from edge_server.ingest import Ingest
from edge_server.store import Store
from edge_server.tails import Tails
from edge_server.width import ChanceConstrained, FixedWidth
from security.registry import Device, EdgeRegistry
from wire.batch import IngestItem, Verdict
from wire.latent import InnerHeader, LinkReport
from wire.message import Kind, octet0
from wire.reply import Status

NOW, UNIX = 100.0, 1_790_000_000.0


@pytest.fixture
def ingest(bundle, sender, enrol):
    with Store() as store:
        yield Ingest(Enrolled(enrol(sender)), Tails([str(bundle.path)]), store, FixedWidth(0.5))


def verdicts(results):
    return [Verdict(r.verdict) for r in results]


def test_a_batch_of_mixed_widths_is_answered_in_its_order(ingest, sender, labels) -> None:
    items = [sender.item(c, image=c, width=c % 2) for c in (5, 3, 9, 1, 12)]
    results = ingest.batch(items, NOW, UNIX)
    assert verdicts(results) == [Verdict.ANSWERED] * 5
    assert [(r.device, r.octet0, r.counter) for r in results] == [
        (i.device, i.octet0, i.counter) for i in items
    ]
    for result in results:
        answer = sender.open(result.counter, result.sealed)
        assert answer.status is Status.ANSWERED
        assert answer.cls == labels[result.counter]
        assert answer.probability > 1 / 3
        assert (answer.next_width, answer.unix_time, answer.detail) == (0, int(UNIX), "")


def test_a_retry_gets_the_same_answer_and_does_not_touch_the_controller(bundle, sender, enrol) -> None:
    policy = ChanceConstrained(0.3)
    with Store() as store:
        ingest = Ingest(Enrolled(enrol(sender)), Tails([str(bundle.path)]), store, policy)
        report = LinkReport(duration_ms=100)
        ingest.batch([sender.item(1)], NOW, UNIX)
        [first] = ingest.batch([sender.item(2, report=report)], NOW + 1, UNIX)
        explained = policy.explain(sender.eui)
        [again] = ingest.batch([sender.item(2, report=report)], NOW + 9, UNIX + 9)
        assert (again.verdict, again.sealed) == (Verdict.ALREADY, first.sealed)
        assert policy.explain(sender.eui) == explained
        assert ingest.devices.get(sender.eui).answered == 2


def test_one_counter_twice_in_a_batch_is_answered_once(ingest, sender) -> None:
    item = sender.item(7)
    results = ingest.batch([item, sender.item(8), item], NOW, UNIX)
    assert verdicts(results) == [Verdict.ANSWERED, Verdict.ANSWERED, Verdict.ALREADY]
    assert results[0].sealed == results[2].sealed


def test_every_refusal_in_one_batch_and_the_good_ones_are_answered(bundle, sender, enrol, labels) -> None:
    revoked = sender._replace(eui=bytes.fromhex("0200000000000002"))
    stranger = sender._replace(eui=bytes.fromhex("0200000000000003"))
    forged = sender.item(20)
    forged = forged._replace(sealed=forged.sealed[:-1] + bytes((forged.sealed[-1] ^ 1,)))
    bad_symbols = InnerHeader(bundle.headfile.model_tag, 1).pack() + b"\xff" * 40
    items = [
        sender.item(1, image=1),
        stranger.item(2),
        revoked.item(3),
        forged,
        sender.item(4, plaintext=bad_symbols),
        sender.item(5, tag=bundle.headfile.model_tag ^ 1),
        sender.item(6, plaintext=InnerHeader(bundle.headfile.model_tag, 9).pack() + b"x"),
        sender.item(7, plaintext=b"abc"),
        sender.item(8, plaintext=b"\0\0\x03\0\0\0"),
        sender.item(9, kind=Kind.HELLO),
        IngestItem(sender.eui, 0x40, 10, 0, b""),
        sender.item(11, image=2, width=0),
    ]
    with Store() as store:
        ingest = Ingest(
            Enrolled(enrol(sender, revoked, revoked=(revoked.eui,))),
            Tails([str(bundle.path)]),
            store,
            FixedWidth(1.0),
        )
        results = ingest.batch(items, NOW, UNIX)
    assert verdicts(results) == [
        Verdict.ANSWERED,
        Verdict.UNKNOWN_DEVICE,
        Verdict.REVOKED,
        Verdict.SEAL,
        Verdict.LATENT,
        Verdict.UNKNOWN_MODEL,
        Verdict.LATENT,
        Verdict.LATENT,
        Verdict.LATENT,
        Verdict.SEAL,
        Verdict.SEAL,
        Verdict.ANSWERED,
    ]
    for place, status in ((4, Status.BAD_LATENT), (5, Status.UNKNOWN_MODEL), (6, Status.BAD_LATENT)):
        answer = sender.open(results[place].counter, results[place].sealed)
        assert answer.status is status
        assert (answer.cls, answer.confidence) == (0, 0)
    assert sender.open(11, results[11].sealed).cls == labels[2]
    assert not any(results[i].sealed for i in (1, 2, 3, 9, 10))


@pytest.mark.parametrize("epochs", [(8,), (6, 7, 8), (1_763_880_000,)])
def test_an_epoch_that_is_gone_is_not_taken_for_one_with_the_same_two_bits(
    bundle, sender, enrol, tmp_path, epochs
) -> None:
    """What a gateway took before a rotation or a re-enrolment, and delivers after it, is no evidence."""
    now = {epoch: sender._replace(epoch=epoch).keys for epoch in epochs}
    assert max(epochs) & 3 == sender.epoch & 3
    path = tmp_path / "edge-registry.json"
    EdgeRegistry(devices={sender.eui: Device(sender.eui, "", now)}).save(path)
    with Store() as store:
        ingest = Ingest(Enrolled(path), Tails([str(bundle.path)]), store, FixedWidth(1.0))
        late, usual = sender.item(7), sender._replace(epoch=max(epochs)).item(7)
        results = ingest.batch([late, usual, late], NOW, UNIX)
        assert verdicts(results) == [Verdict.UNKNOWN_DEVICE, Verdict.ANSWERED, Verdict.UNKNOWN_DEVICE]
        assert list(store.record()) == [(sender.eui, max(epochs))]


def test_a_question_gets_the_stored_answer_and_marks_nothing(ingest, sender) -> None:
    question = IngestItem(sender.eui, octet0(Kind.REPLY, sender.epoch), 7, 0, b"", sender.epoch)
    (before,) = ingest.batch([question], NOW, UNIX)
    assert (before.verdict, before.sealed) == (Verdict.ALREADY, b"")
    (answer,) = ingest.batch([sender.item(7)], NOW, UNIX)
    assert answer.verdict == Verdict.ANSWERED
    (again,) = ingest.batch([question], NOW, UNIX)
    assert (again.verdict, again.sealed) == (Verdict.ALREADY, answer.sealed)
    (none,) = ingest.batch([question._replace(counter=8)], NOW, UNIX)
    assert (none.verdict, none.sealed) == (Verdict.ALREADY, b"")
    assert not ingest.store.used(sender.eui, sender.epoch, 8)
    (odd,) = ingest.batch([question._replace(sealed=b"x" * 20)], NOW, UNIX)
    assert odd.verdict == Verdict.SEAL
    (stranger,) = ingest.batch([question._replace(device=bytes(8))], NOW, UNIX)
    assert (stranger.verdict, stranger.sealed) == (Verdict.UNKNOWN_DEVICE, b"")


def test_a_gateway_that_says_two_bits_of_the_epoch_only_is_served(ingest, sender) -> None:
    item = sender.item(7)._replace(epoch=None)
    assert verdicts(ingest.batch([item], NOW, UNIX)) == [Verdict.ANSWERED]
    assert verdicts(ingest.batch([sender.item(7)], NOW, UNIX)) == [Verdict.ALREADY]


def test_another_epoch_is_another_counter_space(bundle, sender, enrol) -> None:
    old, new = sender, sender._replace(epoch=5)
    with Store() as store:
        path = enrol(old)
        enrolled = Enrolled(path)
        registry = enrolled.registry
        device = registry.devices[old.eui]
        registry.devices[old.eui] = type(device)(old.eui, "", {4: old.keys, 5: new.keys})
        ingest = Ingest(enrolled, Tails([str(bundle.path)]), store, FixedWidth(1.0))
        results = ingest.batch([old.item(1), new.item(1)], NOW, UNIX)
        assert verdicts(results) == [Verdict.ANSWERED, Verdict.ANSWERED]


def test_what_is_used_stays_used_after_a_restart(bundle, sender, enrol, tmp_path) -> None:
    path = enrol(sender)
    for expected in (Verdict.ANSWERED, Verdict.ALREADY):
        with Store(tmp_path / "state") as store:
            ingest = Ingest(Enrolled(path), Tails([str(bundle.path)]), store, FixedWidth(1.0))
            results = ingest.batch([sender.item(41)], NOW, UNIX)
            assert verdicts(results) == [expected]
            assert sender.open(41, results[0].sealed).status is Status.ANSWERED


def test_the_device_narrows_on_a_slow_link_and_widens_on_a_fast_one(bundle, sender, enrol) -> None:
    with Store() as store:
        ingest = Ingest(
            Enrolled(enrol(sender)), Tails([str(bundle.path)]), store, ChanceConstrained(0.3, patience=4)
        )
        widths = []
        for counter in range(1, 101):
            fast = (counter - 1) // 25 % 2 == 0
            report = LinkReport(duration_ms=40 if fast else 260) if counter > 1 else LinkReport()
            [result] = ingest.batch([sender.item(counter, report=report, width=0)], NOW + counter, UNIX)
            widths.append(sender.open(counter, result.sealed).next_width)
    assert widths[24] == 1
    assert widths[49] == 0
    assert widths[74] == 1
    assert widths[99] == 0


def test_the_detail_names_the_class(bundle, sender, enrol, labels) -> None:
    with Store() as store:
        ingest = Ingest(
            Enrolled(enrol(sender)), Tails([str(bundle.path)]), store, FixedWidth(1.0), detail=True
        )
        [result] = ingest.batch([sender.item(1, image=4)], NOW, UNIX)
    assert sender.open(1, result.sealed).detail == bundle.classes[labels[4]]


def test_a_registry_that_changes_is_followed_and_a_broken_one_ignored(bundle, sender, enrol, caplog) -> None:
    other = sender._replace(eui=bytes.fromhex("0200000000000009"))
    path = enrol(sender)
    with Store() as store:
        ingest = Ingest(Enrolled(path), Tails([str(bundle.path)]), store, FixedWidth(1.0))
        assert verdicts(ingest.batch([other.item(1)], NOW, UNIX)) == [Verdict.UNKNOWN_DEVICE]
        enrol(sender, other)
        assert verdicts(ingest.batch([other.item(2)], NOW + 2, UNIX)) == [Verdict.ANSWERED]
        path.write_text("{")
        os.utime(path, (time.time() + 5,) * 2)
        with caplog.at_level(logging.WARNING):
            assert verdicts(ingest.batch([other.item(3)], NOW + 4, UNIX)) == [Verdict.ANSWERED]
        assert "last good one" in caplog.text
        assert ingest.enrolled.problem


def test_a_restarted_device_is_not_taken_for_one_that_lost_everything(ingest, sender) -> None:
    ingest.batch([sender.item(1)], NOW, UNIX)
    assert (
        ingest.devices.heard(
            sender.eui, sender.epoch, 5000, frames=1, report=LinkReport(), now=NOW, unix_time=UNIX
        )
        == []
    )


def test_skipped_counters_are_losses_and_late_ones_are_news_of_nothing(ingest, sender) -> None:
    ingest.batch([sender.item(10)], NOW, UNIX)

    def heard(counter, frames, report):
        return ingest.devices.heard(
            sender.eui, sender.epoch, counter, frames=frames, report=report, now=NOW, unix_time=UNIX
        )

    samples = heard(13, 3, LinkReport(duration_ms=9000))
    assert [s.seconds for s in samples] == [float("inf")] * 2
    [sample] = heard(14, 1, LinkReport(duration_ms=80, retries=1))
    assert (sample.seconds, sample.frames, sample.retries) == (0.08, 3, 1)
    assert heard(11, 1, LinkReport(duration_ms=80)) == []
    assert ingest.devices.get(sender.eui).counter == 14


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.binary(max_size=40), st.integers(1, 30)), max_size=12))
def test_whatever_opens_gets_one_answer_and_good_items_are_never_spoiled(ingest, sender, plan) -> None:
    with Store() as store:
        ingest.store = store
        seen: dict[int, bytes] = {}
        items = []
        for place, what in enumerate(plan):
            if isinstance(what, int):
                items.append(sender.item(what, image=what % 24, width=what % 2))
            else:
                items.append(sender.item(1000 + place, plaintext=what))
        for item, result in zip(items, ingest.batch(items, NOW, UNIX), strict=True):
            answer = sender.open(item.counter, result.sealed)
            if item.counter < 1000:
                assert answer.status is Status.ANSWERED
                first = seen.setdefault(item.counter, result.sealed)
                assert first == result.sealed


def test_a_full_disk_is_busy_and_the_retry_is_answered(ingest, sender, caplog) -> None:
    ingest.batch([sender.item(1)], NOW, UNIX)
    pages = ingest.store._db.execute("PRAGMA page_count").fetchone()[0]
    ingest.store._db.execute(f"PRAGMA max_page_count = {pages}")
    items = [sender.item(c) for c in range(2, 200)]
    full = ingest.batch(items, NOW, UNIX)
    assert {Verdict(r.verdict) for r in full} == {Verdict.BUSY}
    assert not any(r.sealed for r in full)
    assert "cannot be stored" in caplog.text
    ingest.store._db.execute("PRAGMA max_page_count = 100000")
    assert {Verdict(r.verdict) for r in ingest.batch(items, NOW, UNIX)} == {Verdict.ANSWERED}
