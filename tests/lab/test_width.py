"""The width experiment: links that carry what they should, outcomes that are paired, and what the shipped
controller reaches on the shipped traces.
"""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lab.cli import app
from lab.experiments.width import bounds, device, generated, goodput, links, outage, policies, queue, run
from lab.experiments.width.links import Fading, Link
from lab.experiments.width.requests import Model, Plan, frame_lengths, simulate
from lab.experiments.width.statistics import interval
from lab.experiments.width.tuned import TUNED_ON
from lab.sim.loss import LossModel
from lab.sim.trace import Trace, TraceError
from models.bundle import Bundle
from models.evaluate import frames

STEADY = Trace("steady", (1.0,), (100.0,))
QUIET = LossModel(good_loss=0.0, bad_loss=0.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.of(Bundle.load("fashion-mnist"), 5.0, images=48)


@pytest.fixture(scope="module")
def cells(model):
    return run.compare(
        links.shipped(),
        model,
        Plan(1.0, 200),
        seeds=2,
        rates=(40.0,),
        deadlines=(0.3,),
        regimes=("steady", "square"),
    )


def outcomes_of(model, kbps=80.0, count=120, seed=3, **more):
    plan = Plan(1.0, count, **more)
    link = Link.of(links.shipped()[0], kbps, plan.seconds)
    return simulate(link, model, plan, queue.waits(plan.seconds + 60, seed), seed), plan


def test_a_link_has_the_mean_it_was_asked_for_and_keeps_the_logs_rhythm() -> None:
    link = Link.of(Trace("two", (2.0, 2.0), (50.0, 150.0)), 80.0, 40.0)
    np.testing.assert_allclose(link.kbps(np.array([1.0, 3.0, 5.0])), [40.0, 120.0, 40.0])


def test_rates_are_clamped_between_an_eighth_of_the_mean_and_what_802154_carries() -> None:
    link = Link.of(Trace("wild", (1.0, 1.0), (0.0, 1000.0)), 200.0, 10.0)
    np.testing.assert_allclose(link.kbps(np.array([0.5, 1.5])), [25.0, 250.0])


def test_a_regime_changes_in_mid_run() -> None:
    link = Link.of(STEADY, 40.0, 100.0, (1.0, 0.25))
    np.testing.assert_allclose(link.kbps(np.array([1.0, 49.0, 51.0, 99.0])), [40, 40, 10, 10])


@given(st.floats(0, 30), st.floats(1, 50_000))
def test_bits_take_as_long_as_the_rates_say(start: float, bits: float) -> None:
    link = Link.of(Trace("t", (1.0, 2.0), (30.0, 90.0)), 70.0, 30.0)
    end = link.after(np.array([start]), bits)
    carried = np.interp(end, link.times, link.bits) - np.interp(start, link.times, link.bits)
    assert carried[0] == pytest.approx(bits, rel=1e-6, abs=1e-3)


def test_fading_loses_what_the_model_says_and_everything_in_an_outage() -> None:
    model = LossModel()
    fading = Fading(model, np.random.default_rng(1), 20_000, outage=(100.0, 160.0))
    at = np.arange(200, 20_000, 0.05)
    assert fading.loss(at).mean() == pytest.approx(model.mean, abs=0.005)
    assert (fading.loss(np.array([100.0, 159.9])) == 1).all()


@given(st.integers(1, 900))
def test_frames_have_the_number_and_the_size_that_the_protocol_gives_them(coded: int) -> None:
    lengths = frame_lengths(coded)
    assert len(lengths) == frames(coded)
    assert max(lengths) <= 127


def test_on_a_clean_link_a_wider_message_is_never_sooner(model) -> None:
    outcomes, _ = outcomes_of(model, loss=QUIET)
    order = np.argsort(outcomes.coded, axis=1)
    assert (outcomes.sent == outcomes.frames).all()
    sorted_by_size = np.take_along_axis(outcomes.seconds, order, 1)
    assert (np.diff(np.where(np.isinf(sorted_by_size), 9.0, sorted_by_size), axis=1) >= -0.1).all()


def test_the_same_seed_gives_the_same_flips_and_another_one_others(model) -> None:
    first, again, other = (outcomes_of(model, seed=seed)[0].seconds for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_answer_takes_longer_than_the_custody_ack_and_needs_an_arrival(model) -> None:
    outcomes, _ = outcomes_of(model, kbps=20.0)
    answered = np.isfinite(outcomes.seconds)
    assert (outcomes.arrived | ~answered).all()
    took = (outcomes.seconds - model.head_seconds)[answered]
    assert (outcomes.reported[answered] <= took + 1e-9).all()


def test_the_servers_queue_comes_in_bursts_and_drains() -> None:
    waits = queue.waits(3000, 1)
    assert (waits >= 0).all()
    assert np.median(waits) < 0.02
    assert waits.max() > 0.1


def test_nobody_beats_the_clairvoyant_and_the_oracle_beats_most(cells) -> None:
    for cell in cells:
        best = cell.rows["clairvoyant"].utility
        assert all((row.utility <= best + 1e-9).all() for row in cell.rows.values())
        assert cell.gap > -0.005


def test_the_shipped_controller_pays_on_links_it_has_not_seen(cells) -> None:
    for cell in cells:
        assert cell.gain().mean >= -0.01  # 200 requests: the start weighs three times as much as in the lab
        assert cell.rows["slimwire"].switches.mean() < 0.1


def test_a_width_that_is_fixed_never_switches(cells) -> None:
    for row in cells[0].rows.values():
        if row.policy.startswith("fixed-"):
            assert not row.switches.any()


def test_after_an_outage_a_device_is_on_time_within_five_requests(model) -> None:
    for kbps in (40.0, 250.0):
        found = outage.measure(model, kbps, runs=2)
        assert 1 <= found.requests_until_on_time <= 5
        assert found.switches_per_request < 0.1
        assert found.acknowledged > 0
        assert found.acknowledged_lost == 0


def test_goodput_falls_where_a_link_is_slower(model) -> None:
    slow, fast = (
        goodput.measure([STEADY], model, ["fixed-1"], rates=[kbps], count=60)[0].requests_per_s
        for kbps in (30.0, 250.0)
    )
    assert slow < fast


@pytest.mark.parametrize("name", [name for name in policies.ADAPTIVE if name != "thompson"])
def test_every_policy_but_the_exploring_one_goes_wide_on_a_fast_link(model, name) -> None:
    plan = Plan(1.0, 150, loss=QUIET)
    link = Link.of(STEADY, 250.0, plan.seconds)
    outcomes = simulate(link, model, plan, np.zeros(100_000), 1)
    widths = device.run(outcomes, model.options(), policies.make(name, 1.0, 1), plan.period)
    assert widths[0] == 0
    assert widths[-50:].mean() > 0.5 * (len(model.widths) - 1)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="slimwire"):
        policies.make("psychic", 0.3)


def test_the_oracle_chooses_narrow_where_only_that_can_be_on_time(model) -> None:
    outcomes, plan = outcomes_of(model, kbps=20.0)
    chosen = bounds.oracle(outcomes, model, 0.3, plan.loss)
    slow = outcomes.kbps < np.quantile(outcomes.kbps, 0.3)
    assert chosen[slow].mean() < chosen[~slow].mean() + 1e-9


def test_intervals_shrink_with_runs_and_are_students() -> None:
    found = interval(np.array([1.0, 2.0, 3.0]))
    assert (found.mean, round(found.high - found.mean, 3)) == (2.0, 2.484)
    assert np.isnan(interval(np.array([1.0])).low)


def test_logs_come_from_json_of_many_from_one_and_from_csv(tmp_path) -> None:
    many = tmp_path / "many.json"
    many.write_text(json.dumps({"traces": {"b": [[1000, 5]], "a": [[500, 7], [500, 9]]}}))
    assert [(log.name, log.rates) for log in links.load(many)] == [("a", (7.0, 9.0)), ("b", (5.0,))]
    one = tmp_path / "mine.csv"
    one.write_text("duration_ms,kbps\n1000,30\n500,60\n".replace("duration_ms,kbps\n", ""))
    assert [(log.name, log.durations) for log in links.load(one)] == [("mine", (1.0, 0.5))]
    several = tmp_path / "several.csv"
    several.write_text("name,duration_ms,kbps\nx,1000,30\ny,500,60\nx,1000,40\n")
    assert [(log.name, log.rates) for log in links.load(several)] == [("x", (30.0, 40.0)), ("y", (60.0,))]


def test_a_directory_of_sabres_own_files_is_read_by_name(tmp_path) -> None:
    rows = [{"duration_ms": 1000, "bandwidth_kbps": 7, "latency_ms": 20}]
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "a.csv").write_text("500,9\n")
    (tmp_path / "notes.txt").write_text("no log")
    assert [(log.name, log.rates) for log in links.load(tmp_path)] == [("a", (9.0,)), ("b", (7.0,))]
    (tmp_path / "c.json").write_text('[{"duration_ms": 5}, 3]')
    with pytest.raises(TraceError, match="'c'"):
        links.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TraceError, match="no traces"):
        links.load(tmp_path / "empty")


