"""The outsider as a process: it overhears the air and injects what `lab.attacks.forge` makes of it.

It has a radio and no key. What is urgent (worth nothing once a datagram is complete) goes out at once or not
at all, the rest when there is time; a token bucket of `rate` frames/s and `burst` frames bounds both, and
three quarters of it are kept for what is urgent. Each frame it sends is logged as one JSON line, `{"t",
"kind", "sha", "payload"}`: seconds since it began, the kind, the first 16 hex digits of the SHA-256 of the
frame, and the frame's MAC payload in hex.

Run it with `python -m lab.attacks.inject '<settings as JSON>'`; the fields are those of `Settings`. It prints
`{"ready": true}` once it is on the air. SIGTERM ends it.
"""

import asyncio
import json
import signal
import sys
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, cast

from lab.attacks.forge import Forged, Forger
from lab.sim.record import frame_id, mac_of
from slimwire.errors import SlimwireError
from wire.errors import WireError
from wire.zep import ZepAck, ZepFrame

_WAITING = 64


@dataclass(frozen=True)
class Settings:
    """Where the air's attacker port is, what decides the forgeries, and how many frames/s may go out."""

    host: str
    port: int
    seed: int
    log: str
    rate: float = 40.0
    burst: float = 16.0
    early: int = 5

    def to_json(self) -> str:
        """As the command line takes it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Raises SlimwireError for anything that is not a set of settings."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise SlimwireError(
                f"the attacker cannot read its settings: {error}", expected="JSON of Settings"
            ) from error


class Bucket:
    """`burst` tokens at most, `rate` new ones a second. Time is passed in."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float, spare: float = 0.0) -> bool:
        """Take a token, if there is one and `spare` are left after it."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1 + spare:
            return False
        self._tokens -= 1
        return True


class Attacker(asyncio.DatagramProtocol):
    """Hears frames, forges, injects."""

    def __init__(self, settings: Settings, log: IO[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._forger = Forger(settings.seed, settings.early)
        self._bucket = Bucket(settings.rate, settings.burst, 0.0)
        self._reserve = settings.burst * 0.75
        self._patience = 1 / settings.rate
        self._waiting: deque[Forged] = deque(maxlen=_WAITING)
        self._log = log
        self._seq = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there: join the air."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._transport.sendto(ZepAck(0).emit())
        print(json.dumps({"ready": True}), flush=True)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """A frame overheard."""
        try:
            frame = ZepFrame.parse(data).frame
        except WireError:
            return
        made = self._forger.overhear(frame)
        now = [forged for forged in made if forged.urgent]
        self._waiting.extend(forged for forged in made if not forged.urgent)
        for forged in now:
            if not self._inject(forged, 0.0):
                break
        self._drain()

    def error_received(self, exc: Exception) -> None:
        """The air is gone or not there yet: nothing to attack."""

    def _drain(self) -> None:
        while self._waiting and self._inject(self._waiting[-1], self._reserve):
            self._waiting.pop()
        if self._waiting and self._timer is None:
            self._timer = self._loop.call_later(self._patience, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._drain()

    def _inject(self, forged: Forged, spare: float) -> bool:
        assert self._transport is not None
        now = self._loop.time() - self._began
        if not self._bucket.take(now, spare):
            return False
        self._seq += 1
        self._transport.sendto(ZepFrame(26, 0xDEAD, 255, self._seq, forged.frame).emit())
        mac = mac_of(forged.frame)
        line = {
            "t": round(now, 4),
            "kind": forged.kind,
            "sha": frame_id(forged.frame),
            "payload": mac.payload.hex() if mac else "",
        }
        self._log.write(json.dumps(line) + "\n")
        return True


async def attack(settings: Settings) -> None:
    """Attack until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with Path(settings.log).open("w", encoding="utf-8") as log:  # noqa: ASYNC230 (before anything runs)
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Attacker(settings, log), remote_addr=(settings.host, settings.port)
        )
        try:
            await stop.wait()
        finally:
            transport.close()


def main() -> None:
    """`python -m lab.attacks.inject SETTINGS`."""
    try:
        asyncio.run(attack(Settings.from_json(sys.argv[1])))
    except SlimwireError as error:
        sys.exit(f"attacker: {error}")


if __name__ == "__main__":
    main()
