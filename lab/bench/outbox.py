"""Messages committed a second: one transaction each, against whatever waits when the last one returned.

Both go into the same database with the same settings: write-ahead log, synchronous FULL, so that each commit
returns when its bytes are on the disk. One by one is the bare store, without the queue, the thread and the
event loop that the other one pays for. They take turns, so that a busy machine or disk slows both alike, and
the median round counts. A ratio depends on the disk: the slower its flush, the larger.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from gateway.outbox import Offered, Outbox, OutboxLimits, Store
from gateway.outbox.store import Work
from security.trust import Standing

ROUNDS = 7
#: s of each of the two in a round.
_SECONDS = 0.4
_DEVICES = 16
_SEALED = 360
#: Messages offered ahead of their commit: what a gateway under load has waiting.
_AHEAD = 4096
#: Made before the clock runs: messages of one stretch.
_ONES, _MANY = 16 * 32, 16 * 1024


def measure(rounds: int = ROUNDS, seed: int = 1) -> dict[str, Any]:
    """Medians over `rounds` rounds.

    Returns:
        `commits_per_s`: messages durably committed by the outbox; `one_by_one_per_s`; `ratio`; and
        `messages_per_commit` that the outbox had.
    """
    group, single, ratios, sizes = [], [], [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="slimwire-outbox-") as directory:
            one = _one_by_one(Path(directory) / "one", seed + number)
            many, size = asyncio.run(_grouped(Path(directory) / "many", seed + number))
        single.append(one)
        group.append(many)
        sizes.append(size)
        ratios.append(many / one)
    return {
        "commits_per_s": round(statistics.median(group)),
        "one_by_one_per_s": round(statistics.median(single)),
        "ratio": round(statistics.median(ratios), 1),
        "messages_per_commit": round(statistics.median(sizes)),
    }


def _offers(seed: int, count: int, first: int) -> list[Offered]:
    """Messages of a few devices in turn, each with the next counter from `first` on."""
    sealed = random.Random(seed).randbytes(_SEALED)
    devices = [bytes([2, 0, 0, 0, 0, 0, 0, n]) for n in range(_DEVICES)]
    return [Offered(devices[n % _DEVICES], 0, first + n // _DEVICES, 0x40, 0.0, sealed) for n in range(count)]


def _one_by_one(directory: Path, seed: int) -> float:
    store = Store(directory)
    try:
        done, spent = 0, 0.0
        while spent < _SECONDS:
            offers = _offers(seed, _ONES, 1 + done // _DEVICES)
            began = time.perf_counter()
            for offered in offers:
                store.commit(Work([offered]))
            spent += time.perf_counter() - began
            done += _ONES
        return done / spent
    finally:
        store.close()


async def _grouped(directory: Path, seed: int) -> tuple[float, float]:
    """Messages a second, and messages in a transaction."""
    outbox = Outbox(Store(directory), OutboxLimits(bytes=1 << 40), Counter())
    running = asyncio.create_task(outbox.run(lambda _: None))
    try:
        done, spent = 0, 0.0
        while spent < _SECONDS:
            offers = iter(_offers(seed, _MANY, 1 + done // _DEVICES))
            done += _MANY
            began = time.perf_counter()
            while outbox.committed < done:
                for offered in islice(offers, _AHEAD - outbox.uncommitted):
                    outbox.offer(offered, Standing.FULL)
                await asyncio.sleep(0)
            spent += time.perf_counter() - began
        return done / spent, outbox.committed / outbox.commits
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
