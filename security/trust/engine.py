"""What a receiver asks of a trust engine, and what counts as evidence."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable


class Cause(StrEnum):
    """All authenticated evidence there is: replays, bad tags and unfinished datagrams are none.

    The keys of the identity itself stand behind each: nobody else can cause it.
    """

    MESSAGE = "message"  # good: a whole message verified
    ANSWERED = "answered"  # good: the edge server opened and decoded it
    BAD_MANIFEST = "bad-manifest"  # bad: a verified first fragment announces an impossible cut
    OVER_QUOTA = "over-quota"  # bad: a verified rate above the quota
    SEAL = "seal"  # bad: the edge server reports that the seal does not open
    LATENT = "latent"  # bad: the edge server reports that the latent does not decode

    @property
    def outcome(self) -> bool:
        """Whether it speaks for the identity."""
        return self in (Cause.MESSAGE, Cause.ANSWERED)


class Passage(StrEnum):
    """What changes trust without any evidence: time. Nobody can report it as evidence."""

    TIME = "time"  # old failures weigh less
    RELEASED = "released"  # a quarantine is over


class Standing(StrEnum):
    """How much of its reserved quota an identity has. Only authenticated evidence takes any of it away."""

    FULL = "full"  # all of it, and its part of the shared remainder
    PROBATION = "probation"  # one datagram, and nothing of the remainder
    QUARANTINE = "quarantine"  # none, for a bounded time: what comes in one frame is served all the same


class Change(NamedTuple):
    """One entry of an identity's history: equal observations in a row are one entry.

    Attributes:
        since, until: time of the first and the last of them, in the caller's seconds.
        times: how many.
        cause: see `Cause` and `Passage`.
        before, after: trust before the first and after the last.
        was, became: standing before and after.
        share_before, share_after: part of the shared remainder granted before and after, 0..1; None where
            the engine keeps no account of it.
    """

    since: float
    until: float
    times: int
    cause: Cause | Passage
    before: float
    after: float
    was: Standing = Standing.FULL
    became: Standing = Standing.FULL
    share_before: float | None = None
    share_after: float | None = None


class TrustEngine(Protocol):
    """Per identity (EUI-64) a level in 0..1 that follows authenticated evidence."""

    def enrol(self, identities: Iterable[bytes]) -> None:
        """Exactly these identities exist from now on: new ones start, others are forgotten."""

    def observe(self, identity: bytes, outcome: bool, now: float, cause: str) -> None:
        """Take one piece of evidence. One about an identity that is not enrolled (any more) changes nothing.

        Raises:
            ValueError: `cause` is no authenticated evidence, or speaks the other way than `outcome`.
        """

    def level(self, identity: bytes) -> float:
        """Trust in 0..1; 0 for an identity that is not enrolled."""

    def budget(self, identity: bytes, shared: int) -> int:
        """This identity's part of `shared` bytes. The parts of all identities together never exceed it."""

    def history(self, identity: bytes) -> list[Change]:
        """The last few changes, oldest first."""

    def to_dict(self, identities: Iterable[bytes] | None = None) -> dict[str, Any]:
        """State for a JSON file: of these identities, or of all."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `to_dict` gave, for the identities enrolled now. Raises StateError."""


@runtime_checkable
class Quarantining(TrustEngine, Protocol):
    """A trust engine that also knows time, and a standing that follows authenticated evidence."""

    def advance(self, now: float) -> None:
        """It is `now` (s, on the clock of `observe`): level, budget and standing are those of this time."""

    def standing(self, identity: bytes) -> Standing:
        """What the identity has of its reserved quota; QUARANTINE for one that is not enrolled."""

    def release(self, identity: bytes) -> float | None:
        """When the identity's quarantine ends, s; None while it is in none, or not enrolled."""
