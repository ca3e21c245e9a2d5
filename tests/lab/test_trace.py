import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.sim import trace as traces
from lab.sim.trace import Trace, TraceError

SAMPLES = st.lists(
    st.tuples(st.floats(0.01, 100, allow_nan=False), st.floats(0, 1e5, allow_nan=False)),
    min_size=1,
    max_size=50,
)


def test_a_rate_holds_until_its_sample_ends_and_the_trace_repeats():
    trace = Trace("t", (1.0, 2.0), (10.0, 20.0))
    assert [trace.at(t) for t in (0, 0.99, 1.0, 2.99, 3.0, 4.5)] == [10, 10, 20, 20, 10, 20]


@given(SAMPLES, st.floats(1, 100), st.floats(1, 100))
def test_rescaled_rates_stay_in_their_bounds_and_keep_their_order(samples, low, ratio):
    trace = Trace("t", tuple(d for d, _ in samples), tuple(r for _, r in samples))
    scaled = trace.rescaled(low, low * ratio)
    assert all(low * (1 - 1e-9) <= rate <= low * ratio * (1 + 1e-9) for rate in scaled.rates)
    pairs = sorted(zip(trace.rates, scaled.rates, strict=True))
    assert all(b <= d * (1 + 1e-9) for (_, b), (_, d) in pairwise(pairs))


def test_three_traces_ship_and_each_has_its_licence_beside():
    assert len(traces.shipped()) == 3
    for name in traces.shipped():
        trace = traces.load(name)
        assert trace.length > 600
        assert statistics.pstdev(trace.rates) > 0.3 * statistics.fmean(trace.rates)
    assert "BSD 2-Clause" in (traces._SHIPPED / "LICENSE.sabre").read_text()


@pytest.mark.parametrize("name", traces.shipped())
@pytest.mark.parametrize("seed", range(8))
def test_a_picked_window_has_a_good_and_a_bad_time(name, seed):
    window = traces.pick(traces.load(name), seed=seed, seconds=30, speed=4, low=50, high=250)
    assert window.length == pytest.approx(30)
    size = len(window.rates) // 8
    blocks = [statistics.geometric_mean(window.rates[i : i + size]) for i in range(0, size * 8, size)]
    assert max(blocks) / min(blocks) > math.sqrt(250 / 50)


def test_the_seed_decides_the_window():
    trace = traces.load(traces.shipped()[0])
    args = {"seconds": 30, "speed": 4, "low": 50, "high": 250}
    assert traces.pick(trace, seed=3, **args) == traces.pick(trace, seed=3, **args)
    assert len({traces.pick(trace, seed=s, **args).rates for s in range(6)}) > 1


def test_csv_and_json_read_the_same():
    rows = [(1000, 500), (2000, 250.5)]
    as_csv = traces.parse_csv("duration_ms,bandwidth_kbps\n" + "\n".join(f"{d},{r}" for d, r in rows), "x")
    assert as_csv == traces.parse_json(f'{{"trace": {[list(r) for r in rows]}}}', "x")
    assert as_csv.at(1.5) == 250.5


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"trace": []}',
        '{"trace": [[0, 5]]}',
        '{"trace": [[1, -5]]}',
        '{"trace": [[1]]}',
        "nonsense",
    ],
)
def test_a_bad_json_trace_is_refused_with_what_was_expected(text):
    with pytest.raises(TraceError, match="expected"):
        traces.parse_json(text, "bad")


@pytest.mark.parametrize("text", ["", "1000\n", "1000,fast\n", "1000,5\n-1,5\n", "1000,nan\n"])
def test_a_bad_csv_trace_is_refused_with_what_was_expected(text):
    with pytest.raises(TraceError, match="expected"):
        traces.parse_csv(text, "bad")


def test_an_unknown_trace_names_those_that_ship():
    with pytest.raises(TraceError, match=traces.shipped()[0]):
        traces.load("no-such-trace")
