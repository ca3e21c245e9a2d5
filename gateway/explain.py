"""Changes of trust in plain words: what happened, and what it led to. Pure."""

from typing import Any

from gateway.admission import Limits
from security.trust import Cause, Change, Passage, Standing

_HAPPENED: dict[Cause | Passage, tuple[str, str]] = {
    Cause.MESSAGE: ("a whole message verified", "{n} whole messages verified"),
    Cause.ANSWERED: (
        "the edge server opened and decoded a message",
        "the edge server opened and decoded {n} messages",
    ),
    Cause.BAD_MANIFEST: (
        "a verified first fragment announced a cut that is impossible",
        "{n} verified first fragments announced cuts that are impossible",
    ),
    Cause.OVER_QUOTA: (
        "a verified message came above the device's rate",
        "{n} verified messages came above the device's rate",
    ),
    Cause.SEAL: (
        "the edge server could not open the seal of a message",
        "the edge server could not open the seals of {n} messages",
    ),
    Cause.LATENT: (
        "the edge server could not decode the latent of a message",
        "the edge server could not decode the latents of {n} messages",
    ),
    Passage.TIME: ("time passed, and old failures weigh less",) * 2,
    Passage.RELEASED: ("its quarantine was over",) * 2,
}

_LED_TO = {
    Standing.FULL: "its whole reserve is back",
    Standing.PROBATION: "on probation with room for one datagram",
    Standing.QUARANTINE: "quarantined: only messages of one frame pass",
}


def happened(change: Change) -> str:
    """What happened, as a clause."""
    one, many = _HAPPENED[change.cause]
    return one if change.times == 1 else many.format(n=change.times)


def led_to(change: Change) -> str:
    """What it did to the standing, as a clause; "" if nothing."""
    return "" if change.was is change.became else _LED_TO[change.became]


def as_json(change: Change, now: float, limits: Limits, shared: int) -> dict[str, Any]:
    """One entry of a device's history, as the admin interface gives it.

    Args:
        now: monotonic s.
        limits: of the gateway.
        shared: bytes of the remainder, as it is now: what a part of it is worth.
    """

    def budget(standing: Standing, share: float | None) -> int | None:
        return None if share is None else limits.reserve_at(standing) + int(share * shared)

    return {
        "since_s": round(now - change.since, 3),
        "until_s": round(now - change.until, 3),
        "times": change.times,
        "cause": change.cause.value,
        "happened": happened(change),
        "led_to": led_to(change),
        "before": change.before,
        "after": change.after,
        "budget_before": budget(change.was, change.share_before),
        "budget_after": budget(change.became, change.share_after),
        "standing_before": change.was.value,
        "standing_after": change.became.value,
    }
