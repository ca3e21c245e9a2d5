"""The device at work: capture, head, entropy code, seal, send, await the answer; one message at a time.

Receiving is a task of its own and never waits for sending. While a message is under way, samples become due; up to
QUEUE of them wait, each captured when its turn comes, and what is due beyond that is skipped.
"""

import asyncio
import json
from binascii import hexlify
from hashlib import sha256

from .compat import const, ticks_add, ticks_diff, ticks_ms
from .lowpan import FRAME_MAX
from .message import link_report
from .rans import encode_into
from .receiver import ANSWER, CUSTODY, CUSTODY_STATUS

QUEUE = const(4)
_REPORT_S = const(2)
_BACKOFF_MAX = const(4)


class Agent:
    """settings: period_ms, deadline_ms, retries, as firmware.config gives them; the other parts as firmware.main makes them."""

    def __init__(self, head, source, link, message, receiver, counters, fallback, settings, log):
        self._head = head
        self._source = source
        self._link = link
        self._message = message
        self._receiver = receiver
        self._counters = counters
        self._fallback = fallback
        self._period = settings["period_ms"]
        self._deadline = settings["deadline_ms"]
        self._retries = settings["retries"]
        self._log = log
        height, width, channels = head.shape
        self._image = bytearray(height * width * channels)
        self._frame = memoryview(bytearray(FRAME_MAX))
        self._answered = asyncio.Event()
        self._custody = False
        self._started = 0  # ticks of the first frame of the message under way
        self._duration = 0  # ms that the last message took; 0 = none yet
        self._used = 0  # retries of the last message
        link.reject = receiver.reject

    async def run(self, seconds=None):
        """Work for so many seconds, or for ever. The message under way at the end is seen through."""
        tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._report())]
        try:
            await self._sample(seconds)
        finally:
            for task in tasks:
                task.cancel()

    def report(self):
        """Log the receiver's counts."""
        receiver = self._receiver
        self._log.event(
            "rx", '"accepted":%d,"rejected":%s' % (receiver.accepted, json.dumps(receiver.rejected))
        )

    async def _report(self):
        while True:
            await asyncio.sleep(_REPORT_S)
            self.report()

    async def _sample(self, seconds):
        """One sample a period, as long as the link keeps up."""
        period = self._period
        start = due = ticks_ms()
        while True:
            wait = ticks_diff(due, ticks_ms())
            if wait > 0:
                await asyncio.sleep(wait / 1000)
            now = ticks_ms()
            if seconds is not None and ticks_diff(now, start) >= 1000 * seconds:
                return
            waiting = ticks_diff(now, due) // period
            if waiting > QUEUE:
                due = ticks_add(due, (waiting - QUEUE) * period)
                waiting = QUEUE
            due = ticks_add(due, period)
            await self._one(waiting)

    async def _one(self, waiting):
        """Capture, code and seal one sample, and see it through. waiting: samples due behind it."""
        head, message = self._head, self._message
        index = self._source.capture_into(self._image)
        width = self._fallback.width
        head.set_width(width)
        symbols = head.run(self._image)
        try:
            length = encode_into(symbols, head.n_symbols, head, message.body)
        except ValueError:
            self._log.event("skipped", '"img":%d,"why":"coded latent exceeds a datagram"' % index)
            self._fallback.lost()  # the next one is made narrower
            return
        counter = self._counters.next()
        message.seal(
            counter, head.model_tag, width, link_report(self._duration, self._used, waiting), length
        )
        self._answered.clear()
        self._custody = False
        self._receiver.expect(counter)
        sent = '"c":%d,"img":%d,"w":%d,"bytes":%d,"frames":%d,"sealed":"%s","a":' % (
            counter,
            index,
            head.widths[width],
            length,
            message.frames,
            hexlify(sha256(message.sealed).digest()[:8]).decode(),
        )
        self._started = ticks_ms()
        for attempt in range(self._retries + 1):
            self._used = attempt
            self._log.event("sent", sent + str(attempt))
            await self._send()
            if await self._await_answer(attempt):
                return
            if self._custody:
                break
        self._receiver.give_up()
        self._fallback.lost()
        if self._custody:
            return  # the gateway has it; the answer is late, not the message lost
        self._duration = max(ticks_diff(ticks_ms(), self._started), 1)
        self._log.event("lost", '"c":%d' % counter)

    async def _send(self):
        """The frames of the message, the same bytes each time; an answer to an earlier attempt cuts it short."""
        for i in range(self._message.frames):
            if i:
                await asyncio.sleep(self._link.gap_ms / 1000)
            if self._answered.is_set():
                return
            n = self._message.frame(i, self._frame)
            await self._link.send(self._frame[:n])

    async def _await_answer(self, attempt):
        """Wait for the answer, longer after each attempt, and not equally long on two devices that collided."""
        timeout = self._deadline * min(1 << attempt, _BACKOFF_MAX)
        if attempt:
            timeout += self._link.eui64[7] * 37 % (self._deadline >> 2 or 1)
        try:
            await asyncio.wait_for(self._answered.wait(), timeout / 1000)
        except asyncio.TimeoutError:
            return False
        return True

    async def _receive(self):
        receiver = self._receiver
        while True:
            event = receiver.on_frame(await self._link.recv())
            if event == ANSWER:
                self._on_answer()
            elif event == CUSTODY:
                self._on_custody()

    def _on_answer(self):
        receiver, widths = self._receiver, self._head.widths
        elapsed = ticks_diff(ticks_ms(), self._started)
        if not self._custody:
            self._duration = max(elapsed, 1)
        self._fallback.answered(receiver.next_width)
        detail = ""
        if receiver.detail:
            detail = ',"detail":' + json.dumps(receiver.detail)
        self._log.event(
            "answer",
            '"c":%d,"cls":%d,"conf":%.4f,"next":%d,"ms":%d,"status":%d%s'
            % (
                receiver.counter,
                receiver.cls,
                receiver.confidence / 65535,
                widths[min(receiver.next_width, len(widths) - 1)],
                elapsed,
                receiver.status,
                detail,
            ),
        )
        self._answered.set()

    def _on_custody(self):
        """The gateway has the message, or says why not."""
        receiver = self._receiver
        if receiver.status < 2 and not self._custody:
            self._custody = True
            self._duration = max(ticks_diff(ticks_ms(), self._started), 1)
        self._log.event(
            "custody", '"c":%d,"status":"%s"' % (receiver.counter, CUSTODY_STATUS[receiver.status])
        )
