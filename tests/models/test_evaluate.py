"""The evaluation counts what it says, and `slimwire eval` prints it."""

import json

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from models.bundle import Bundle
from models.cli import evaluate as command
from models.errors import BundleError
from models.evaluate import evaluate, frames, wilson

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


def test_camera_figures_agree_with_the_bundle_s_own():
    bundle = Bundle.load("fashion-mnist")
    x, y = bundle.camera()
    result = evaluate(bundle, x, y)
    assert result["n"] == 512
    assert result["model_tag"] == bundle.headfile.model_tag
    assert result["head"]["flash_bytes"] == len(bundle.head_bytes)
    for row, shipped in zip(result["widths"], bundle.widths, strict=True):
        # the 512 images are part of the 10,000: four standard errors
        assert row["top1"] == pytest.approx(shipped["top1"], abs=4 * (0.25 / 512) ** 0.5)
        assert row["top1_ci95"][0] < row["top1"] < row["top1_ci95"][1]
        assert row["bytes"]["mean"] <= row["bytes"]["p99"] <= row["bytes"]["max"]
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
    table = CliRunner().invoke(app, ["fashion-mnist", "--data", str(tmp_path / "own.npz")])
    assert "60 images" in table.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing is no bundle"),
        (["fashion-mnist", "--data", "cats"], "'cats' is no data set; expected one of fashion-mnist"),
        (["fashion-mnist", "--data", "missing.npz"], "missing.npz can't be read"),
    ],
)
def test_command_refuses_in_one_line(arguments, message):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