def test_generated_links_come_of_their_seed_and_each_fades_in_its_own_way() -> None:
    made = generated.links(6, 9)
    assert [log.name.rpartition("-")[2] for log, _ in made] == [*generated.KINDS, *generated.KINDS]
    assert made == generated.links(6, 9)
    assert made != generated.links(6, 10)
    assert len({loss for _, loss in made}) == 6
    assert all(min(log.rates) > 0 and len(set(log.rates)) > 1 for log, _ in made)


def test_a_link_that_loses_more_does_worse(model) -> None:
    def utility(loss: LossModel) -> float:
        found = run.compare(
            [STEADY],
            model,
            Plan(1.0, 100),
            seeds=1,
            rates=(80.0,),
            deadlines=(0.3,),
            regimes=("steady",),
            which=["fixed-0.5"],
            losses=[loss],
        )
        return float(found[0].rows["fixed-0.5"].utility.mean())

    assert utility(QUIET) > utility(LossModel(good_loss=0.6, bad_loss=0.7)) + 0.1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", '{"traces": {"x": [[1]]}}'),
        ("a.csv", "x,1,2\n1,2\n"),
        ("a.csv", "x,y,z\nq,r,s\n"),
    ],
)
def test_a_file_that_is_no_log_is_refused(tmp_path, name, text) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TraceError):
        links.load(path)


