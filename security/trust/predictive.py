"""Slimwire's trust rule: a forecast of each identity's next outcome, and the lower bound of that forecast.

Per identity two discounted counts are kept, `good` and `bad`: the beta-Bernoulli posterior with forgetting
of the Beta Reputation System (A. Jøsang and R. Ismail, Bled 2002), where good and bad are forgotten
differently:

- a good outcome:  good ← γ·good + 1,   bad ← δ·bad
- a bad outcome:   good ← ρ·good,       bad ← bad + w
- time t passes:                        bad ← bad · 2^(−t / half-life)

The forecast that the next outcome is good is (credit + good) / (credit + good + bad), where `credit` is what
enrolment vouches for. Trust is the *lower* end of its score interval (E. B. Wilson, JASA 22, 1927; valid
for few observations, in closed form):

    (g + z²/2 − z·√(g·b/(g + b) + z²/4)) / (g + b + z²),   g = credit + good, b = bad

Few observations give a wide interval, hence little trust: a newcomer has less than whoever earned it, and as
much as an offender gets back by waiting, so that coming back under a new name gains nothing over patience.

When even the *upper* end falls below one half, the next outcome is bad with confidence: quarantine, for a
bounded time that doubles with each relapse. After it comes probation, until trust is back at the level of a
newcomer.
"""

import base64
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from security.errors import StateError
from security.trust.engine import Cause, Change, Passage, Standing

HISTORY = 16
_FORMAT = 1

#: One-sided 95 % confidence.
_Z = 1.645
#: Good outcomes that enrolment is worth.
_CREDIT = 2.0
#: γ: the last 1/(1−γ) = 50 good outcomes count.
_KEEP_GOOD = 0.98
_MOST_GOOD = 1.0 / (1.0 - _KEEP_GOOD)
#: δ: how much of a failure is left after a good outcome.
_KEEP_BAD = 0.97
#: ρ: how much of what was earned is left after a failure.
_KEEP_EARNED = 0.35
#: w: a failure weighs as much as two good outcomes.
_BAD_WEIGHT = 2.0
#: Ten failures at once are as bad as it gets: whoever is repaired comes back.
_MOST_BAD = 20.0
#: s after which a failure weighs half.
_HALF_LIFE = 600.0
#: s of a first quarantine, and of the longest.
_QUARANTINE = 30.0
_LONGEST_QUARANTINE = 600.0
#: Probation ends at this level (a newcomer has 0.425), and relapses are forgotten at the second.
_PARDON = 0.4
_FORGIVEN = 0.8
_MOST_STRIKES = 16

#: Smallest change by time alone that history tells.
_SHOWS = 0.001

#: Levels are whole steps of 2⁻²⁴: budgets are exact, and a level survives being kept as a 32-bit float.
_STEPS = 1 << 24

# The places in these two are stored: they are only ever added to.
_CAUSES: tuple[Cause | Passage, ...] = (
    Cause.MESSAGE,
    Cause.ANSWERED,
    Cause.BAD_MANIFEST,
    Cause.OVER_QUOTA,
    Cause.SEAL,
    Cause.LATENT,
    Passage.TIME,
    Passage.RELEASED,
)
_STANDINGS = (Standing.FULL, Standing.PROBATION, Standing.QUARANTINE)


#: 35 octets, so that all the history of 10⁵ identities fits 56 MB; its layout is stored.
_ENTRY = struct.Struct("<ddIBBBffI")
_MOST_TIMES = (1 << 32) - 1


class _Entry(NamedTuple):
    """A `Change` as it is kept: the levels, and how many shared the remainder then."""

    since: float
    until: float
    times: int
    cause: int
    was: int
    became: int
    before: float
    after: float
    enrolled: int

    def change(self) -> Change:
        was, became = _STANDINGS[self.was], _STANDINGS[self.became]
        return Change(
            self.since,
            self.until,
            self.times,
            _CAUSES[self.cause],
            self.before,
            self.after,
            was,
            became,
            self.before / self.enrolled if was is Standing.FULL else 0.0,
            self.after / self.enrolled if became is Standing.FULL else 0.0,
        )


class _Record:
    __slots__ = ("at", "bad", "good", "kept", "release", "standing", "strikes")

    def __init__(self) -> None:
        self.good = 0.0
        #: As of `at`.
        self.bad = 0.0
        self.at = 0.0
        self.standing = Standing.FULL
        #: End of the quarantine.
        self.release = 0.0
        #: Quarantines since trust was last high.
        self.strikes = 0
        #: The last changes, packed.
        self.kept = b""

    def entries(self) -> Iterator[_Entry]:
        return map(_Entry._make, _ENTRY.iter_unpack(self.kept))


