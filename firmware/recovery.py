"""Selective recovery (RFC 8931) at a device: only the fragments that the air lost are sent again.

Imported only where device.json has "recovery". `firmware.agent` sends messages of several frames with it;
`firmware.receiver` asks it about frames that it does not know itself. An RFRAG carries the very slice that
the frame of RFC 4944 does, behind another header.

Only the slices are authenticated: an RFRAG-ACK may make the device send too much, or pause. What ends a
message is an answer or a custody ack. Where the hints do not help, the frames of RFC 4944 go out; to a
gateway that never acknowledges in kind, nothing else does for a while. The decisions are those of
`wire/recovery_sender.py`, and golden vectors (recovery.json) bind the two.
"""

import asyncio
from struct import pack, unpack_from

from .compat import const

_AT = const(21)  # where a frame's MAC payload begins
_FULL = const(0xFFFFFFFF)
_MOST = const(6)  # bursts in a row that nothing follows; hints in a row that cannot be acted on
_POLL_MS = const(10)
_SETTLE = const(2)  # times _POLL_MS for others to be heard after the first acknowledgement
_LOSSY = const(16)  # messages without a retry after which a link is a good one again
_LACKING = const(64)  # messages by RFC 4944 to a gateway that seems to lack recovery


class Recovery:
    """The sending end, for a small heap; `firmware.recoverable` adds the receiving one.

    always: for each message of several frames; else while the link is lossy. wait_ms: for an RFRAG-ACK.
    """

    receives = False

    def __init__(self, always, wait_ms):
        self._always = always
        self._wait = wait_ms // _POLL_MS
        self._lossy = 0
        self._silent = 0  # messages in a row in which no RFRAG-ACK made sense; below 0: not tried for so many
        self._tag = -1  # of the message under way, 8 bits
        self._every = self._said = self._null = self._nonsense = 0  # of that message

    async def send(self, message, out, link, attempt):
        """Whether the message was sent with recovery; False: send it by RFC 4944.

        out: where to make a frame; attempt: 0 the first time. The first retry asks what is
        there; a further one trusts no hint.
        """
        n = message.frames
        if attempt:
            self._lossy = _LOSSY
        elif self._lossy:
            self._lossy -= 1
        if n < 2 or attempt > 1 or not (self._always or self._lossy):
            return False
        if self._silent < 0:
            self._silent += 1
            return False
        self._tag = tag = message.counter & 0xFF
        self._every = every = _FULL << 32 - n & _FULL
        have = 0
        made_sense = False
        silence = 1 if attempt else 0  # a retry asks first
        self._nonsense = self._null = 0
        left = 3 * n + 4  # fragments that may yet be sent
        while have != every and left > 0 and max(silence, self._nonsense) <= _MOST:
            burst = [0] if self._null else [i for i in range(n) if not have << i & 0x80000000]
            if silence:
                # Perhaps only the acknowledgement was lost; each further time less probably so.
                burst = burst[: 1 << silence - 1]
            left -= len(burst)
            self._said = self._null = 0
            for i in burst:
                size = message.frame(i, out)
                skip = _AT + (5 if i else 4)
                # FRAGN counts in units of 8 bytes, with headers of 48; RFRAG with the 6 that they become.
                offset = (out[skip - 1] << 3) - 42 if i else len(message._payload) + 6
                out[_AT + 6 : _AT + 6 + size - skip] = bytes(out[skip:size])
                word = (i == burst[-1]) << 15 | i << 10 | size - skip
                out[_AT : _AT + 6] = pack(">BBHH", 0xE8, tag, word, offset)
                try:
                    await link.send(out[: _AT + 6 + size - skip])
                except OSError:
                    pass  # the frame is lost, as on the air
                await asyncio.sleep(link.gap_ms / 1000)
            wait = self._wait << min(silence, 3)  # silence may be a channel that is full
            while wait:
                wait -= 1
                if self._said or self._null:
                    wait = min(wait, _SETTLE)  # who else speaks is heard, too
                await asyncio.sleep(_POLL_MS / 1000)
            if self._said:
                made_sense = True
                silence = self._null = 0
                have = self._said
                if have != every:
                    self._nonsense = 0
            elif self._null:
                # It knows nothing of this message, or says so: fragment 0 again.
                self._nonsense += 1
                have = 0
            else:
                silence += 1
        self._silent = 0 if made_sense else self._silent + 1 if self._silent < 1 else -_LACKING
        if left < 2 * n + 4:
            self._lossy = _LOSSY
        return have == every

    def fields(self, frame, receiver, reason):
        """Take an RFRAG-ACK among the frames that `lowpan.parse` refused; the reason that counts."""
        if len(frame) != _AT + 6 or frame[_AT] & 0xFE != 0xEA:
            return reason
        if frame[_AT + 1] == self._tag:
            bitmap = unpack_from(">I", frame, _AT + 2)[0]
            if bitmap == _FULL:
                bitmap = self._every
            if bitmap & ~self._every:
                self._nonsense += 1
            elif bitmap:
                self._said |= bitmap
            else:
                self._null = 1
        return "hint"
