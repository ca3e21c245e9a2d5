"""RFC 8931 §6: the end that sends a recoverable datagram: what to send next, what an acknowledgement means.

    sequences   0 1 2 3 4 5 6 7 8 9      sent, the last one of a burst asks for an acknowledgement (X)
    ack         1 1 0 1 1 1 1 0 1 1      the next burst: 2 and 7, of which 7 asks
    no ack      ? ? ? ? ? ? ? ? ? ?      1, then 2, 4, 8 .. of those not acknowledged, the lowest first

No clock and no frames: the caller sends each `burst`, passes on what it hears (`on_ack`), and says when the
time for that is over (`settle`). That time doubles with each silence (`patience`): silence may be a channel
that is full. Once something was heard it is short (`SETTLE` s), yet not nothing: who else spoke is heard too.

**Nothing that comes back is authenticated**, so it is a hint. An acknowledgement may make this end send too
much or pause; only what the caller can verify (a custody ack, an answer) releases the datagram:

- What several acknowledgements of one wait say is there is taken as there: a forged one that denies it makes
  nothing go again. One that invents it costs the time until nothing authenticated has come.
- All ones: `DONE`. Whoever hears nothing better begins anew, with a `probe`, and then without hints.
- A null bitmap (the other end knows nothing of the datagram, or says so): fragment 0 again, which restores
  the other end's state if it had lost it. It never ends the datagram.
- Bits of fragments that were not sent: the other end contradicts itself; ignored.

With too many of the last two, bursts that nothing follows, or retries, it is `FALLBACK`: the other end lacks
this, or the hints cannot be used; the datagram goes by RFC 4944.
"""

from enum import Enum
from typing import NamedTuple

from wire.rfrag import FULL_BITMAP, NULL_BITMAP, SEQUENCES


class Progress(Enum):
    """How far a datagram is. `DONE` is a hint, as all that it follows from."""

    UNDER_WAY = "under way"
    DONE = "done"
    FALLBACK = "fallback"


class Next(NamedTuple):
    """A fragment to send."""

    sequence: int
    ack_request: bool


#: Bursts in a row that nothing follows; the last ones have up to 16 fragments.
MAX_SILENCE = 6
#: Waits in a row with a null bitmap only, and acknowledgements in a row of what was not sent.
MAX_NONSENSE = 6
#: s that others may yet be heard after the first acknowledgement.
SETTLE = 0.02


class RecoverySender:
    """See the module.

    Args:
        fragments: of the datagram, 1..32.
        window: fragments that may be under way at most, 1..32.
        probe: everything was sent before; begin by asking for the other end's state.
    """

    __slots__ = (
        "_heard",
        "_left",
        "_nonsense",
        "_null",
        "_sent",
        "_silence",
        "acknowledged",
        "fragments",
        "window",
    )

    def __init__(self, fragments: int, window: int = SEQUENCES, *, probe: bool = False) -> None:
        if not 1 <= fragments <= SEQUENCES or not 1 <= window <= SEQUENCES:
            raise ValueError(f"{fragments} fragments in a window of {window}: expected 1..{SEQUENCES}")
        self.fragments = fragments
        self.window = window
        #: What the other end last said it has: bit i is fragment i.
        self.acknowledged = 0
        self._sent = fragments if probe else 0  # fragments sent at least once: 0..sent-1
        self._silence = 1 if probe else 0
        self._nonsense = 0
        self._heard = False  # since the last burst
        self._null = False
        #: Fragments that may yet be sent: each of them three times on average, and some.
        self._left = 3 * fragments + 4

    @property
    def progress(self) -> Progress:
        """Where the datagram is."""
        if self.acknowledged == (1 << self.fragments) - 1:
            return Progress.DONE
        exhausted = self._left <= 0 or self._silence > MAX_SILENCE or self._nonsense > MAX_NONSENSE
        return Progress.FALLBACK if exhausted else Progress.UNDER_WAY

    @property
    def patience(self) -> int:
        """How many times as long as the first time an acknowledgement is to be waited for: 1, 2, 4, 8."""
        return 1 << min(self._silence, 3)

    def burst(self) -> list[Next]:
        """What to send now; the last of it asks for an acknowledgement. Empty unless `UNDER_WAY`."""
        if self.progress is not Progress.UNDER_WAY:
            return []
        missing = [i for i in range(self._sent) if not self.acknowledged >> i & 1]
        if self._null:
            picked = [0]
        elif self._silence:
            # Perhaps only the acknowledgement was lost; each further time less probably so.
            picked = missing[: 1 << self._silence - 1]
        else:
            picked = missing[: self.window]
            fresh = min(self.fragments, self._sent + self.window - len(picked))
            picked.extend(range(self._sent, fresh))
            self._sent = fresh
        self._left -= len(picked)
        self._heard = self._null = False
        return [Next(sequence, sequence == picked[-1]) for sequence in picked]

    def on_ack(self, bitmap: int) -> bool:
        """An RFRAG-ACK for this datagram came; whether it makes sense, so that the wait may soon be over.

        Args:
            bitmap: its 32 bits, sequence 0 the most significant.
        """
        if bitmap == NULL_BITMAP:
            self._null = True
            return True
        said = (1 << self.fragments) - 1 if bitmap == FULL_BITMAP else _reversed(bitmap)
        if said >> self._sent:
            self._nonsense += 1
            return False
        self.acknowledged = said | (self.acknowledged if self._heard else 0)
        self._heard = True
        return True

    def settle(self) -> None:
        """The wait after a burst is over."""
        if self._heard:
            self._silence = 0
            self._null = False
            if self.progress is not Progress.DONE:
                self._nonsense = 0
        elif self._null:
            self._nonsense += 1
            self.acknowledged = 0
        else:
            self._silence += 1


def _reversed(bitmap: int) -> int:
    """Bit i for sequence i, of a bitmap that has sequence 0 at the left."""
    out = 0
    for sequence in range(SEQUENCES):
        out |= (bitmap >> SEQUENCES - 1 - sequence & 1) << sequence
    return out
