"""What trust costs, and the rules side by side. `python -m tests.security.bench_trust` prints a JSON object.

Memory is what Python's allocator gives out (tracemalloc), per identity: enrolled and unheard of, and with all
the history that is kept. Times are CPU time.
"""

import json
import time
import tracemalloc
from typing import Any

from security.trust import Cause, PaperTrust, PredictiveTrust, TrustEngine
from security.trust.predictive import HISTORY

IDENTITIES = 100_000
A = bytes(8)


def memory() -> dict[str, Any]:
    """Bytes per identity of 10⁵."""
    names = [n.to_bytes(8, "big") for n in range(IDENTITIES)]
    tracemalloc.start()
    engine = PredictiveTrust(identities=names)
    idle, _ = tracemalloc.get_traced_memory()
    for n in range(HISTORY + 1):
        cause = Cause.ANSWERED if n % 2 else Cause.SEAL
        for identity in names:
            engine.observe(identity, cause.outcome, float(n), cause)
    full, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    start = time.process_time()
    size = len(json.dumps(engine.to_dict()))
    return {
        "identities": IDENTITIES,
        "bytes_per_identity": {"idle": idle // IDENTITIES, "full_history": full // IDENTITIES},
        "file_bytes_per_identity": size // IDENTITIES,
        "file_s": round(time.process_time() - start, 2),
    }


def observe_us(engine: TrustEngine) -> float:
    """CPU µs per piece of evidence, nine good to one bad."""
    rounds = 100_000
    start = time.process_time()
    for n in range(rounds):
        cause = Cause.ANSWERED if n % 10 else Cause.SEAL
        engine.observe(A, cause.outcome, n / 10, cause)
    return round((time.process_time() - start) / rounds * 1e6, 2)


def good(engine: TrustEngine, times: int) -> None:
    for _ in range(times):
        engine.observe(A, True, 0.0, Cause.ANSWERED)


def bad(engine: TrustEngine, times: int) -> None:
    for _ in range(times):
        engine.observe(A, False, 0.0, Cause.SEAL)


def rule(make: Any) -> dict[str, Any]:
    """How the rule answers to failures, to repentance, and to who alternates."""
    engine = make()
    good(engine, 1000)
    top = engine.level(A)
    falls = 0
    while engine.level(A) >= 0.5:
        bad(engine, 1)
        falls += 1
    bad(engine, 30)
    rises = {}
    for goal in (0.5, 0.9 * top):
        start = rises.get("0.5", 0)
        while engine.level(A) < goal:
            good(engine, 1)
            start += 1
        rises["0.5" if goal == 0.5 else "0.9 of full"] = start
    alternating = {}
    for goods in (1, 2, 4, 9, 19, 49):
        engine, total = make(), 0.0
        for _ in range(200):
            for outcome in [True] * goods + [False]:
                engine.observe(A, outcome, 0.0, Cause.ANSWERED if outcome else Cause.SEAL)
                total += engine.level(A)
        alternating[f"{goods}:1"] = round(total / (200 * (goods + 1)), 3)
    return {
        "newcomer": round(make().level(A), 3),
        "full": round(top, 3),
        "failures_to_below_half": falls,
        "successes_from_the_bottom": rises,
        "mean_level_of_good_to_bad": alternating,
        "observe_us": observe_us(make()),
    }


def main() -> None:
    """Print the object."""
    rules = {
        **{
            f"paper {lam}": rule(lambda lam=lam: PaperTrust(lam, identities=[A]))
            for lam in (0.7, 0.8, 0.9, 0.95)
        },
        "predictive": rule(lambda: PredictiveTrust(identities=[A])),
    }
    print(json.dumps({"rules": rules, "memory": memory()}, indent=1))


if __name__ == "__main__":
    main()
