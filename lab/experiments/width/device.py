"""One device and its edge server over one run: what is chosen when, as the firmware and the ingest do it.

A message carries the report of the message before; the server learns of a lost one by the gap in the
counters, and its answer's width applies to the next sample. Between server and head stands the firmware's own
fallback.
"""

from collections.abc import Sequence
from math import inf, isinf

import numpy as np

from edge_server.devices import MAX_GAP
from edge_server.width import Sample, WidthOption, WidthPolicy
from firmware.fallback import Fallback
from lab.experiments.width.requests import Ints, Outcomes

_DEVICE = b"\x02" + bytes(7)


def run(outcomes: Outcomes, options: Sequence[WidthOption], policy: WidthPolicy, period: float) -> Ints:
    """(T,) the index of the width used for each request; the first one is the narrowest."""
    arrived, answered = outcomes.arrived.tolist(), outcomes.seconds.tolist()
    reported, frames, coded = outcomes.reported.tolist(), outcomes.frames.tolist(), outcomes.coded.tolist()
    waited, at = outcomes.waited.tolist(), outcomes.at.tolist()
    fallback = Fallback(len(options))
    used = []
    missed = 0
    last: Sample | None = None
    for t, now in enumerate(at):
        w = fallback.width
        used.append(w)
        if not arrived[t][w]:
            missed += 1
            fallback.lost()
            continue
        if last is not None and 0 < missed <= MAX_GAP:
            for _ in range(missed):
                policy.observe(_DEVICE, Sample(now, inf, last.frames))
        elif last is not None and not missed:
            policy.observe(_DEVICE, last._replace(at=now))
        missed = 0
        took = reported[t][w]
        last = Sample(now, period if isinf(took) else took, frames[t][w], 0, coded[t][w], waited[t], w)
        index = policy.choose(_DEVICE, options, w, now, 0, waited[t])
        if isinf(answered[t][w]):
            fallback.lost()
        else:
            fallback.answered(index)
    return np.array(used)