class PredictiveTrust:
    """`Quarantining` engine by the rule above. Every step costs the same, however many identities there are.

    Args:
        identities: EUI-64s enrolled from the start.
    """

    def __init__(self, *, identities: Iterable[bytes] = ()) -> None:
        self._records: dict[bytes, _Record] = {}
        self._now = -math.inf
        self.enrol(identities)

    def enrol(self, identities: Iterable[bytes]) -> None:
        """See `TrustEngine`. Memory is bounded by the number of identities and 16 changes each."""
        known = self._records
        self._records = {i: known.get(i) or _Record() for i in identities}

    def advance(self, now: float) -> None:
        """See `Quarantining`. Time never falls: an earlier `now` changes nothing."""
        self._now = max(self._now, now)

    def observe(self, identity: bytes, outcome: bool, now: float, cause: str) -> None:
        """See `TrustEngine`."""
        evidence = Cause(cause)
        if evidence.outcome != outcome:
            raise ValueError(f"evidence {cause!r} with outcome {outcome}, expected {evidence.outcome}")
        self.advance(now)
        record = self._records.get(identity)
        if record is None:
            return
        self._settle(record)
        before, was = self._level(record), record.standing
        bad = self._bad(record)
        if outcome:
            record.good = min(_MOST_GOOD, _KEEP_GOOD * record.good + 1.0)
            record.bad = _KEEP_BAD * bad
        else:
            record.good *= _KEEP_EARNED
            record.bad = min(_MOST_BAD, bad + _BAD_WEIGHT)
        record.at = self._now
        after = self._level(record)
        self._judge(record, after, outcome)
        self._note(record, self._now, evidence, before, after, was)

    def level(self, identity: bytes) -> float:
        """See `TrustEngine`: the lower bound of the forecast."""
        record = self._records.get(identity)
        return self._level(record) if record else 0.0

    def forecast(self, identity: bytes) -> tuple[float, float, float]:
        """How likely the next outcome is good: lower bound, expected, upper bound. Zeros for a stranger."""
        record = self._records.get(identity)
        if record is None:
            return 0.0, 0.0, 0.0
        good, bad = _CREDIT + record.good, self._bad(record)
        lower, upper = score_interval(good, bad)
        return lower, good / (good + bad), upper

    def budget(self, identity: bytes, shared: int) -> int:
        """See `TrustEngine`: trust times an equal part, so that nobody's evidence moves another's budget.

        Nothing on probation and in quarantine.
        """
        if self.standing(identity) is not Standing.FULL:
            return 0
        steps = int(self._level(self._records[identity]) * _STEPS)
        return shared * steps // (_STEPS * len(self._records))

    def standing(self, identity: bytes) -> Standing:
        """See `Quarantining`."""
        record = self._records.get(identity)
        if record is None:
            return Standing.QUARANTINE
        self._settle(record)
        return record.standing

    def release(self, identity: bytes) -> float | None:
        """See `Quarantining`."""
        if self.standing(identity) is not Standing.QUARANTINE or identity not in self._records:
            return None
        return self._records[identity].release

    def history(self, identity: bytes) -> list[Change]:
        """See `TrustEngine`. What time alone did is an entry of its own, if it shows."""
        record = self._records.get(identity)
        if record is None:
            return []
        self._settle(record)
        changes: list[Change] = []
        for entry in record.entries():
            if changes:
                changes += self._between(changes[-1], entry.before, entry.since, entry.enrolled)
            changes.append(entry.change())
        if changes:
            changes += self._between(changes[-1], self._level(record), self._now, len(self._records))
        return changes

    def to_dict(self, identities: Iterable[bytes] | None = None) -> dict[str, Any]:
        """See `TrustEngine`. Identities without evidence are left out; history is packed, in base64."""
        some = (
            list(self._records.items())
            if identities is None
            else [(one, self._records[one]) for one in identities if one in self._records]
        )
        for _, record in some:
            self._settle(record)
        return {
            "format": _FORMAT,
            "now": self._now if math.isfinite(self._now) else 0.0,
            "identities": {
                identity.hex(): {
                    "good": r.good,
                    "bad": r.bad,
                    "at": r.at,
                    "standing": r.standing.value,
                    "release": r.release,
                    "strikes": r.strikes,
                    "history": base64.b64encode(r.kept).decode("ascii"),
                }
                for identity, r in some
                if r.kept
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `TrustEngine`. Identities in `state` that are not enrolled stay forgotten.

        Clocks differ from one start to the next, ages do not: what was t s ago for `to_dict` is t s ago of
        the time that this engine was last told.
        """
        try:
            if state["format"] != _FORMAT:
                raise StateError(
                    f"stored trust has format {str(state['format'])[:20]!r}", expected=str(_FORMAT)
                )
            then = _finite(state["now"])
            shift = self._now - then if math.isfinite(self._now) else 0.0
            taken = {
                bytes.fromhex(name): _restored(entry, then, shift)
                for name, entry in state["identities"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
            raise StateError(
                f"stored trust is damaged: {type(error).__name__}: {error}",
                expected="what this engine wrote",
                remedy="remove it: every device starts at the initial trust again",
            ) from None
        self.advance(then + shift)
        for identity, record in taken.items():
            if identity in self._records:
                self._records[identity] = record

    def _bad(self, record: _Record, at: float | None = None) -> float:
        """What its failures weigh at a time, now if none is given."""
        if not record.bad:
            return 0.0
        decayed: float = record.bad * 2.0 ** ((record.at - (self._now if at is None else at)) / _HALF_LIFE)
        return decayed

    def _level(self, record: _Record, at: float | None = None) -> float:
        lower, _ = score_interval(_CREDIT + record.good, self._bad(record, at))
        return int(lower * _STEPS) / _STEPS

    def _settle(self, record: _Record) -> None:
        """Let time do what it did to the standing since the record was last touched."""
        if record.standing is Standing.FULL:
            return
        if record.standing is Standing.QUARANTINE and self._now >= record.release:
            record.standing = Standing.PROBATION
            level = self._level(record, record.release)
            self._note(record, record.release, Passage.RELEASED, level, level, Standing.QUARANTINE)
        if record.standing is Standing.PROBATION:
            level = self._level(record)
            if level >= _PARDON:
                record.standing = Standing.FULL
                self._note(record, self._now, Passage.TIME, level, level, Standing.PROBATION)

    def _judge(self, record: _Record, level: float, outcome: bool) -> None:
        """What the evidence just taken does to the standing."""
        _, upper = score_interval(_CREDIT + record.good, record.bad)
        if outcome:
            if level >= _FORGIVEN:
                record.strikes = 0
            if record.standing is Standing.PROBATION and level >= _PARDON:
                record.standing = Standing.FULL
        elif upper < 0.5 and record.standing is not Standing.QUARANTINE:
            record.strikes = min(_MOST_STRIKES, record.strikes + 1)
            record.standing = Standing.QUARANTINE
            record.release = self._now + min(_LONGEST_QUARANTINE, _QUARANTINE * 2.0 ** (record.strikes - 1))

    def _note(
        self,
        record: _Record,
        at: float,
        cause: Cause | Passage,
        before: float,
        after: float,
        was: Standing,
    ) -> None:
        code, stood, stands = _CAUSES.index(cause), _STANDINGS.index(was), _STANDINGS.index(record.standing)
        enrolled = len(self._records)
        since, times, kept = at, 1, record.kept
        if kept and stood == stands:
            last = _Entry._make(_ENTRY.unpack(kept[-_ENTRY.size :]))
            if last.cause == code and last.was == last.became == stands:
                since, times, before = last.since, min(_MOST_TIMES, last.times + 1), last.before
                kept = kept[: -_ENTRY.size]
        entry = _ENTRY.pack(since, at, times, code, stood, stands, before, after, enrolled)
        record.kept = kept[-(HISTORY - 1) * _ENTRY.size :] + entry

    def _between(self, last: Change, level: float, until: float, enrolled: int) -> list[Change]:
        """What time alone did after `last`."""
        if abs(level - last.after) < _SHOWS:
            return []
        full = last.became is Standing.FULL
        return [
            Change(
                last.until,
                until,
                1,
                Passage.TIME,
                last.after,
                level,
                last.became,
                last.became,
                last.after / enrolled if full else 0.0,
                level / enrolled if full else 0.0,
            )
        ]


def score_interval(good: float, bad: float) -> tuple[float, float]:
    """Wilson's score interval for the probability of a good outcome, one-sided 95 % each way.

    Args:
        good, bad: (discounted) counts, not negative, not both zero.
    """
    n, half = good + bad, _Z * _Z / 2
    spread = _Z * math.sqrt(good * bad / n + half / 2)
    lower, upper = (good + half - spread) / (n + 2 * half), (good + half + spread) / (n + 2 * half)
    # Rounding must not carry an end beyond what was observed, or beyond 0 and 1.
    return max(0.0, min(lower, good / n)), min(1.0, max(upper, good / n))


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"time {number}")
    return number


def _within(value: Any, most: float, what: str) -> float:
    number = float(value)
    if not 0 <= number <= most:
        raise ValueError(f"{what} {number}")
    return number


def _restored(entry: Mapping[str, Any], then: float, shift: float) -> _Record:
    """One identity's record, its times moved by `shift`. Raises what `restore` catches."""
    record = _Record()
    record.good = _within(entry["good"], _MOST_GOOD, "good")
    record.bad = _within(entry["bad"], _MOST_BAD, "bad")
    record.at = min(then, _finite(entry["at"])) + shift
    record.standing = Standing(entry["standing"])
    record.release = min(then + _LONGEST_QUARANTINE, _finite(entry["release"])) + shift
    record.strikes = int(_within(entry["strikes"], _MOST_STRIKES, "strikes"))
    kept = base64.b64decode(entry["history"], validate=True)[-HISTORY * _ENTRY.size :]
    for old in map(_Entry._make, _ENTRY.iter_unpack(kept)):
        if old.cause >= len(_CAUSES) or max(old.was, old.became) >= len(_STANDINGS) or not old.enrolled:
            raise ValueError(f"change {old}")
        _within(old.before, 1.0, "level")
        _within(old.after, 1.0, "level")
        moved = old._replace(since=_finite(old.since) + shift, until=_finite(old.until) + shift)
        record.kept += _ENTRY.pack(*moved)
    return record