def test_the_command_prints_the_rows_leaves_out_what_it_was_tuned_on_and_draws(tmp_path) -> None:
    traces = tmp_path / "logs.json"
    rows = [[1000, 100 + 90 * (i // 20 % 2)] for i in range(200)]
    traces.write_text(json.dumps({"traces": {"mine": rows, sorted(TUNED_ON)[0]: rows}}))
    picture = tmp_path / "width.png"
    result = CliRunner().invoke(
        app,
        [
            "width",
            "--traces",
            str(traces),
            "--quick",
            "--requests",
            "40",
            "--seeds",
            "2",
            "--json",
            "--plot",
            str(picture),
        ],
    )
    assert result.exit_code == 0, result.output
    out = json.loads(result.stdout)
    assert set(out["rows"][0]) == {
        "policy", "rate_kbps", "deadline_ms", "utility", "accuracy", "on_time", "frames", "energy_mj",
        "switches_per_request",
    }  # fmt: skip
    assert (out["traces"], out["tuned_on"]) == (["mine"], [sorted(TUNED_ON)[0]])
    assert {row["policy"] for row in out["rows"]} >= {
        "slimwire",
        "oracle",
        "clairvoyant",
        "thompson",
        "fixed-1",
    }
    assert {row["regime"] for row in out["regimes"]} == {"square"}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_demo_refuses_a_width_that_its_bundle_does_not_have() -> None:
    from lab.demo.run import Plan as Demo
    from lab.demo.run import run as demo
    from lab.demo.view import make
    from slimwire import output
    from slimwire.errors import SlimwireError

    with pytest.raises(SlimwireError, match=r"fixed-0\.3"):
        demo(Demo(policy="fixed-0.3"), make(output.stderr))


def test_the_cost_of_control_is_measured_per_answer_and_device() -> None:
    from edge_server.tails import options_of
    from lab.bench.control import measure

    found = measure(options_of(Bundle.load("fashion-mnist")), 500, 1)
    assert found["devices"] == 500
    assert found["us_per_answer"] > 0
    assert 0 < found["bytes_per_device"] <= 1024
