"""Predictive trust: what it promises for any evidence, against the paper's rule, over time, in memory."""

import base64
import json
import math
import struct
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from security.errors import StateError
from security.trust import (
    Cause,
    Change,
    PaperTrust,
    Passage,
    PredictiveTrust,
    Quarantining,
    Standing,
    TrustEngine,
)
from security.trust.predictive import HISTORY, score_interval

A, B, C = (bytes([2, 0, 0, 0, 0, 0, 0, i]) for i in (1, 2, 3))
STRANGER = bytes(8)
SHARED = 1_000_000


def good(engine: TrustEngine, times: int, now: float = 0.0, identity: bytes = A) -> None:
    for _ in range(times):
        engine.observe(identity, True, now, Cause.ANSWERED)


def bad(engine: TrustEngine, times: int, now: float = 0.0, identity: bytes = A) -> None:
    for _ in range(times):
        engine.observe(identity, False, now, Cause.SEAL)


def earned(now: float = 0.0) -> PredictiveTrust:
    engine = PredictiveTrust(identities=[A])
    good(engine, 1000, now)
    return engine


def count(step: Callable[[], None], until: Callable[[], bool]) -> int:
    n = 0
    while not until():
        step()
        n += 1
        assert n < 1000
    return n


class Evidence(RuleBasedStateMachine):
    """Any evidence, at any time, about enrolled identities and strangers, beside enrolment and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.enrolled = [A, B]
        self.engine = PredictiveTrust(identities=self.enrolled)

    def picture(self, identity: bytes) -> tuple[object, ...]:
        engine = self.engine
        return (
            engine.level(identity),
            engine.standing(identity),
            engine.budget(identity, SHARED),
            engine.history(identity),
        )

    @rule(
        identity=st.sampled_from([A, B, C, STRANGER]), cause=st.sampled_from(Cause), times=st.integers(1, 12)
    )
    def observe(self, identity: bytes, cause: Cause, times: int) -> None:
        engine = self.engine
        others = {other: self.picture(other) for other in (A, B, C, STRANGER) if other != identity}
        for _ in range(times):
            level, standing = engine.level(identity), engine.standing(identity)
            engine.observe(identity, cause.outcome, self.now, cause)
            if identity not in self.enrolled:
                assert engine.level(identity) == 0
            elif cause.outcome:
                assert engine.level(identity) >= level
                assert standing is engine.standing(identity) or engine.standing(identity) is Standing.FULL
            else:
                assert engine.level(identity) <= level
                assert (
                    standing is engine.standing(identity) or engine.standing(identity) is Standing.QUARANTINE
                )
        assert others == {other: self.picture(other) for other in others}

    @rule(seconds=st.floats(0, 5000), identity=st.sampled_from([A, B]))
    def time_passes(self, seconds: float, identity: bytes) -> None:
        before = {i: self.engine.level(i) for i in self.enrolled}
        self.now += seconds
        self.engine.advance(self.now)
        assert all(self.engine.level(i) >= level for i, level in before.items())
        if seconds >= 600:
            assert all(self.engine.standing(i) is not Standing.QUARANTINE for i in self.enrolled)

    @rule(
        outcome=st.booleans(),
        cause=st.sampled_from(
            ["bad-tag", "bad-mac", "replayed", "expired", "stranger", "time", "released", ""]
        ),
    )
    def nothing_unauthenticated_reaches_it(self, outcome: bool, cause: str) -> None:
        before = self.picture(A)
        with pytest.raises(ValueError, match="Cause"):
            self.engine.observe(A, outcome, self.now, cause)
        assert self.picture(A) == before

    @rule(enrolled=st.lists(st.sampled_from([A, B, C]), unique=True, min_size=1))
    def enrol(self, enrolled: list[bytes]) -> None:
        before = {i: self.engine.level(i) for i in self.enrolled}
        self.engine.enrol(enrolled)
        fresh = PredictiveTrust(identities=[A]).level(A)
        assert all(self.engine.level(i) == before.get(i, fresh) for i in enrolled)
        self.enrolled = enrolled

    @rule(clock=st.floats(0, 1e6), down=st.floats(0, 5000))
    def restart(self, clock: float, down: float) -> None:
        """Another process, whose clock started elsewhere: what was known is known, and time has passed."""
        state = json.loads(json.dumps(self.engine.to_dict()))
        self.engine.advance(self.now + down)
        before = {i: self.picture(i)[:3] for i in self.enrolled}
        again = PredictiveTrust(identities=self.enrolled)
        again.advance(clock)
        again.restore(state)
        again.advance(clock + down)
        self.engine, self.now = again, clock + down
        for identity, (level, standing, budget) in before.items():
            assert again.level(identity) == pytest.approx(level, abs=1e-6)
            assert again.budget(identity, SHARED) == pytest.approx(budget, abs=2)
            assert again.standing(identity) is standing

    @invariant()
    def bounds(self) -> None:
        engine = self.engine
        parts = [engine.budget(i, SHARED) for i in (A, B, C, STRANGER)]
        assert sum(parts) <= SHARED
        assert all(part >= 0 for part in parts)
        assert engine.budget(STRANGER, SHARED) == engine.level(STRANGER) == 0
        for identity in self.enrolled:
            lower, expected, upper = engine.forecast(identity)
            assert 0 <= engine.level(identity) <= lower <= expected <= upper <= 1
            assert (engine.release(identity) is not None) == (
                engine.standing(identity) is Standing.QUARANTINE
            )
            if engine.standing(identity) is not Standing.FULL:
                assert engine.budget(identity, SHARED) == 0

    @invariant()
    def history_is_a_chain_without_gaps_that_show(self) -> None:
        for identity in self.enrolled:
            history = self.engine.history(identity)
            assert len(history) <= 2 * HISTORY
            for earlier, later in pairwise(history):
                assert later.before == pytest.approx(earlier.after, abs=0.001)
                assert later.was is earlier.became
            if history:
                assert history[-1].after == pytest.approx(self.engine.level(identity), abs=0.001)
                assert history[-1].became is self.engine.standing(identity)


TestEvidence = Evidence.TestCase
TestEvidence.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_score_interval_solves_its_equation(successes: float, failures: float) -> None:
    """Wilson: both ends are those p for which |p̂ − p| = z·√(p(1−p)/n)."""
    n = successes + failures
    if n < 1e-3:
        return
    observed = successes / n
    for end in score_interval(successes, failures):
        assert (observed - end) ** 2 == pytest.approx(1.645**2 * end * (1 - end) / n, rel=1e-5, abs=1e-9)


def test_it_is_a_quarantining_engine_and_the_papers_is_not() -> None:
    assert isinstance(PredictiveTrust(), Quarantining)
    assert not isinstance(PaperTrust(), Quarantining)


@pytest.mark.parametrize(("engine", "fall", "rise"), [(PaperTrust, 4, 4), (PredictiveTrust, 2, 24)])
def test_failures_until_below_a_half_and_successes_to_recover(
    engine: Callable[..., TrustEngine], fall: int, rise: int
) -> None:
    """From full trust down; and from the bottom (ten failures) up again: λ = 0.8 forgives as it punishes."""
    ours = engine(identities=[A])
    good(ours, 1000)
    assert count(lambda: bad(ours, 1), lambda: ours.level(A) < 0.5) == fall
    bad(ours, 30)
    assert count(lambda: good(ours, 1), lambda: ours.level(A) > 0.5) == pytest.approx(rise, abs=2)


@pytest.mark.parametrize("goods", [1, 2, 3, 4])
def test_who_alternates_keeps_nothing_where_the_paper_leaves_half_or_more(goods: int) -> None:
    levels = {}
    for engine in (PaperTrust(identities=[A]), PredictiveTrust(identities=[A])):
        total = 0.0
        for _ in range(100):
            good(engine, goods)
            total += engine.level(A)
            bad(engine, 1)
            total += engine.level(A)
        levels[type(engine)] = total / 200
    assert levels[PaperTrust] > 0.48
    assert levels[PredictiveTrust] < 0.2
    assert levels[PredictiveTrust] < PredictiveTrust(identities=[A]).level(A)


def test_one_failure_of_a_long_record_costs_neither_standing_nor_half_the_trust() -> None:
    engine = earned()
    bad(engine, 1)
    assert engine.level(A) > 0.7
    assert engine.standing(A) is Standing.FULL


def test_a_newcomer_has_less_than_was_earned_and_as_much_as_an_offender_gets_by_waiting() -> None:
    newcomer = PredictiveTrust(identities=[A]).level(A)
    assert newcomer < earned().level(A) / 2
    offender = earned()
    bad(offender, 50)
    offender.advance(1e6)
    assert offender.level(A) <= newcomer
    assert offender.level(A) == pytest.approx(newcomer, abs=1e-3)
    # A rename that the operator grants is worth no more, and one that nobody granted is worth nothing.
    offender.enrol([A, B])
    assert offender.level(B) == newcomer
    assert offender.level(C) == 0


def test_budgets_shrink_before_any_service_does() -> None:
    """From full trust down, the part of the remainder is below a quarter before quarantine begins."""
    engine = earned()
    full = engine.budget(A, SHARED)
    assert full > 0.9 * SHARED
    fall = []
    while engine.standing(A) is Standing.FULL:
        fall.append(engine.budget(A, SHARED))
        bad(engine, 1)
    assert fall == sorted(fall, reverse=True)
    assert len(fall) >= 4
    assert fall[-1] < full / 4
    assert engine.budget(A, SHARED) == 0


def test_another_ones_evidence_does_not_move_a_budget() -> None:
    engine = PredictiveTrust(identities=[A, B])
    before = engine.budget(A, SHARED)
    good(engine, 100, identity=B)
    assert engine.budget(A, SHARED) == before
    bad(engine, 100, identity=B)
    assert engine.budget(A, SHARED) == before


def test_quarantine_ends_by_itself_and_doubles_with_each_relapse_up_to_its_longest() -> None:
    engine = earned()
    now, lengths = 0.0, []
    for _ in range(8):
        while engine.standing(A) is not Standing.QUARANTINE:
            bad(engine, 1, now)
        release = engine.release(A)
        assert release is not None
        lengths.append(release - now)
        engine.advance(release - 0.1)
        assert engine.standing(A) is Standing.QUARANTINE
        engine.advance(release)
        assert engine.standing(A) is Standing.PROBATION
        now = release
    assert lengths == [30, 60, 120, 240, 480, 600, 600, 600]


def test_probation_ends_by_good_outcomes_or_by_patience() -> None:
    def offender() -> PredictiveTrust:
        engine = earned()
        bad(engine, 10)
        engine.advance(30.0)
        assert engine.standing(A) is Standing.PROBATION
        return engine

    active = offender()
    assert 5 < count(lambda: good(active, 1, 30.0), lambda: active.standing(A) is Standing.FULL) < 30
    patient = offender()
    patient.advance(3600.0 * 2)
    assert patient.standing(A) is Standing.FULL
    assert patient.level(A) < active.level(A) + 0.1


def test_relapses_are_forgotten_once_trust_is_high_again() -> None:
    engine = earned()
    bad(engine, 10)
    good(engine, 200, 30.0)
    assert engine.standing(A) is Standing.FULL
    bad(engine, 10, 31.0)
    assert engine.release(A) == 31.0 + 30.0


def test_history_tells_what_happened_and_what_it_led_to() -> None:
    engine = PredictiveTrust(identities=[A, B])
    good(engine, 3, 1.0)
    level = engine.level(A)
    bad(engine, 6, 2.0)
    engine.advance(400.0)
    first, falling, locked, more, meanwhile, released, later = engine.history(A)
    assert first[:4] == (1.0, 1.0, 3, Cause.ANSWERED)
    assert first.after == level
    assert (first.share_before, first.share_after) == (first.before / 2, level / 2)
    assert (falling.cause, falling.was, falling.became) == (Cause.SEAL, Standing.FULL, Standing.FULL)
    assert falling.after < falling.before == level
    assert (locked.times, locked.was, locked.became) == (1, Standing.FULL, Standing.QUARANTINE)
    assert locked.share_before is not None
    assert locked.share_before > 0 == locked.share_after
    assert (more.was, more.became) == (Standing.QUARANTINE, Standing.QUARANTINE)
    assert falling.times + locked.times + more.times == 6
    assert (meanwhile.cause, meanwhile.since, meanwhile.until) == (Passage.TIME, 2.0, 32.0)
    assert meanwhile.after > meanwhile.before
    assert released[:4] == (32.0, 32.0, 1, Passage.RELEASED)
    assert (released.was, released.became) == (Standing.QUARANTINE, Standing.PROBATION)
    assert released.share_after == 0
    assert (later.cause, later.since, later.until) == (Passage.TIME, 32.0, 400.0)
    assert later.before < later.after == engine.level(A)


def test_time_never_falls() -> None:
    engine = earned(100.0)
    bad(engine, 10, 100.0)
    level = engine.level(A)
    engine.advance(0.0)
    assert engine.level(A) == level
    assert engine.standing(A) is Standing.QUARANTINE


def packed(**change: float) -> str:
    """One stored entry of history, changed; literal, since its layout is a format."""
    good = {"since": 0.0, "until": 1.0, "times": 1, "cause": 4, "was": 0, "became": 0}
    good |= {"before": 0.5, "after": 0.25, "enrolled": 1}
    return base64.b64encode(struct.pack("<ddIBBBffI", *{**good, **change}.values())).decode()


def test_a_stored_entry_is_read_as_what_it_was() -> None:
    engine = PredictiveTrust(identities=[A])
    entry = {"good": 2.0, "bad": 0.0, "at": 0.0, "standing": "full", "release": 0.0, "strikes": 0}
    entry["history"] = packed()
    engine.restore({"format": 1, "now": 5.0, "identities": {A.hex(): entry}})
    assert engine.history(A)[0] == Change(
        0.0, 1.0, 1, Cause.SEAL, 0.5, 0.25, Standing.FULL, Standing.FULL, 0.5, 0.25
    )


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"now": math.nan},
        {"now": 10**400},
        {"identities": []},
        {"identities": {"zz": {}}},
        {"identities": {A.hex(): []}},
        *[
            {"entry": {key: value}}
            for key, value in [
                ("good", -1.0),
                ("good", 51.0),
                ("good", math.nan),
                ("bad", 1e9),
                ("at", math.inf),
                ("standing", "king"),
                ("strikes", 10**6),
                ("release", "soon"),
                ("history", [[1, 2, 3]]),
                ("history", 7),
                ("history", "?"),
                ("history", "AAAA"),
                ("history", packed(cause=200)),
                ("history", packed(was=3)),
                ("history", packed(became=9)),
                ("history", packed(since=math.nan)),
                ("history", packed(until=math.inf)),
                ("history", packed(before=1.5)),
                ("history", packed(after=math.nan)),
                ("history", packed(enrolled=0)),
            ]
        ],
    ],
)
def test_damaged_state_is_refused_and_changes_nothing(change: dict[str, Any]) -> None:
    source = earned()
    bad(source, 3)
    state = source.to_dict()
    if "entry" in change:
        state["identities"][A.hex()] |= change["entry"]
    else:
        state |= change
    engine = PredictiveTrust(identities=[A])
    untouched = (engine.level(A), engine.to_dict())
    with pytest.raises(StateError):
        engine.restore(state)
    assert (engine.level(A), engine.to_dict()) == untouched


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_any_json_is_taken_or_refused(state: Any) -> None:
    engine = PredictiveTrust(identities=[A])
    with pytest.raises(StateError):
        engine.restore({"format": 1, "now": 0.0, "identities": {A.hex(): state}})
    with pytest.raises(StateError):
        engine.restore(state)


def test_a_quarantine_from_a_file_is_no_longer_than_one_can_be() -> None:
    source = earned()
    bad(source, 10)
    state = source.to_dict()
    state["identities"][A.hex()]["release"] = 1e9
    engine = PredictiveTrust(identities=[A])
    engine.restore(state)
    engine.advance(600.0)
    assert engine.standing(A) is Standing.PROBATION


def test_memory_of_100_000_identities_is_bounded() -> None:
    """Bytes per identity that has been through more changes than are kept, which is the most there is."""
    names = [n.to_bytes(8, "big") for n in range(100_000)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        engine = PredictiveTrust(identities=names)
        idle, _ = tracemalloc.get_traced_memory()
        assert (idle - before) / len(names) < 250
        sample = names[:5000]
        for n in range(HISTORY + 4):
            cause = Cause.ANSWERED if n % 2 else Cause.SEAL
            for identity in sample:
                engine.observe(identity, cause.outcome, float(n), cause)
        busy, _ = tracemalloc.get_traced_memory()
        assert (busy - idle) / len(sample) < 800
    finally:
        tracemalloc.stop()
