"""`slimwire train --data` on a folder of a person's images: a bundle that learned and runs in the demo."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")
pytest.importorskip("litert_torch", reason="needs litert-torch (pip install 'slimwire[train]')")

from PIL import Image

from models.bundle import Bundle


def draw(folder, size):
    """3 classes of 60 noisy pictures: a disc, a square or a cross somewhere, in some colour."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    for name in ("disc", "square", "cross"):
        (folder / name).mkdir(parents=True)
        for number in range(60):
            center, r = rng.integers(size // 3, size - size // 3, 2), rng.integers(size // 6, size // 4)
            dy, dx = abs(rows - center[0]), abs(columns - center[1])
            shape = {
                "disc": dy**2 + dx**2 < r * r,
                "square": (dy < r) & (dx < r),
                "cross": ((dy < 0.3 * r) & (dx < 1.2 * r)) | ((dx < 0.3 * r) & (dy < 1.2 * r)),
            }[name]
            pixels = rng.integers(0, 60, (size, size, 3)) + shape[..., None] * rng.integers(80, 190, 3)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


def slimwire(directory, *options):
    done = subprocess.run(
        [sys.executable, "-m", "slimwire", *options],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where `slimwire train` has made bundle/ of shapes/, with everything as it is by default."""
    directory = tmp_path_factory.mktemp("own")
    draw(directory / "shapes", 40)
    slimwire(directory, "train", "--data", "shapes", "--frames", "1,2,4", "--out", "bundle")
    return directory


@pytest.mark.soak
def test_three_classes_of_sixty_images_are_learned_at_every_width(directory):
    bundle = Bundle.load(directory / "bundle")
    assert bundle.classes == ["cross", "disc", "square"]
    assert len(bundle.widths) == 3
    for row in bundle.widths:
        assert row["top1_ci95"][0] > 1 / 3, "clearly above chance"
    sizes = [row["bytes"]["mean"] for row in bundle.widths]
    assert sizes == sorted(sizes)
    assert bundle.widths[0]["frames"]["mean"] < 1.2
    assert (directory / "bundle" / "accuracy.png").exists() == ("plot" in bundle.info)
    card = (directory / "bundle" / "README.md").read_text()
    assert "slimwire train --data shapes --frames 1,2,4 --seed 1" in card
    assert "Of each class, 70 % are for training, 15 % for choosing and 15 % for the test" in card


@pytest.mark.soak
def test_its_bundle_runs_in_the_demo(directory):
    pytest.importorskip("cryptography")
    said = slimwire(
        directory, "demo", "--bundle", "bundle", "--seconds", "5", "--devices", "1", "--wifi", "0", "--json"
    )
    found = json.loads(said)
    assert found["answers"] > 0
    assert found["bundle"].startswith("shapes ")
