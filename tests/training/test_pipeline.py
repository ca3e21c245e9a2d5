"""`slimwire train` from image files to a bundle that loads and measures what its card says."""

import dataclasses
import gzip
import hashlib
import json
import struct

import pytest

pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")
pytest.importorskip("litert_torch", reason="needs litert-torch (pip install 'slimwire[train]')")

import torch
from typer import Typer
from typer.testing import CliRunner

from models import datasets, records
from models.bundle import Bundle
from models.evaluate import evaluate
from slimwire.errors import SlimwireError
from training import cli
from training.data import load_data
from training.pipeline import Job, run_job
from training.recipe import Target


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
    recipe = dataclasses.replace(recipe, teacher_epochs=2, epochs=6, validation=128, camera_images=20)
    return Job(recipe, seed=3, work=tmp_path / "work", out=tmp_path / "out", command="slimwire train")


def test_a_job_ends_in_a_bundle_whose_figures_can_be_measured_again(job):
    data = load_data(job.recipe)
    info = run_job(job, data)
    bundle = Bundle.load(job.out)
    assert bundle.info == info
    assert info["training"]["command"] == "slimwire train"
    assert evaluate(bundle, data.test_x, data.test_y)["widths"] == bundle.widths
    images, labels = bundle.camera()
    assert (len(images), len(labels)) == (20, 20)

    stages = info["training"]["stages"]
    assert [(stage["stage"], stage["epochs"]) for stage in stages] == [("teacher", 2), ("staged", 6)]
    card = (job.out / "README.md").read_text()
    for row in bundle.widths:
        assert f"{100 * row['top1']:.2f} (" in card
    assert f"{100 * stages[0]['validation']:.2f} |" in card
    assert "slimwire eval tiny --data tiny --json" in card
    assert "| teacher, from labels, with random rectangles missing | 2 |" in card

    # What is done isn't done again; a recipe whose images may not be passed on names a draw.
    (job.work / "full.json").write_text(
        json.dumps({"top1": 0.97, "macs": 5000, "teacher_top1": 0.99, "epochs": 6})
    )
    before = (job.work / "staged.pt").read_bytes()
    draws = dataclasses.replace(job.recipe, camera_draws=True)
    again = run_job(dataclasses.replace(job, recipe=draws, out=job.out.parent / "again"), data)
    assert (job.work / "staged.pt").read_bytes() == before
    assert again["head"] == info["head"], "the same checkpoint gives the same head"
    assert again["camera"] == {"data": "tiny", "split": "test", "n": 20, "seed": job.recipe.camera_seed}
    loaded = Bundle.load(job.out.parent / "again")
    assert not (loaded.path / "camera.npz").exists()
    assert (loaded.camera()[0] == images).all(), "the draw is the one that the file would hold"
    assert loaded.full_model["top1"] == 0.97
    assert "reaches 97.00 %, the teacher 99.00 %." in (loaded.path / "README.md").read_text()


def test_a_recipe_can_be_refined_and_trimmed_after_its_stages(job):
    recipe = dataclasses.replace(
        job.recipe, epochs=2, refine_epochs=1, teacher_epochs=1, trim=Target(3.0, 5.0), trim_epochs=1
    )
    info = run_job(dataclasses.replace(job, recipe=recipe, tax=1), load_data(recipe))
    stages = [stage["stage"] for stage in info["training"]["stages"]]
    assert stages == ["teacher", "staged", "refined", "trimmed"]
    trimmed = torch.load(job.work / "trimmed.pt", weights_only=True)["models"]["slimmable"]
    refined = torch.load(job.work / "refined.pt", weights_only=True)["models"]["slimmable"]
    staged = torch.load(job.work / "staged.pt", weights_only=True)["models"]["slimmable"]
    assert not torch.equal(refined["head.layers.0.weight"], staged["head.layers.0.weight"])
    assert not torch.equal(trimmed["head.layers.0.weight"], refined["head.layers.0.weight"])
    assert torch.equal(trimmed["head.layers.0.weight"][:4], refined["head.layers.0.weight"][:4])
    about, rows = records.read(job.work / "tax.npz")
    assert (about["name"], about["n"]) == ("tiny", len(rows[0].right))
    assert [row.kind for row in rows] == ["slimmable", "slimmable", "independent", "independent"]
    # 384 images in batches of 32: staged twice, refined once, trimmed once, then learning on once.
    assert {row.images_seen for row in rows} == {5 * 384}
    assert "| the widest width alone, to fewer bytes | 1 |" in (job.out / "README.md").read_text()


def test_a_directory_of_other_files_is_not_written_into(job):
    job.out.mkdir()
    (job.out / "thesis.txt").write_text("mine")
    with pytest.raises(SlimwireError, match="is not empty and holds no bundle"):
        run_job(job, load_data(job.recipe))
    assert [path.name for path in job.out.iterdir()] == ["thesis.txt"]
    assert not job.work.exists(), "refused before the training, not after it"


def test_too_little_data_is_refused(job):
    with pytest.raises(SlimwireError, match=r"tiny has 512 training images"):
        load_data(dataclasses.replace(job.recipe, validation=512))


def test_export_needs_a_finished_model(job):
    with pytest.raises(SlimwireError, match=r"there is no finished model in .*work"):
        run_job(dataclasses.replace(job, export_only=True), load_data(job.recipe))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--recipe cats", "one of fashion-mnist"),
        ("", "nothing says what to train"),
        ("--recipe cifar10 --data here", "both --recipe and --data are given"),
        ("--recipe cifar10 --frames 1,2 --mirror", "--frames, --mirror can't be given with --recipe"),
        ("--data here --rivals", "--rivals can't be given with --data"),
        ("--recipe wrist-imu --rivals", "the recipe wrist-imu is compared with nothing"),
        ("--data here --frames 2,1", "rising numbers from 1 to 6"),
        ("--data nowhere", "there is no folder and no .npz file nowhere"),
        ("--data broken.npz", "broken.npz can't be read as .npz"),
    ],
)
def test_the_command_refuses(options, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    app = Typer()
    app.command()(cli.train)
    result = CliRunner().invoke(app, options.split())
    assert isinstance(result.exception, SlimwireError)
    assert text in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.npz"], "refused before anything is made"
