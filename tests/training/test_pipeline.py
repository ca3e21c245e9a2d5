"""`slimwire train` from image files to a bundle that loads and measures what its card says."""

import dataclasses
import gzip
import hashlib
import struct

import pytest

pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")
pytest.importorskip("litert_torch", reason="needs litert-torch (pip install 'slimwire[train]')")

from typer import Typer
from typer.testing import CliRunner

from models import datasets
from models.bundle import Bundle
from models.evaluate import evaluate
from slimwire.errors import SlimwireError
from training import cli
from training.pipeline import Job, run_job


def idx(array):
    """The IDX format: uint8, sizes big endian."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def job(tiny, tmp_path, monkeypatch):
    """A job on the tiny data, written out as a data set of its own under SLIMWIRE_DATA."""
    recipe, split = tiny
    files = {
        "train-images-idx3-ubyte.gz": idx(split.train_x[..., 0]),
        "train-labels-idx1-ubyte.gz": idx(split.train_y.astype("u1")),
        "t10k-images-idx3-ubyte.gz": idx(split.valid_x[..., 0]),
        "t10k-labels-idx1-ubyte.gz": idx(split.valid_y.astype("u1")),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(gzip.compress(content))
    source = dataclasses.replace(
        datasets.SOURCES["fashion-mnist"],
        title="Tiny",
        classes=("a", "b", "c", "d"),
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )
    monkeypatch.setitem(datasets.SOURCES, "tiny", source)
    monkeypatch.setenv("SLIMWIRE_DATA", str(tmp_path))
    recipe = dataclasses.replace(recipe, teacher_epochs=1, validation=128, camera_images=20)
    return Job(recipe, seed=3, work=tmp_path / "work", out=tmp_path / "out")


def test_a_job_ends_in_a_bundle_whose_figures_can_be_measured_again(job):
    info = run_job(job)
    bundle = Bundle.load(job.out)
    assert bundle.info == info
    assert info["training"]["command"] == "slimwire train --recipe tiny --seed 3"
    x, y = datasets.load_named("tiny", "test")
    assert evaluate(bundle, x, y)["widths"] == bundle.widths
    card = (job.out / "README.md").read_text()
    for row in bundle.widths:
        assert f"{100 * row['top1']:.2f} (" in card
    images, labels = bundle.camera()
    assert (len(images), len(labels)) == (20, 20)

    again = run_job(dataclasses.replace(job, export_only=True, out=job.out.parent / "again"))
    assert again["head"] == info["head"], "the same checkpoint gives the same head"


def test_a_directory_of_other_files_is_not_written_into(job):
    job.out.mkdir()
    (job.out / "thesis.txt").write_text("mine")
    run = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, epochs=1))
    with pytest.raises(SlimwireError, match="is not empty and holds no bundle"):
        run_job(run)
    assert [path.name for path in job.out.iterdir()] == ["thesis.txt"]
    assert not job.work.exists(), "refused before the training, not after it"


def test_too_little_data_is_refused(job):
    run = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, validation=512))
    with pytest.raises(SlimwireError, match=r"tiny has 512 training images"):
        run_job(run)


def test_export_needs_a_checkpoint(job):
    with pytest.raises(SlimwireError, match=r"there is no checkpoint .*model\.pt"):
        run_job(dataclasses.replace(job, export_only=True))


def test_the_command_refuses_unknown_recipes():
    app = Typer()
    app.command()(cli.train)
    result = CliRunner().invoke(app, ["--recipe", "cats"])
    assert isinstance(result.exception, SlimwireError)
    assert "one of fashion-mnist" in str(result.exception)
