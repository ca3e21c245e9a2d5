"""The wrist IMU recipe: from windows of readings to a bundle, the head one that devices run."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")
pytest.importorskip("litert_torch", reason="needs litert-torch (pip install 'slimwire[train]')")

from models.bundle import Bundle
from models.datasets import SOURCES
from training.data import Data, Split
from training.pipeline import Job, run_job
from training.recipes import RECIPES


def test_an_epoch_of_windows_ends_in_a_bundle_of_four_widths(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 7, 192)
    phase = np.arange(100)[None, :, None, None] * (1 + y[:, None, None, None]) / 16
    waves = 128 + 60 * np.sin(phase + rng.uniform(0, 6, (192, 1, 1, 6)))
    x = np.rint(waves).astype(np.uint8)
    source = SOURCES["wrist-imu"]
    about = {"name": source.title, "licence": source.licence, "source": "drawn"}
    data = Data(Split(x[:128], y[:128], x[128:160], y[128:160]), x[160:], y[160:], source.classes, about)
    recipe = dataclasses.replace(RECIPES["wrist-imu"], epochs=1, teacher_epochs=1)
    info = run_job(Job(recipe, 1, tmp_path / "work", tmp_path / "out", "slimwire train"), data)
    bundle = Bundle.load(tmp_path / "out")
    assert bundle.info == info
    assert info["input"] == {"height": 100, "width": 1, "channels": 6}
    assert info["latent"]["height"] == 25
    assert [row["width"] for row in bundle.widths] == [0.25, 0.5, 0.75, 1.0]
    assert bundle.widths[-1]["macs"] < 1_250_000
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| teacher, from labels | 1 |" in card, "nothing is erased from windows of readings"
