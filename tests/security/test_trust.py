"""The paper's trust rule, its budgets, and what it takes as evidence."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.errors import StateError
from security.trust import Cause, Change, PaperTrust, TrustEngine

A, B, C = (bytes([2, 0, 0, 0, 0, 0, 0, i]) for i in (1, 2, 3))
STRANGER = bytes(8)
GOOD = [c for c in Cause if c.outcome]
BAD = [c for c in Cause if not c.outcome]
evidence = st.lists(st.tuples(st.sampled_from([A, B, C, STRANGER]), st.sampled_from(Cause)), max_size=60)


def feed(engine: TrustEngine, observations: list[tuple[bytes, Cause]]) -> None:
    for now, (identity, cause) in enumerate(observations):
        engine.observe(identity, cause.outcome, float(now), cause)


@given(st.floats(0.01, 0.99), st.floats(0, 1), st.lists(st.sampled_from(Cause), max_size=40))
def test_the_rule(lam: float, initial: float, causes: list[Cause]) -> None:
    engine = PaperTrust(lam, initial=initial, identities=[A])
    expected = initial
    for cause in causes:
        expected = lam * expected + (1 - lam) * cause.outcome
        engine.observe(A, cause.outcome, 0.0, cause)
        assert 0 <= engine.level(A) <= 1
    assert engine.level(A) == pytest.approx(expected)


@pytest.mark.parametrize(("lam", "failures"), [(0.7, 2), (0.8, 4), (0.9, 7), (0.95, 14)])
def test_how_many_failures_take_full_trust_below_a_half(lam: float, failures: int) -> None:
    engine = PaperTrust(lam, initial=1.0, identities=[A])
    for n in range(1, failures + 1):
        assert engine.level(A) >= 0.5
        engine.observe(A, False, float(n), Cause.SEAL)
    assert engine.level(A) < 0.5


def test_evidence_is_a_closed_list() -> None:
    """Replays, bad tags and unfinished datagrams are no evidence, and nothing can report them as such."""
    engine = PaperTrust(identities=[A])
    assert {str(c) for c in BAD} == {"bad-manifest", "over-quota", "seal", "latent"}
    for cause in ("bad-tag", "bad-mac", "replay", "timeout", ""):
        for outcome in (False, True):
            with pytest.raises(ValueError, match="Cause"):
                engine.observe(A, outcome, 0.0, cause)
    for cause in Cause:
        with pytest.raises(ValueError, match="evidence"):
            engine.observe(A, not cause.outcome, 0.0, cause)
    assert engine.level(A) == 0.5
    assert engine.history(A) == []


@given(evidence)
def test_a_stranger_leaves_no_trace(observations: list[tuple[bytes, Cause]]) -> None:
    engine = PaperTrust(identities=[A, B])
    feed(engine, observations)
    assert engine.level(STRANGER) == engine.budget(STRANGER, 1000) == 0
    assert engine.history(STRANGER) == []
    assert set(engine.to_dict()["identities"]) == {A.hex(), B.hex()}


@given(evidence, st.integers(0, 100_000))
def test_budgets_share_the_remainder_in_proportion_to_trust(
    observations: list[tuple[bytes, Cause]], shared: int
) -> None:
    engine = PaperTrust(identities=[A, B, C])
    feed(engine, observations)
    parts = {i: engine.budget(i, shared) for i in (A, B, C)}
    total = sum(engine.level(i) for i in parts)
    assert shared - 3 <= sum(parts.values()) <= shared
    for identity, part in parts.items():
        assert part == pytest.approx(shared * engine.level(identity) / total, abs=1.01)


def test_nobody_trusted_shares_nothing() -> None:
    engine = PaperTrust(initial=0.0, identities=[A, B])
    assert engine.budget(A, 1000) == 0


@given(evidence)
def test_others_evidence_never_lowers_an_identitys_trust(observations: list[tuple[bytes, Cause]]) -> None:
    engine = PaperTrust(identities=[A, B, C])
    feed(engine, [(identity, cause) for identity, cause in observations if identity != A])
    assert engine.level(A) == 0.5
    assert engine.history(A) == []


def test_history_says_what_changed_trust_and_merges_repetitions() -> None:
    engine = PaperTrust(0.5, initial=0.5, identities=[A])
    for now, cause in enumerate([Cause.MESSAGE] * 3 + [Cause.LATENT] + [Cause.MESSAGE]):
        engine.observe(A, cause.outcome, float(now), cause)
    assert engine.history(A) == [
        Change(0.0, 2.0, 3, Cause.MESSAGE, 0.5, 0.9375),
        Change(3.0, 3.0, 1, Cause.LATENT, 0.9375, 0.46875),
        Change(4.0, 4.0, 1, Cause.MESSAGE, 0.46875, 0.734375),
    ]


def test_history_is_bounded() -> None:
    engine = PaperTrust(identities=[A])
    feed(engine, [(A, cause) for cause in (Cause.MESSAGE, Cause.SEAL)] * 100)
    history = engine.history(A)
    assert len(history) == 16
    assert history[-1].until == 199.0


def test_enrolment_keeps_who_stays_and_forgets_who_goes() -> None:
    engine = PaperTrust(identities=[A, B])
    feed(engine, [(A, Cause.MESSAGE), (B, Cause.SEAL)])
    kept = engine.level(A)
    engine.enrol([A, C])
    assert (engine.level(A), engine.level(B), engine.level(C)) == (kept, 0.0, 0.5)
    assert engine.budget(A, 1000) + engine.budget(C, 1000) in (999, 1000)
    engine.enrol([A, B])
    assert engine.level(B) == 0.5


@given(evidence)
def test_state_survives_a_json_file(observations: list[tuple[bytes, Cause]]) -> None:
    engine = PaperTrust(identities=[A, B])
    feed(engine, observations)
    state = json.loads(json.dumps(engine.to_dict()))
    restored = PaperTrust(identities=[A, B])
    restored.restore(state)
    assert restored.to_dict() == engine.to_dict()
    assert restored.history(A) == engine.history(A)
    assert restored.budget(A, 10_000) == engine.budget(A, 10_000)
    elsewhere = PaperTrust(identities=[B, C])
    elsewhere.restore(state)
    assert (elsewhere.level(A), elsewhere.level(B), elsewhere.level(C)) == (0.0, engine.level(B), 0.5)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"format": 2, "identities": {}},
        {"format": 1},
        {"format": 1, "identities": []},
        {"format": 1, "identities": {"zz": {"level": 0.5, "history": []}}},
        {"format": 1, "identities": {A.hex(): {"level": 1.5, "history": []}}},
        {"format": 1, "identities": {A.hex(): {"level": float("nan"), "history": []}}},
        {"format": 1, "identities": {A.hex(): {"level": 0.5, "history": [[1, 2, 3]]}}},
        {"format": 1, "identities": {A.hex(): {"level": 0.5, "history": [[0, 0, 1, "bad-tag", 0, 0]]}}},
        {
            "format": 1,
            "identities": {A.hex(): {"level": 0.5, "history": [[0, 0, float("inf"), "seal", 0, 0]]}},
        },
    ],
)
def test_damaged_state_is_refused_and_changes_nothing(state: dict[str, Any]) -> None:
    engine = PaperTrust(identities=[A])
    with pytest.raises(StateError):
        engine.restore(state)
    assert engine.level(A) == 0.5


@pytest.mark.parametrize(("lam", "initial"), [(0.0, 0.5), (1.0, 0.5), (0.8, -0.1), (0.8, 1.1)])
def test_parameters_out_of_range_are_refused(lam: float, initial: float) -> None:
    with pytest.raises(ValueError, match="lam"):
        PaperTrust(lam, initial=initial)
