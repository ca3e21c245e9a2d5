"""Which width the next sample gets: what the edge server commands, unless answers stop coming.

Each message that is lost narrows by one step. After that the device widens again one step at a time towards
the commanded width, each step only after `patience` answers in a row; a loss soon after such a step doubles
the patience.

A pure state machine: no clock, no I/O.
"""

from .compat import const

_PATIENCE = const(2)
_PATIENCE_MAX = const(16)


class Fallback:
    """width: index of the width for the next sample. widths: how many there are; start: the first one's
    index.
    """

    def __init__(self, widths, start=0):
        self._widest = widths - 1
        self._commanded = self.width = min(start, self._widest)
        self._ceiling = self._widest  # what the device itself allows
        self._patience = _PATIENCE
        self._streak = 0  # answers since the last loss or step
        self._trial = False  # whether the last change was a step up of our own

    def answered(self, next_width):
        """An answer came; next_width: the index it commands."""
        self._commanded = min(next_width, self._widest)
        if self._ceiling < self._widest:
            self._streak += 1
            if self._streak >= self._patience:
                self._streak = 0
                self._ceiling += 1
                self._trial = True
        elif self._trial:
            self._streak += 1
            if self._streak >= self._patience:
                self._trial = False
                self._patience = _PATIENCE
        self.width = min(self._commanded, self._ceiling)

    def lost(self):
        """A message was given up without an answer."""
        if self._trial:
            self._patience = min(self._patience * 2, _PATIENCE_MAX)
        self._trial = False
        self._streak = 0
        self._ceiling = max(min(self.width, self._ceiling) - 1, 0)
        self.width = min(self._commanded, self._ceiling)
