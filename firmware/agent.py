"""The device at work: capture, head, entropy code, seal, send, await the answer; one message at a time.

Receiving is a task of its own and never waits for sending. While a message is under way, samples become
due; up to QUEUE of them wait, each captured when its turn comes, and what is due beyond that is skipped.

The log has a JSON object a line: for the lab, for whoever looks at a board over USB. Times are ms since the
start.
"""

import asyncio
from binascii import crc32, hexlify
from hashlib import sha256
from json import dumps
from os import rename
from struct import pack

from .compat import const, ticks_add, ticks_diff, ticks_ms
from .message import link_report
from .rans import encode_into
from .receiver import ANSWER

_QUEUE = const(4)
_REPORT_S = const(2)
_PAUSE = const(-16)  # messages until the next trial of a key epoch
_BACKOFF_MAX = const(4)
_PAUSE_MS = const(20)  # after an error of the link, doubled with each in a row
_PAUSE_MAX_MS = const(2000)


class Agent:
    """frame: where to make a frame; settings: period_ms, deadline_ms, retries; write: takes a line of the
    log; the other parts as firmware.setup makes them.
    """

    # Here, not in __init__: an object's members double their room at once, and at the start there is least.
    again = False  # the device is to start anew
    _sampling = None  # the task to interrupt when the answer is there
    _under_way = _custody = False  # a message; the gateway has it
    _started = 0  # ticks of its first frame
    _duration = _used = 0  # ms and retries that the last message took
    _link_errors = 0
    _elapsed = 0  # ms since the start, summed up because ticks wrap

    def __init__(self, head, source, link, message, receiver, frame, counters, fallback, settings, write):
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
        self._write = write
        self._frame = frame
        self._ticks = ticks_ms()
        link.reject = receiver.reject

    def log(self, event, fields):
        """Write one line; fields: JSON members as text."""
        now = ticks_ms()
        self._elapsed += ticks_diff(now, self._ticks)
        self._ticks = now
        try:
            self._write('{"t":%d,"e":"%s",%s}\n' % (self._elapsed, event, fields))
        except OSError:
            self._link_errors += 1  # no room on the flash: the line is lost, nothing else

    def report(self):
        receiver = self._receiver
        self.log(
            "rx",
            '"accepted":%d,"rejected":%s,"link_errors":%d'
            % (receiver.accepted, dumps(receiver.rejected), self._link_errors),
        )

    async def run(self, seconds=None):
        """One sample a period, as the link keeps up, for so many seconds; the last one is seen through."""
        self._sampling = asyncio.current_task()
        others = asyncio.create_task(self._receive()), asyncio.create_task(self._reports())
        period = self._period
        start = due = ticks_ms()
        while not self.again:
            wait = ticks_diff(due, ticks_ms())
            if wait > 0:
                await asyncio.sleep(wait / 1000)
            now = ticks_ms()
            if seconds is not None and ticks_diff(now, start) >= 1000 * seconds:
                break
            waiting = ticks_diff(now, due) // period
            if waiting > _QUEUE:
                due = ticks_add(due, (waiting - _QUEUE) * period)
                waiting = _QUEUE
            due = ticks_add(due, period)
            try:
                await self._one(waiting)
            except asyncio.CancelledError:
                if self._under_way:
                    raise  # somebody ends the agent, not the answer the wait
            except (OSError, MemoryError):
                # The flash, or no room for a moment: this message is lost, not the device.
                self._link_errors += 1
                self._under_way = False
                self._receiver.expect(0)
                await asyncio.sleep(_PAUSE_MAX_MS / 1000)
        for task in others:
            task.cancel()

    async def _reports(self):
        while True:
            await asyncio.sleep(_REPORT_S)
            try:
                self.report()
            except MemoryError:
                pass  # the next one says it all

    async def _one(self, waiting):
        """Send one sample and wait for the answer, which cancels this. waiting: samples due behind it."""
        head, message = self._head, self._message
        try:
            index = self._source.capture_into(head.image)
        except OSError as error:
            self.log("skipped", '"img":-1,"why":%s' % dumps("the source failed: %s" % error))
            return
        width = self._fallback.width
        head.set_width(width)
        symbols = head.run(head.image)
        try:
            length = encode_into(symbols, head.n_symbols, head, message.body)
        except ValueError:
            self.log("skipped", '"img":%d,"why":"the coded latent exceeds a message"' % index)
            self._fallback.lost()  # the next one is made narrower
            return
        counter = self._counters.next()
        report = link_report(self._duration, self._used, waiting)
        message.seal(counter, head.model_tag, width, report, length)
        self._receiver.expect(counter)
        self._under_way = True
        self._custody = False
        self._started = ticks_ms()
        digest = hexlify(sha256(message.sealed).digest()[:8]).decode()
        width = head.widths[width]
        sent = '"c":%d,"img":%d,"w":%d,"bytes":%d,"frames":%d,"sealed":"%s","a":' % (
            counter,
            index,
            width,
            length,
            message.frames,
            digest,
        )
        # A gateway that authenticates what does not open is asked again less often.
        retries = self._retries & 15
        for attempt in range((retries if self._receiver.trust > 63 else min(retries, 1)) + 1):
            self._used = attempt
            self.log("sent", sent + str(attempt))
            recovery = self._receiver.recovery
            if not recovery or not await recovery.send(message, self._frame, self._link, attempt):
                for i in range(message.frames):
                    if i:
                        await asyncio.sleep(self._link.gap_ms / 1000)
                    try:
                        await self._link.send(self._frame[: message.frame(i, self._frame)])
                    except OSError:
                        self._link_errors += 1  # the frame is lost, as on the air; a retry repeats it
            # Longer after each attempt, and not equally long on two devices that collided.
            wait = self._deadline * min(1 << attempt, _BACKOFF_MAX)
            if attempt:
                wait += self._link.eui64[7] * 37 % self._deadline >> 2
            await asyncio.sleep(wait / 1000)
            if self._custody and self._retries < 16:
                break
        self._under_way = False
        self._receiver.expect(0)
        self._fallback.lost()
        if not self._custody:  # else the gateway has it: the answer is late, the message is not lost
            self._took()
            self.log("lost", '"c":%d' % counter)
            self._turn(-1)

    def _took(self):
        elapsed = ticks_diff(ticks_ms(), self._started)
        if not self._custody:
            self._duration = max(elapsed, 1)
        return elapsed

    async def _receive(self):
        receiver = self._receiver
        pause = _PAUSE_MS
        while True:
            try:
                event = receiver.on_frame(await self._link.recv())
                pause = _PAUSE_MS
                if receiver.recovery and receiver.recovery.receives:
                    await receiver.recovery.reply(self._link, self._message, receiver)
                if event == ANSWER:
                    self._on_answer()
                elif event:
                    self._on_custody()
            except OSError:
                self._link_errors += 1
                await asyncio.sleep(pause / 1000)
                pause = min(2 * pause, _PAUSE_MAX_MS)
            except MemoryError:
                receiver.reject(
                    "no-memory"
                )  # for a moment there is no room: this frame is lost, not the task

    def _on_custody(self):
        self._took()
        custody = self._receiver.custody
        self._custody = self._custody or custody < 2
        status = ("committed", "already", "full", "revoked")[min(custody, 3)]
        self.log("custody", '"c":%d,"status":"%s"' % (self._message.counter, status))

    def _on_answer(self):
        width, status, cls, confidence, _, detail = self._receiver.answer
        elapsed = self._took()
        self._fallback.answered(width)
        widths = self._head.widths
        self.log(
            "answer",
            '"c":%d,"cls":%d,"conf":%.4f,"next":%d,"ms":%d,"status":%d,"detail":%s'
            % (
                self._message.counter,
                cls,
                confidence / 65535,
                widths[min(width, len(widths) - 1)],
                elapsed,
                status,
                dumps(detail),
            ),
        )
        self._under_way = False
        self._sampling.cancel()
        if self._receiver.order or self._receiver.trial:
            self._turn(self._receiver.order)

    def _turn(self, event):
        """The key epoch changes, or may: see firmware.rotation. event: an order, 0: an answer, -1: a loss."""
        receiver = self._receiver
        epoch, before = receiver.epochs
        mark = receiver.trial
        if mark < 0:
            receiver.trial += 1
            return
        if event < 0:
            if not mark and before <= epoch:
                return
            use, mark = before, _PAUSE if mark else 1
        else:
            use, mark = (event, 1) if event > epoch else (epoch, 0)
        data = pack(">IIi", use, epoch, mark)
        name = self._counters._names[0][:-9] + "epoch"  # beside counter.a
        with open(name + ".new", "wb") as file:
            file.write(data + pack(">I", crc32(data + receiver._key[0])))
            self._counters._flush(file)
        rename(name + ".new", name)  # a power cut leaves the one or the other
        if use != epoch:
            if self._message.secret:
                from firmware.rotation import switch

                switch(self._message, receiver, use)
            else:
                self.again = True
        receiver.epochs = use, epoch
        receiver.trial = mark
        self.log("epoch", '"epoch":%d,"was":%d,"mark":%d' % (use, epoch, mark))
