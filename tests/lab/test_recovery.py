"""`slimwire lab recovery`: what the links lose, what the transports do about it, and that a seed says all."""

import json
import random

import pytest
from typer.testing import CliRunner

from lab.cli import app
from lab.experiments.recovery.links import Direction, Loss
from lab.experiments.recovery.report import plans, verdicts
from lab.experiments.recovery.run import Plan, run

INDEPENDENT, BURSTS = Loss(0.2, None), Loss(0.2, 5.0)


@pytest.mark.parametrize(("loss", "length"), [(INDEPENDENT, 1.25), (BURSTS, 5.0), (Loss(0.4, 2.0), 2.0)])
def test_a_link_loses_what_it_says(loss: Loss, length: float) -> None:
    link = Direction(loss, random.Random(1))
    lost = [link.lost() for _ in range(50_000)]
    assert sum(lost) / len(lost) == pytest.approx(loss.mean, abs=0.02)
    bursts = "".join("x" if one else " " for one in lost).split()
    assert sum(map(len, bursts)) / len(bursts) == pytest.approx(length, rel=0.07)


def test_selective_recovery_delivers_more_for_less_airtime() -> None:
    """The figures of issue 5, with fewer datagrams: the command's default has 2,000."""
    own = run(Plan("rfc8931", INDEPENDENT, None, datagrams=200))
    again = run(Plan("rfc4944", INDEPENDENT, None, datagrams=200))
    anew = run(Plan("rfc4944-anew", INDEPENDENT, None, datagrams=200))
    assert own["datagrams"] == again["datagrams"] == anew["datagrams"] == 200
    assert own["delivery"] >= 0.99
    assert anew["delivery"] < again["delivery"] < 1.0
    assert own["airtime_ms_per_delivered"] < 0.7 * again["airtime_ms_per_delivered"]
    assert 15 < own["data_frames_per_datagram"] < 20
    assert 2 < own["rfrag_acks_per_datagram"] < 5
    # Whatever is refused is a copy: nothing genuine is lost to a check.
    assert set(own["rejected"]) <= {"duplicate", "already-complete", "replayed", "early-refused"}


def test_bursts_are_outlasted() -> None:
    assert run(Plan("rfc8931", BURSTS, None, datagrams=300))["delivery"] >= 0.95


@pytest.mark.parametrize("transport", ["rfc8931", "rfc4944"])
def test_a_link_without_loss_costs_thirteen_frames_and_one_acknowledgement(transport: str) -> None:
    row = run(Plan(transport, Loss(0.0, None), None, datagrams=20))
    assert (row["delivery"], row["data_frames_per_datagram"], row["fallbacks"]) == (1.0, 13.0, 0)
    assert row["rfrag_acks_per_datagram"] == (1.0 if transport == "rfc8931" else 0.0)
    assert row["rejected"] == {}


def test_devices_share_the_channel_and_a_small_window_works() -> None:
    row = run(Plan("rfc8931", INDEPENDENT, 3, datagrams=60, devices=5, window=4))
    assert row["delivery"] >= 0.95
    assert row["buffer_peak_bytes"] > 1280


def test_the_command_prints_all_rows_and_the_same_ones_again() -> None:
    arguments = ["recovery", "--datagrams", "20", "--jobs", "1", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.output)
    assert len(printed["rows"]) == 12
    assert len(printed["comparisons"]) == 4
    first = plans(0.2, 5.0, 20, 1, 1, 32)[0]
    assert printed["rows"][0] == json.loads(json.dumps(run(first)))
    assert verdicts(printed["rows"]) == printed["comparisons"]


def test_the_command_prints_a_table() -> None:
    result = CliRunner().invoke(app, ["recovery", "--datagrams", "10", "--jobs", "1"], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    assert "RFC 4944, new tags" in result.output
