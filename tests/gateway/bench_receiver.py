"""What a frame costs the gateway, CPU time. `python -m tests.gateway.bench_receiver` prints one JSON object.

The receiver's part is parsing, admission and reassembly: of genuine messages of 1, 2, 4 and 13 frames from
60 devices, fragments interleaved; of forged first fragments; of forged later ones at open datagrams. The
service's is the same messages through all of it, with an edge server in the process that answers each.
"""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from gateway.admission import Limits
from gateway.enrolment import Enrolment
from gateway.links.base import Received
from gateway.service import Service
from gateway.settings import load
from security.chain import KeyedChain
from security.trust import PaperTrust
from tests.gateway.kit import Node, receiver, save_registry, sealed_bytes
from wire.batch import AnswerItem, Verdict, emit_response, parse_request
from wire.ieee802154 import MacFrame

NODES = [Node(number) for number in range(1, 61)]
ROUNDS = 40
LENGTHS = {1: 85, 2: 165, 4: 349, 13: 1100}


def stream(length: int) -> list[bytes]:
    """Frames of `ROUNDS` messages of each device, the devices' fragments interleaved."""
    frames = []
    for counter in range(1, ROUNDS + 1):
        messages = [node.frames(counter, sealed_bytes(length)) for node in NODES]
        frames += [
            message[i] for i in range(max(map(len, messages))) for message in messages if i < len(message)
        ]
    return frames


def forged(frame: bytes) -> bytes:
    """The frame with its last payload byte changed and a right FCS."""
    mac = MacFrame.parse(frame)
    mac.payload = mac.payload[:-1] + bytes([mac.payload[-1] ^ 1])
    return mac.emit()


def microseconds(frames: list[bytes], opened: list[bytes] = ()) -> float:  # type: ignore[assignment]
    """CPU µs per frame of a new receiver that heard `opened` before."""
    target = receiver(*NODES, limits=Limits(rate=1e9, burst=1e9))
    for frame in opened:
        target.on_frame(frame, 0.0)
    start = time.process_time()
    for frame in frames:
        target.on_frame(frame, 0.0)
    return round((time.process_time() - start) / len(frames) * 1e6, 1)


class Replayed:
    """A link that has all its frames at once and swallows what is sent."""

    description = "a list"

    def __init__(self, frames: list[bytes]) -> None:
        self.counters: Counter[str] = Counter()
        self._frames = iter(frames)

    async def receive(self) -> Received:
        for frame in self._frames:
            return Received(frame, None, 255, time.monotonic())
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, frame: bytes) -> None:
        pass

    def learn(self, source: bytes, origin: object) -> None:
        pass

    def close(self) -> None:
        pass


async def edge(scope: Any, receive: Any, send: Any) -> None:
    """Answers every message with 40 bytes."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    answers = [AnswerItem(*item[:3], Verdict.ANSWERED, bytes(40)) for item in parse_request(body)]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": emit_response(answers)})


async def whole(length: int) -> float:
    """CPU µs per message through the whole service."""
    frames = stream(length)
    with TemporaryDirectory() as directory:
        path = save_registry(Path(directory) / "registry.json", *NODES)
        settings = load(
            edge="http://edge",
            uplink={"queue": 1 << 20},
            downlink={"gap": 0.0, "queue": 1 << 20},
            limits={"rate": 1e9},
        )
        service = Service(
            settings,
            KeyedChain(),
            PaperTrust(),
            Replayed(frames),
            Enrolment(path, create=False),
            transport=httpx.ASGITransport(edge),
        )
        start = time.process_time()
        task = asyncio.create_task(service.run())
        while service.downlink.frames < ROUNDS * len(NODES):  # noqa: ASYNC110  (a counter has no event)
            await asyncio.sleep(0.005)
        spent = time.process_time() - start
        task.cancel()
    return round(spent / (ROUNDS * len(NODES)) * 1e6, 1)


def main() -> None:
    """Measure and print."""
    first = [node.frames(1, sealed_bytes(349))[0] for node in NODES]
    later = [node.frames(1, sealed_bytes(349))[1] for node in NODES]
    result = {
        "receiver_us_per_frame": {str(n): microseconds(stream(length)) for n, length in LENGTHS.items()},
        "forged_first_us": microseconds([forged(frame) for frame in first] * 50),
        "forged_later_us": microseconds([forged(frame) for frame in later] * 50, first),
        "service_us_per_message": {str(n): asyncio.run(whole(length)) for n, length in LENGTHS.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
