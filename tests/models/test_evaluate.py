"""The evaluation counts what it says, and `slimwire eval` prints it."""

import json
import re
import shutil

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from models.bundle import SHIPPED, Bundle
from models.cli import data_for
from models.cli import evaluate as command
from models.errors import BundleError
from models.evaluate import evaluate, frames, mean_interval, outcomes, wilson

app = Typer()
app.command()(command)


@pytest.mark.parametrize(
    ("coded", "count"),
    [
        (1, 1),
        (71, 1),
        (72, 2),
        (151, 2),
        (152, 3),
        (243, 3),
        (244, 4),
        (335, 4),
        (336, 5),
        (427, 5),
        (428, 6),
    ],
)
def test_frames_of_a_message(coded, count):
    assert frames(coded) == count


def test_wilson_interval():
    # Agresti & Coull 1998: 0 of 10 gives an upper bound of 0.2775
    assert wilson(0, 10) == (pytest.approx(0.0, abs=1e-9), pytest.approx(0.2775, abs=1e-4))
    low, high = wilson(8800, 10000)
    assert (low, high) == (pytest.approx(0.8735, abs=1e-4), pytest.approx(0.8862, abs=1e-4))


def test_interval_of_a_mean():
    # standard error 1/sqrt(2) of two values that differ by sqrt(2)
    low, high = mean_interval(np.array([0.0, 2**0.5]))
    assert (low, high) == (pytest.approx(2**-0.5 - 1.959964 * 2**-0.5), pytest.approx(2**-0.5 * 2.959964))
    assert mean_interval(np.array([3.0])) is None


def test_coded_bytes_are_near_the_information_of_the_symbols():
    bundle = Bundle.load("fashion-mnist")
    x, y = bundle.camera()
    for outcome in outcomes(bundle, x[:100], y[:100]):
        information = outcome.entropy_bits / 8
        assert (outcome.coded > information - 1).all()  # a message's length says something as well
        assert outcome.coded.mean() <= 1.02 * information.mean() + 2


def test_camera_figures_agree_with_the_bundle_s_own():
    bundle = Bundle.load("fashion-mnist")
    x, y = bundle.camera()
    result = evaluate(bundle, x, y)
    assert result["n"] == 512
    assert result["model_tag"] == bundle.headfile.model_tag
    assert result["head"]["flash_bytes"] == len(bundle.head_bytes)
    assert result["head"]["ram_bytes_streamed"] < result["head"]["ram_bytes"]
    for row, shipped in zip(result["widths"], bundle.widths, strict=True):
        # the 512 images are part of the 10,000: four standard errors
        assert row["top1"] == pytest.approx(shipped["top1"], abs=4 * (0.25 / 512) ** 0.5)
        assert row["top1_ci95"][0] < row["top1"] < row["top1_ci95"][1]
        assert row["bytes"]["mean"] <= row["bytes"]["p99"] <= row["bytes"]["max"]
        assert row["bytes"]["mean_ci95"][0] < row["bytes"]["mean"] < row["bytes"]["mean_ci95"][1]
        assert row["macs"] == shipped["macs"]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 32, 32, 3), np.uint8), np.zeros(3, int), r"expected uint8 \(N, 28, 28, 1\)"),
        (np.zeros((3, 28, 28, 1), np.uint8), np.zeros(2, int), "expected as many labels"),
        (np.zeros((0, 28, 28, 1), np.uint8), np.zeros(0, int), "at least one"),
        (np.zeros((3, 28, 28, 1), np.uint8), np.array([0, 10, 1]), "labels go from 0 to 10; expected 0 to 9"),
    ],
)
def test_images_that_do_not_fit_are_refused(x, y, message):
    with pytest.raises(BundleError, match=message):
        evaluate(Bundle.load("fashion-mnist"), x, y)


def test_command_on_a_npz(tmp_path):
    x, y = Bundle.load("fashion-mnist").camera()
    np.savez(tmp_path / "own.npz", x=x[:60, :, :, 0], y=y[:60])
    result = CliRunner().invoke(app, ["fashion-mnist", "--data", str(tmp_path / "own.npz"), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [row["n"] for row in found["widths"]] == [60] * 4
    assert found["data"] == {"name": "own.npz", "source": "npz", "n": 60}
    table = CliRunner().invoke(app, ["fashion-mnist", "--data", str(tmp_path / "own.npz")])
    assert "60 images" in table.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing is no bundle"),
        (["fashion-mnist", "--data", "cats"], "'cats' is no data set; expected one of fashion-mnist"),
        (["fashion-mnist", "--data", "missing.npz"], "missing.npz can't be read"),
        (
            ["fashion-mnist", "--data", "cifar10"],
            "cifar10 has the classes airplane, .*; expected the bundle's T-shirt",
        ),
    ],
)
def test_command_refuses_in_one_line(arguments, message):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert re.search(message, result.stderr)
    assert "Traceback" not in result.output


@pytest.fixture
def edited(tmp_path):
    """Returns a function: the directory of the shipped bundle with a changed bundle.json."""

    def make(change):
        shutil.copytree(SHIPPED / "fashion-mnist", tmp_path / "edited")
        path = tmp_path / "edited" / "bundle.json"
        info = json.loads(path.read_text())
        change(info)
        path.write_text(json.dumps(info))
        return tmp_path / "edited"

    return make


def test_the_full_model_is_what_training_recorded(edited, tmp_path):
    x, y = Bundle.load("fashion-mnist").camera()
    np.savez(tmp_path / "own.npz", x=x[:8], y=y[:8])
    recorded = {"top1": 0.931, "macs": 12_000_000, "teacher_top1": 0.945}
    directory = edited(lambda info: info["training"].update(full_model=recorded))
    arguments = [str(directory), "--data", str(tmp_path / "own.npz")]
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["full_model"] == recorded
    assert "as training recorded it: 93.10 %, 12.00 MMAC" in CliRunner().invoke(app, arguments).stdout


@pytest.mark.parametrize(
    "recorded", [{"top1": 93.1, "macs": 1e6}, {"top1": 0.9}, [0.9, 1e6], {"top1": "0.9", "macs": 9}]
)
def test_a_full_model_without_its_figures_is_refused(edited, recorded):
    directory = edited(lambda info: info["training"].update(full_model=recorded))
    with pytest.raises(BundleError, match=r"of 'full_model' is .*; expected a number"):
        Bundle.load(directory)


def test_without_data_named_the_bundle_s_own_is_taken(edited, monkeypatch):
    monkeypatch.setattr("models.cli.load", lambda name, split: (name, split))
    assert data_for(Bundle.load("fashion-mnist"), None) == ("fashion-mnist", "test")
    own = Bundle.load(edited(lambda info: info["data"].update(name="wine labels")))
    with pytest.raises(BundleError, match="trained on 'wine labels'; say what to measure it on"):
        data_for(own, None)


def test_without_micropython_the_heap_is_not_known(monkeypatch, tmp_path):
    monkeypatch.setattr("models.heap.find_micropython", lambda: None)
    x, y = Bundle.load("fashion-mnist").camera()
    np.savez(tmp_path / "own.npz", x=x[:8], y=y[:8])
    result = CliRunner().invoke(app, ["fashion-mnist", "--data", str(tmp_path / "own.npz"), "--json"])
    assert json.loads(result.stdout)["head"]["ram_bytes"] is None
    assert "no `micropython` here" in result.stderr
