"""Selective recovery (RFC 8931) at the gateway: what a datagram's state is to its sender, and who gets told.

A recoverable fragment is a slice like any other: it is verified by the same chain, into the same account, and
one datagram may come in both forms. What is special is that its sender may ask for an acknowledgement, and
that these are frames which the gateway sends because of frames it received: they are rationed, but for
fragments that have just authenticated themselves.
"""

from gateway.reasons import Reason
from gateway.reassembly import Datagram
from wire.rfrag import SEQUENCES

#: Refusals after which a sender that asks is told the state; after any other it is told nothing.
ANSWERED = frozenset(
    {
        Reason.DUPLICATE,
        Reason.ALREADY_COMPLETE,
        Reason.REPLAYED,
        Reason.STALE,
        Reason.EXPIRED,
        Reason.EARLY_REFUSED,
        Reason.QUOTA,
        Reason.QUARANTINED,
    }
)

#: Of those, the ones that mean that the whole datagram is there.
WHOLE = frozenset({Reason.ALREADY_COMPLETE, Reason.REPLAYED})


def bitmap(datagram: Datagram) -> int:
    """What an RFRAG-ACK says of an open datagram: verified slices only, slice 0 the most significant bit."""
    out = 1 << SEQUENCES - 1
    for index in range(1, datagram.first.n + 1):
        if not datagram.missing >> index - 1 & 1:
            out |= 1 << SEQUENCES - 1 - index
    return out


class AckRation:
    """How many acknowledgements a device gets that nothing authenticated has asked for: a token bucket.

    Args:
        burst: at once. rate: per s after that.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, burst: float = 16.0, rate: float = 16.0) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether one may be sent at monotonic time `now`, s."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
