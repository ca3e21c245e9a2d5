"""One running edge server, apart from HTTP: its parts, its worker thread, what it says about itself."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edge_server.classify import Classified, classify
from edge_server.enrolled import Enrolled
from edge_server.errors import EdgeError
from edge_server.ingest import Ingest
from edge_server.metrics import Metrics
from edge_server.settings import Settings
from edge_server.store import Store
from edge_server.tails import Served, Tails
from edge_server.width import Choice, FixedWidth
from slimwire import __version__
from wire.batch import AnswerItem, IngestItem, Verdict

_T = TypeVar("_T")


class EdgeServer:
    """Everything that the settings name, built and warmed up.

    All work on interpreters, the store and the controller happens in one worker thread; the event loop stays
    free.

    Raises:
        EdgeError: a bundle, the registry, the state directory or the policy cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.enrolled = Enrolled(settings.registry, key=settings.registry_key, state=settings.state)
        self.tails = Tails(settings.bundles, settings.device_mmac_per_s)
        policy = settings.width_policy()
        if isinstance(policy, FixedWidth):
            self._check_fixed(policy.width)
        self.store = Store(settings.state, keep=settings.answers_kept)
        self.policy = policy
        self.ingest = Ingest(self.enrolled, self.tails, self.store, policy, detail=settings.answer_detail)
        self.metrics = Metrics()
        self._started = time.monotonic()
        self._waiting = 0
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tail")

    def close(self) -> None:
        """Finish the work at hand and close the store."""
        self._worker.shutdown(wait=True)
        self.store.close()

    async def answer(self, items: Sequence[IngestItem]) -> list[AnswerItem]:
        """Answer a batch, in its order; every item `busy` where too many batches wait already."""
        if self._waiting >= self.settings.waiting_batches:
            results = [AnswerItem(i.device, i.octet0, i.counter, Verdict.BUSY, b"") for i in items]
        else:
            self._waiting += 1
            came = time.monotonic()
            try:
                results = await self._in_worker(lambda: self._batch(items, came))
            finally:
                self._waiting -= 1
        for result in results:
            self.metrics.items.labels(Verdict(result.verdict).name.lower()).inc()
        return results

    async def classify(self, served: Served, image: npt.NDArray[np.uint8], width: float | None) -> Classified:
        """Classify one uint8 (H, W, C) image. Raises ImageError for a width that the bundle lacks."""
        classified = await self._in_worker(lambda: classify(served, image, width))
        self.metrics.images.inc()
        return classified

    def status(self) -> dict[str, Any]:
        """How the server is."""
        return {
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started, 3),
            "bundles": [served.name for served in self.tails],
            "registry": str(self.enrolled.path) if self.enrolled.path else None,
            "registry_problem": self.enrolled.problem,
            "registry_refused": dict(self.enrolled.refused),
            "registry_version": self.enrolled.registry.version if self.enrolled.registry else None,
            "enrolled": len(self.enrolled),
            "devices": len(self.ingest.devices),
            "state": str(self.store.directory) if self.store.directory else None,
            "policy": self.settings.policy,
            "deadline_ms": self.settings.deadline_ms,
            "verdicts": dict(self.ingest.verdicts),
            "next_widths": dict(self.ingest.widths),
            "waiting_batches": self._waiting,
        }

    def devices(self) -> list[dict[str, Any]]:
        """What is known of each device heard since the start."""
        return [
            {
                "eui64": device.hex(),
                "epoch": seen.epoch,
                "counter": seen.counter,
                "heard_at": round(seen.heard_at, 3),
                "answered": seen.answered,
                "width": seen.width,
                "next_width": seen.next_width,
                "frames": seen.frames,
                "report": {
                    "duration_ms": seen.report.duration_ms,
                    "retries": seen.report.retries,
                    "queue": seen.report.queue,
                    "battery": seen.report.battery,
                },
            }
            for device, seen in self.ingest.devices
        ]

    def models(self) -> list[dict[str, Any]]:
        """The bundles served."""
        return [
            {
                "name": served.name,
                "version": served.bundle.info["version"],
                "model_tag": f"{served.model_tag:04x}",
                "input": served.bundle.info["input"],
                "classes": list(served.bundle.classes),
                "widths": served.bundle.widths,
            }
            for served in self.tails
        ]

    def explain(self, device: bytes) -> list[dict[str, Any]]:
        """The last width choices of a device, newest first; [] if it was never heard."""
        now = time.monotonic()
        return [_choice(choice, now) for choice in self.policy.explain(device)]

    def measure(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.waiting.set(self._waiting)
        self.metrics.devices.set(len(self.ingest.devices))
        self.metrics.enrolled.set(len(self.enrolled))

    def _batch(self, items: Sequence[IngestItem], came: float) -> list[AnswerItem]:
        start = time.monotonic()
        before = self.ingest.widths.copy()
        results = self.ingest.batch(items, start, time.time(), start - came)
        for width, count in (self.ingest.widths - before).items():
            self.metrics.widths.labels(width).inc(count)
        self.metrics.batch_items.observe(len(items))
        self.metrics.batch_seconds.observe(time.monotonic() - start)
        return results

    async def _in_worker(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _check_fixed(self, width: float) -> None:
        for served in self.tails:
            widths = [option.width for option in served.options]
            if width not in widths:
                raise EdgeError(
                    f"the policy fixes width {width:g}, which the bundle {served.name} does not have",
                    expected="fixed-" + ", fixed-".join(f"{w:g}" for w in widths),
                )


def _choice(choice: Choice, now: float) -> dict[str, Any]:
    return {
        "seconds_ago": round(now - choice.at, 3),
        "width": choice.width,
        "reason": choice.reason,
        "on_time": [round(p, 4) for p in choice.on_time],
        "value": [round(v, 4) for v in choice.value],
        "samples": choice.samples,
    }
