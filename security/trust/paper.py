"""The trust rule of Predictive-CSM: an exponentially weighted average of outcomes.

T_n(t) = λ·T_n(t−1) + (1−λ)·O_n(t), O in {0, 1}, λ in 0.7..0.95 (arXiv 2506.01767). Being symmetric it
forgives as fast as it punishes: with λ = 0.8 four failures take it from 1 to below 0.5, and four successes
from 0 to above it.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from security.errors import StateError
from security.trust.engine import Cause, Change

HISTORY = 16
_FORMAT = 1
_UNIT = 1 << 32  # budgets are shared in whole units, so that their sum is exact


class _Record:
    __slots__ = ("changes", "level")

    def __init__(self, level: float) -> None:
        self.level = level
        self.changes: deque[Change] = deque(maxlen=HISTORY)


class PaperTrust:
    """`TrustEngine` by the paper's rule.

    Args:
        lam: λ, 0 < λ < 1.
        initial: level of an identity just enrolled.
        identities: EUI-64s enrolled from the start.
    """

    def __init__(self, lam: float = 0.8, *, initial: float = 0.5, identities: Iterable[bytes] = ()) -> None:
        if not (0 < lam < 1 and 0 <= initial <= 1):
            raise ValueError(
                f"lam is {lam}, initial is {initial}; expected 0 < lam < 1 and 0 <= initial <= 1"
            )
        self.lam = lam
        self.initial = initial
        self._records: dict[bytes, _Record] = {}
        self._total = 0
        self.enrol(identities)

    def enrol(self, identities: Iterable[bytes]) -> None:
        """See `TrustEngine`. Memory is bounded by the number of identities and 16 changes each."""
        known = self._records
        self._records = {i: known.get(i) or _Record(self.initial) for i in identities}
        self._total = sum(_units(record.level) for record in self._records.values())

    def observe(self, identity: bytes, outcome: bool, now: float, cause: str) -> None:
        """See `TrustEngine`."""
        evidence = Cause(cause)
        if evidence.outcome != outcome:
            raise ValueError(f"evidence {cause!r} with outcome {outcome}, expected {evidence.outcome}")
        record = self._records.get(identity)
        if record is None:
            return
        before = record.level
        self._set(record, self.lam * before + (1 - self.lam) * outcome)
        last = record.changes[-1] if record.changes else None
        if last is not None and last.cause == evidence:
            merged = last._replace(until=now, times=last.times + 1, after=record.level)
            record.changes[-1] = merged
        else:
            record.changes.append(Change(now, now, 1, evidence, before, record.level))

    def level(self, identity: bytes) -> float:
        """See `TrustEngine`."""
        record = self._records.get(identity)
        return record.level if record else 0.0

    def budget(self, identity: bytes, shared: int) -> int:
        """See `TrustEngine`: in proportion to trust."""
        units = _units(self.level(identity))
        return shared * units // self._total if units else 0

    def history(self, identity: bytes) -> list[Change]:
        """See `TrustEngine`."""
        record = self._records.get(identity)
        return list(record.changes) if record else []

    def to_dict(self, identities: Iterable[bytes] | None = None) -> dict[str, Any]:
        """See `TrustEngine`."""
        return {
            "format": _FORMAT,
            "identities": {
                identity.hex(): {"level": r.level, "history": [list(change[:6]) for change in r.changes]}
                for identity, r in self._some(identities)
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `TrustEngine`. Identities in `state` that are not enrolled stay forgotten."""
        try:
            if state["format"] != _FORMAT:
                raise StateError(f"stored trust has format {state['format']!r}", expected=str(_FORMAT))
            taken = {}
            for name, entry in state["identities"].items():
                record = _Record(float(entry["level"]))
                if not 0 <= record.level <= 1:
                    raise ValueError(f"level {record.level}")
                for since, until, times, cause, before, after in entry["history"]:
                    record.changes.append(
                        Change(
                            float(since), float(until), int(times), Cause(cause), float(before), float(after)
                        )
                    )
                taken[bytes.fromhex(name)] = record
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise StateError(
                f"stored trust is damaged: {type(error).__name__}: {error}",
                expected="what this engine wrote",
                remedy="remove it: every device starts at the initial trust again",
            ) from None
        for identity, record in taken.items():
            if identity in self._records:
                self._records[identity] = record
        self._total = sum(_units(record.level) for record in self._records.values())

    def _some(self, identities: Iterable[bytes] | None) -> Iterable[tuple[bytes, _Record]]:
        if identities is None:
            return self._records.items()
        return [(one, self._records[one]) for one in identities if one in self._records]

    def _set(self, record: _Record, level: float) -> None:
        self._total += _units(level) - _units(record.level)
        record.level = level


def _units(level: float) -> int:
    return int(level * _UNIT)
