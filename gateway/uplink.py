"""Sealed latents on their way to the edge server: batches by size and age, back-off, verdicts."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from gateway.reasons import Reason
from gateway.waiting import Key, Queued, UplinkQueue
from security.trust import Standing
from wire.batch import CONTENT_TYPE, AnswerItem, IngestItem, Verdict, emit_request, parse_response
from wire.errors import WireError

_log = logging.getLogger("gateway.uplink")

_EVIDENCE: Mapping[int, Reason] = {
    Verdict.UNKNOWN_DEVICE: Reason.EDGE_UNKNOWN_DEVICE,
    Verdict.SEAL: Reason.EDGE_BAD_SEAL,
    Verdict.LATENT: Reason.EDGE_BAD_LATENT,
    Verdict.UNKNOWN_MODEL: Reason.EDGE_UNKNOWN_MODEL,
    Verdict.REVOKED: Reason.EDGE_REVOKED,
}


@dataclass(frozen=True)
class UplinkLimits:
    """Bounds of the uplink. Times in s."""

    #: Messages in one batch at most.
    batch: int = 64
    #: The first message of a batch waits this long for others.
    age: float = 0.003
    #: Messages waiting at most; beyond, one is dropped as `uplink-full` (see `gateway.waiting`).
    queue: int = 4096
    #: One HTTP exchange may take this long.
    timeout: float = 5.0
    #: Pause after the first failure; doubled at each further one up to `longest_pause`.
    pause: float = 0.2
    longest_pause: float = 10.0


class Uplink:
    """Carries the queue to the edge server.

    Args:
        base_url: of the edge server, such as `http://127.0.0.1:8080`.
        limits: bounds.
        counters: where reasons are counted.
        on_answer: called for each item the edge server took, with the queued message.
        transport: replaces httpx's own, for an edge server in the same process.
    """

    def __init__(
        self,
        base_url: str,
        limits: UplinkLimits,
        counters: Counter[str],
        on_answer: Callable[[AnswerItem, Queued], None],
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = base_url.rstrip("/") + "/v1/ingest"
        self._limits = limits
        self._counters = counters
        self._on_answer = on_answer
        self._transport = transport
        self._wake = asyncio.Event()
        self._failures = 0
        self.queue = UplinkQueue(limits.queue)
        self.delivered = 0
        self.batches = 0

    @property
    def away(self) -> bool:
        """Whether the last exchange failed."""
        return self._failures > 0

    def put(
        self,
        device: bytes,
        octet0: int,
        counter: int,
        message: Queued,
        standing: Standing = Standing.FULL,
    ) -> None:
        """Queue a message of a device of that standing; what gives way is counted."""
        reason = self.queue.put((device, octet0, counter), message, standing)
        if reason is not None:
            self._counters[reason] += 1
        self._wake.set()

    async def run(self) -> None:
        """Send batches until cancelled."""
        limits = self._limits
        async with httpx.AsyncClient(
            timeout=limits.timeout, transport=self._transport, trust_env=False
        ) as client:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while len(self.queue):
                    if len(self.queue) < limits.batch:
                        await asyncio.sleep(limits.age)
                    pause = await self._exchange(client)
                    if pause:
                        await asyncio.sleep(pause)

    async def _exchange(self, client: httpx.AsyncClient) -> float:
        """One batch there and its answers back; returns how long to pause, s."""
        batch = self.queue.head(self._limits.batch)
        now = time.monotonic()
        items = [
            IngestItem(device, octet0, counter, max(0, int((now - message.at) * 1000)), message.sealed)
            for (device, octet0, counter), message in batch
        ]
        try:
            response = await client.post(
                self._url, content=emit_request(items), headers={"Content-Type": CONTENT_TYPE}
            )
            if 400 <= response.status_code < 500 and response.status_code not in (408, 425, 429):
                self._refused(batch, response)
                return 0.0
            response.raise_for_status()
            answers = parse_response(response.content)
            _check_order(items, answers)
        except (httpx.HTTPError, httpx.InvalidURL, WireError) as error:
            return self._failed(error)
        self._recovered()
        self.batches += 1
        busy = 0
        for (key, message), answer in zip(batch, answers, strict=True):
            if answer.verdict == Verdict.BUSY:
                busy += 1
                continue
            self.queue.remove(key)
            self.delivered += 1
            reason = _EVIDENCE.get(answer.verdict)
            if reason is not None:
                self._counters[reason] += 1
            self._on_answer(answer, message)
        return self._limits.pause if busy else 0.0

    def _refused(self, batch: list[tuple[Key, Queued]], response: httpx.Response) -> None:
        for key, _ in batch:
            self.queue.remove(key)
        self._counters[Reason.UPLINK_REFUSED] += len(batch)
        _log.error(
            "the edge server refused a batch of %d with HTTP %d (%.120r): "
            "do gateway and edge server have the same version?",
            len(batch),
            response.status_code,
            response.text,
        )

    def _failed(self, error: Exception) -> float:
        limits = self._limits
        pause = min(limits.longest_pause, limits.pause * 2.0 ** min(self._failures, 16))
        self._failures += 1
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        _log.log(
            level,
            "the edge server at %s does not take messages (%s: %s); %d wait, next try in %.1f s",
            self._url,
            type(error).__name__,
            error,
            len(self.queue),
            pause,
        )
        return pause * random.uniform(0.8, 1.2)

    def _recovered(self) -> None:
        if self._failures:
            _log.warning("the edge server at %s is back after %d failures", self._url, self._failures)
            self._failures = 0


def _check_order(items: list[IngestItem], answers: list[AnswerItem]) -> None:
    """Raises WireError `wrong-order` unless the answers are those of the items, in their order."""
    if [item[:3] for item in items] != [answer[:3] for answer in answers]:
        raise WireError(
            "wrong-order",
            f"the edge server answered other messages than the {len(items)} it was sent, or in another order",
        )
