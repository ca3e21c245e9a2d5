"""The UART leg: a radio co-processor on a serial line, whole 802.15.4 frames in SLIP (RFC 1055).

    END  frame with its FCS, END as ESC ESC_END, ESC as ESC ESC_ESC  END

Both ways the same. A co-processor needs no other protocol: it takes frames that its radio can send as they
are and gives back what it hears. Noise between two frames, or bytes that are no SLIP, cost the frame they are
in and are counted; the next END starts anew.
"""

import asyncio
import os
import termios
import time
import tty
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gateway.errors import LinkError
from gateway.links.arrivals import Arrivals
from gateway.links.base import Leg, Received
from gateway.reasons import Reason
from wire import slip

_READ = 4096
#: Bytes that may wait for the line; a frame that would exceed them is lost as on a busy radio.
_PENDING = 8192
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 10.0


class UartLink:
    """A serial port. Made by `UartLink.open`. A port that goes away (USB) is opened again when it is back.

    Args:
        port: the device's path.
        baud: a speed that termios knows.
        queue: received frames waiting at most.
    """

    def __init__(self, port: Path, baud: int, *, queue: int = 4096) -> None:
        self.counters: Counter[str] = Counter()
        self._port = port
        self._speed: int = getattr(termios, f"B{baud}")
        self._arrivals = Arrivals(queue)
        self._decoder = slip.Decoder()
        self._out = bytearray()
        self._received = self._sent = 0
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._delay = _FIRST_DELAY
        self._file = self._attach()

    @classmethod
    async def open(cls, port: Path, baud: int, *, queue: int = 4096) -> "UartLink":
        """Open `port`.

        Raises:
            LinkError: no such port, no right to it, no serial port, or a speed that does not exist.
        """
        if not hasattr(termios, f"B{baud}"):
            raise LinkError(
                f"no serial port has {baud} baud", expected="a speed such as 115200, 460800, 921600"
            )
        try:
            return cls(port, baud, queue=queue)
        except (OSError, termios.error) as error:
            raise LinkError(
                f"the serial port {port} cannot be used: {error.args[-1]}",
                remedy="correct `port` in [uart], or put the gateway's user into the port's group (dialout)",
            ) from error

    @property
    def description(self) -> str:
        """What the link is."""
        return f"UART {self._port}" + ("" if self._file >= 0 else " (away)")

    def legs(self) -> Sequence[Leg]:
        """This one; up while the port is there."""
        return (Leg("uart", self.description, self._file >= 0, self._received, self._sent),)

    async def receive(self) -> Received:
        """The next frame; waits for one."""
        return await self._arrivals.get()

    async def send(self, frame: bytes) -> None:
        """Write one frame; it is lost where the line is away or does not take it."""
        packet = slip.encode(frame)
        if self._file < 0 or len(self._out) + len(packet) > _PENDING:
            self.counters[Reason.LINK_UNSENT] += 1
            return
        self._out += packet
        self._sent += 1
        self._writable()

    def learn(self, source: bytes, origin: object) -> None:
        """Nothing to learn: there is one line."""

    def refuse(self, received: Received) -> None:
        """Nothing to do: a line keeps nothing."""

    def close(self) -> None:
        """Close the port; closing it again does nothing."""
        if self._retry is not None:
            self._retry.cancel()
        if self._file >= 0:
            self._detach()

    def _attach(self) -> int:
        file = os.open(self._port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            tty.setraw(file)
            attributes = termios.tcgetattr(file)
            attributes[4] = attributes[5] = self._speed
            attributes[2] |= termios.CLOCAL | termios.CREAD
            attributes[2] &= ~termios.CRTSCTS
            termios.tcsetattr(file, termios.TCSANOW, attributes)
        except BaseException:
            os.close(file)
            raise
        self._decoder = slip.Decoder()
        self._loop.add_reader(file, self._readable)
        return file

    def _detach(self) -> None:
        self._loop.remove_reader(self._file)
        self._loop.remove_writer(self._file)
        os.close(self._file)
        self._file = -1
        self._out.clear()

    def _lost(self) -> None:
        self._detach()
        self._delay = _FIRST_DELAY
        self._retry = self._loop.call_later(self._delay, self._again)

    def _again(self) -> None:
        try:
            self._file = self._attach()
        except (OSError, termios.error):
            self._delay = min(2 * self._delay, _LONGEST_DELAY)
            self._retry = self._loop.call_later(self._delay, self._again)

    def _readable(self) -> None:
        try:
            data = os.read(self._file, _READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # unplugged
            self._lost()
            return
        now = time.monotonic()
        for frame in self._decoder.feed(data):
            if frame is None:
                self.counters[Reason.BAD_SLIP] += 1
            elif self._arrivals.full:
                self.counters[Reason.LINK_OVERRUN] += 1
            else:
                self._received += 1
                self._arrivals.put(Received(frame, None, 255, now))

    def _writable(self) -> None:
        try:
            del self._out[: os.write(self._file, self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._lost()
            return
        if self._out:
            self._loop.add_writer(self._file, self._writable)
        else:
            self._loop.remove_writer(self._file)
