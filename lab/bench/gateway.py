"""How many radio channels one gateway process serves: frames in, verified, committed, batched out, answered.

The service is the one that `slimwire gateway run` runs, on the same event loop, with its outbox on the disk
(synchronous FULL) and its uplink over HTTP to a process of its own that takes everything and answers with
40 bytes a message. Custody acks and answers are made, and cut into frames. Only the radio is missing: frames
come out of a list, and go nowhere. Messages are of four frames, as full as slices of whole 8 octets make them
(121 to 124 of 127), made before the clock runs, a stretch at a time; a stretch is over when the last of its
messages was delivered and answered.
"""

import asyncio
import multiprocessing
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from gateway.enrolment import Enrolment
from gateway.links.base import Leg, Received
from gateway.outbox import Store
from gateway.service import Service
from gateway.settings import load
from lab.bench.flood import resident
from lab.experiments.kill.air import frames
from lab.experiments.kill.node import GATEWAY, SITE, Node
from security.chain import KeyedChain
from security.registry import Device, GatewayRegistry
from security.trust import PredictiveTrust
from slimwire.errors import SlimwireError
from wire.batch import CONTENT_TYPE, AnswerItem, Verdict, emit_response, parse_request

#: A saturated channel of 250 kb/s carries so many full frames a second: 133 bytes on the air each, 4.26 ms.
FULL_FRAMES = 230
_DEVICES = 128
#: Sealed bytes that fill four frames between EUI-64s.
_SEALED = 349
_FRAMES = 4
#: Frames made in advance, and how long a stretch may take, s.
_STRETCH = 20_000
_PATIENCE = 120.0
#: The stretch after which what is remembered is complete: the journal has 10,000 messages, a stretch half.
_SETTLED = 4
_ANSWER = bytes(40)


def measure(frames_in_all: int = 200_000, seed: int = 1) -> dict[str, Any]:
    """Serve so many frames, in whole stretches.

    Returns:
        `latents_per_s` and `frames_per_s` by the clock on the wall; `cpu_us_per_frame`, all threads of the
        process; `radio_channels`: how many saturated channels that is; `frames`; `resident_bytes` of the
        process: before the first frame, a tenth of the way (once what it remembers of the last few thousand
        messages is complete), half way, and at the end; `growth_bytes`: from the tenth to the end. Queues
        that are longer than before make some of it, up to their bounds; a leak would go on growing.

    Raises:
        SlimwireError: a message was refused, or got lost on the way.
    """
    with _edge() as url, tempfile.TemporaryDirectory(prefix="slimwire-bench-") as directory:
        return uvloop.run(_measure(max(1, frames_in_all // _STRETCH), seed, url, Path(directory)))


class Prepared:
    """A link whose frames come out of a list, and on which what is sent is gone."""

    description = "a list"

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.sent = 0
        self._frames: deque[bytes] = deque()
        self._more = asyncio.Event()

    def put(self, made: list[bytes]) -> None:
        """Frames to be received next."""
        self._frames.extend(made)
        self._more.set()

    def legs(self) -> Sequence[Leg]:
        """See `Link`."""
        return (Leg("list", self.description, True, 0, self.sent),)

    async def receive(self) -> Received:
        """See `Link`."""
        while not self._frames:
            self._more.clear()
            await self._more.wait()
        return Received(self._frames.popleft(), None, 255, time.monotonic())

    async def send(self, frame: bytes) -> None:
        """See `Link`."""
        self.sent += 1

    def learn(self, source: bytes, origin: object) -> None:
        """See `Link`."""

    def refuse(self, received: Received) -> None:
        """See `Link`."""

    def close(self) -> None:
        """See `Link`."""


async def _measure(stretches: int, seed: int, url: str, directory: Path) -> dict[str, Any]:
    nodes = [Node(number) for number in range(1, _DEVICES + 1)]
    devices = {n.eui: Device(n.eui, "", {0: n.keys}) for n in nodes}
    path = directory / "registry.json"
    GatewayRegistry(GATEWAY, SITE, devices=devices).save(path)
    link = Prepared()
    service = Service(
        load(edge=url, state=directory, limits={"rate": 1e6, "burst": 1e6}),
        KeyedChain(),
        PredictiveTrust(),
        link,
        Enrolment(path, create=False),
        store=Store(directory),
    )
    running = asyncio.create_task(service.run())
    rng = random.Random(f"bench gateway {seed}")
    wall = cpu = 0.0
    messages = 0
    tenth = min(stretches - 1, max(_SETTLED, stretches // 10))
    marks = [resident()]
    try:
        for stretch in range(stretches):
            made = _made(nodes, 1 + messages // _DEVICES, rng)
            messages += len(made) // _FRAMES
            began, spent = time.perf_counter(), time.process_time()
            link.put(made)
            del made
            await _served(service, running, messages)
            wall += time.perf_counter() - began
            cpu += time.process_time() - spent
            if stretch in (tenth, max(tenth, stretches // 2), stretches - 1):
                marks.append(resident())
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    count = messages * _FRAMES
    marks += marks[-1:] * (4 - len(marks))
    return {
        "latents_per_s": round(messages / wall),
        "frames_per_s": round(count / wall),
        "cpu_us_per_frame": round(cpu / count * 1e6, 1),
        "radio_channels": int(count / wall / FULL_FRAMES),
        "frames": count,
        "resident_bytes": marks,
        "growth_bytes": marks[-1] - marks[1],
    }


async def _served(service: Service, running: "asyncio.Task[None]", messages: int) -> None:
    """Until so many messages went all the way, each once."""
    ends = time.monotonic() + _PATIENCE
    while service.downlink.sent < messages or service.outbox.messages:
        if running.done() or time.monotonic() > ends or service.rejected():
            raise SlimwireError(
                f"of {messages} messages {service.uplink.delivered} were delivered and "
                f"{service.downlink.sent} answered; dropped: {service.rejected()}",
                expected="all of them, and none dropped",
                remedy="please report it; a machine that is very busy can be the reason",
            )
        await asyncio.sleep(0.002)


def _made(nodes: list[Node], first: int, rng: random.Random) -> list[bytes]:
    """The frames of one stretch: each device in turn sends the messages from counter `first` on."""
    made: list[bytes] = []
    for n in range(_STRETCH // _FRAMES // len(nodes) * len(nodes)):
        node, counter = nodes[n % len(nodes)], first + n // len(nodes)
        own = frames(node, counter, node.slices(counter, rng.randbytes(_SEALED)))
        assert len(own) == _FRAMES
        made.extend(own)
    return made


# The edge server's place: HTTP/1.1 with what the uplink needs of it, in a process of its own.


@contextmanager
def _edge() -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        if not ours.poll(_PATIENCE):
            raise SlimwireError("the process in the edge server's place did not start")
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Any) -> None:
    async def run() -> None:
        server = await asyncio.start_server(_take, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        items = parse_request(await reader.readexactly(length))
        body = emit_response([AnswerItem(*item[:3], Verdict.ANSWERED, _ANSWER) for item in items])
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
