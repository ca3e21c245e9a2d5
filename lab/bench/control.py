"""What width control costs the edge server: time per answer and memory per device, with many devices.

Time is that of one `observe` and one `choose`, as the ingest calls them, over all devices in turn (so that no
device's state is in the processor's cache), the fastest of several rounds; memory is what the interpreter
allocated for all devices (`tracemalloc`), their names included, over their number.
"""

import gc
import random
import time
import tracemalloc

from edge_server.width import ChanceConstrained, Sample, WidthOption

_DEADLINE = 0.3
_ROUNDS = 5
_PART = 20_000


def measure(options: tuple[WidthOption, ...], devices: int, seed: int) -> dict[str, float | int]:
    """Figures for `devices` devices with a model of `options`."""
    rng = random.Random(seed)
    samples = [
        Sample(0.0, rng.lognormvariate(-1.8, 0.5), round(o.frames), 0, o.coded, rng.random() * 0.01, i)
        for i, o in enumerate(options)
        for _ in range(64)
    ]
    gc.collect()
    tracemalloc.start()
    controller = ChanceConstrained(_DEADLINE)
    names = [number.to_bytes(8, "big") for number in range(devices)]
    for name in names:
        controller.choose(name, options, 0, 0.0)
        controller.observe(name, samples[0])
        controller.choose(name, options, 0, 1.0)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    part = names[:: max(1, devices // _PART)]
    times = []
    for number in range(_ROUNDS):
        at = 2.0 + number
        work = [(name, samples[rng.randrange(len(samples))]._replace(at=at)) for name in part]
        start = time.perf_counter()
        for name, sample in work:
            controller.observe(name, sample)
            controller.choose(name, options, sample.option, at, 0, sample.waited)
        times.append((time.perf_counter() - start) / len(part))
    return {
        "devices": devices,
        "us_per_answer": round(min(times) * 1e6, 2),
        "bytes_per_device": round(used / devices),
    }
