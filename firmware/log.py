"""What the device did, as JSON lines: for the lab, for whoever looks at a board over USB.

    {"t": 1234, "e": "answer", "c": 7, ...}     t: ms since the start; e: what happened
"""

from .compat import ticks_diff, ticks_ms


class Log:
    def __init__(self, file):
        self._file = file
        self._elapsed = 0
        self._last = ticks_ms()

    def event(self, name, fields):
        """Write one line. fields: JSON members as text, `"a":1,"b":2`."""
        now = ticks_ms()  # wraps on boards, so it is summed up
        self._elapsed += ticks_diff(now, self._last)
        self._last = now
        self._file.write('{"t":%d,"e":"%s",%s}\n' % (self._elapsed, name, fields))
