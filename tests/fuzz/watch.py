"""What is watched while inputs run: exceptions, time per input, and memory that grows.

A target is warm after a quarter of its inputs; from then on the process may neither keep more objects nor
grow. Objects are counted by CPython's own allocator, which a fuzzer's corpus outside Python does not move.
"""

import gc
import resource
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz.targets import Feed

#: Seconds of processor time that no input may take.
SLOW = 1.0
#: What may be kept, from a quarter of the run to its end: a buffer that grew, a cache that filled.
MOST_BLOCKS = 5_000
MOST_KILOBYTES = 8_192


class FindingError(Exception):
    """An input that broke a promise. The text names the target, the input and what happened."""


@dataclass
class Figures:
    """What a run prints."""

    target: str
    engine: str
    seed: int
    runs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    #: None where they weren't judged.
    blocks_grown: int | None = None
    rss_grown_kb: int | None = None

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"seconds": round(self.seconds, 1), "slowest_ms": round(self.slowest_ms, 1)}


class Watch:
    """Runs inputs through a target and keeps its figures.

    Args:
        figures: filled in as inputs run.
        total: how many will.
        check_blocks: whether the objects kept are judged.
        check_rss: whether the process's resident size is.
    """

    def __init__(
        self, figures: Figures, feed: Feed, total: int, *, check_rss: bool, check_blocks: bool = True
    ) -> None:
        self.figures = figures
        self._feed = feed
        self._total = total
        self._warm = max(1, total // 4)
        self._check_rss = check_rss
        self._check_blocks = check_blocks
        self._blocks = self._rss = 0
        self._started = time.perf_counter()

    def run(self, data: bytes) -> None:
        """One input. Raises FindingError if it broke a promise."""
        figures = self.figures
        before = time.process_time()
        try:
            figures.accepted += self._feed(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            raise FindingError(
                f"{figures.target}: input {figures.runs} (seed {figures.seed}) {data.hex()}\n"
                f"{''.join(traceback.format_exception(error))}"
            ) from None
        took = time.process_time() - before
        if took * 1000 > figures.slowest_ms:
            figures.slowest_ms = took * 1000
            if took > SLOW:
                raise FindingError(f"{figures.target}: {took:.1f} s of processor time for {data.hex()}")
        figures.runs += 1
        if figures.runs == self._warm:
            self._blocks, self._rss = _memory()

    def finish(self) -> Figures:
        """The figures, once all inputs ran. Raises FindingError if memory grew."""
        figures = self.figures
        figures.seconds = time.perf_counter() - self._started
        blocks, rss = (now - then for now, then in zip(_memory(), (self._blocks, self._rss), strict=True))
        if self._check_blocks:
            figures.blocks_grown = blocks
        if self._check_rss:
            figures.rss_grown_kb = rss
        if (figures.blocks_grown or 0) > MOST_BLOCKS or (figures.rss_grown_kb or 0) > MOST_KILOBYTES:
            raise FindingError(
                f"{figures.target}: memory grew by {blocks} objects, {rss} KB"
                f" from input {self._warm} to {figures.runs}"
            )
        return figures


def _memory() -> tuple[int, int]:
    """Blocks that CPython's allocator holds, and the resident size in KB."""
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        rss = pages * resource.getpagesize() // 1024
    except OSError:
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return sys.getallocatedblocks(), rss
