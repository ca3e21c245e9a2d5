"""A bundle's camera: a file, a draw from a data set, or generated pictures where that is not here."""

import dataclasses
import gzip
import hashlib
import json
import shutil
import struct

import numpy as np
import pytest

from models import camera, data_files, datasets
from models.bundle import SHIPPED, Bundle
from models.errors import BundleError, DataMissingError

DRAW = {"data": "fashion-mnist", "split": "test", "n": 12, "seed": 2026}
IMAGES = np.random.default_rng(3).integers(0, 256, (40, 28, 28), dtype=np.uint8)
LABELS = np.arange(40) % 10


@pytest.fixture
def copy(tmp_path):
    """Returns a function: the shipped bundle with another camera."""

    def make(**changes) -> Bundle:
        if not (tmp_path / "copy").exists():
            shutil.copytree(SHIPPED / "fashion-mnist", tmp_path / "copy")
            (tmp_path / "copy" / "camera.npz").unlink()
        path = tmp_path / "copy" / "bundle.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "camera": DRAW, **changes}))
        return Bundle.load(tmp_path / "copy")

    return make


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """Forty images as Fashion-MNIST's test split, in $SLIMWIRE_DATA and nowhere else."""
    contents = {
        "t10k-images-idx3-ubyte.gz": struct.pack(">4BIII", 0, 0, 8, 3, *IMAGES.shape) + IMAGES.tobytes(),
        "t10k-labels-idx1-ubyte.gz": struct.pack(">4BI", 0, 0, 8, 1, 40) + bytes(LABELS.tolist()),
    }
    (tmp_path / "data").mkdir()
    for name, content in contents.items():
        (tmp_path / "data" / name).write_bytes(gzip.compress(content))
    source = dataclasses.replace(
        datasets.SOURCES["fashion-mnist"],
        debian=None,
        url=(tmp_path / "never-asked").as_uri() + "/",
        files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    )
    monkeypatch.setitem(datasets.SOURCES, "fashion-mnist", source)
    monkeypatch.setattr(data_files, "BESIDE", tmp_path / "beside")
    monkeypatch.setenv("SLIMWIRE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_draw_is_the_same_every_time(copy, own_data):
    x, y = copy().camera()
    picked = np.random.default_rng(2026).choice(40, 12, replace=False)
    assert (x[..., 0] == IMAGES[picked]).all()
    assert y.tolist() == LABELS[picked].tolist()
    found = copy().pictures()
    assert (found.x == x).all()
    assert found.origin == "12 test images of Fashion-MNIST"


def test_where_the_data_set_is_not_here_pictures_are_generated_and_have_no_classes(
    copy, own_data, monkeypatch
):
    bundle = copy()
    monkeypatch.setenv("SLIMWIRE_DATA", str(own_data / "elsewhere"))
    with pytest.raises(DataMissingError, match=r"Fashion-MNIST was not found in .*elsewhere"):
        bundle.camera()
    found = bundle.pictures()
    assert (found.x.shape, found.x.dtype, found.y) == ((64, 28, 28, 1), np.uint8, None)
    assert found.origin == "64 generated pictures"
    assert (found.x == copy().pictures().x).all()


def test_a_damaged_data_set_is_an_error_and_not_replaced(copy, own_data):
    (own_data / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(BundleError, match="has SHA-256"):
        copy().pictures()


def test_a_draw_of_more_images_than_there_are_is_refused(copy, own_data):
    with pytest.raises(BundleError, match="has 40 images; expected at least the 41"):
        copy(camera={**DRAW, "n": 41}).pictures()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "cats"}, r"'data' is 'cats'; expected one of fashion-mnist, cifar10"),
        ({"data": ["cifar10"]}, "'data' is "),
        ({"split": "valid"}, "'split' is 'valid'; expected one of train, test"),
        ({"n": 0}, "'n' is 0; expected 1 to 65535"),
        ({"n": 65536}, "'n' is 65536"),
        ({"n": True}, "'n' is True"),
        ({"seed": -1}, "'seed' is -1"),
        ({"seed": None}, "'seed' is None"),
    ],
)
def test_a_draw_that_cannot_be_made_is_refused_when_the_bundle_loads(copy, change, message):
    with pytest.raises(BundleError, match=message):
        copy(camera={**DRAW, **change})


@pytest.mark.parametrize("heap", ["64k", 15, 1 << 17, True, None, 64.0])
def test_a_heap_that_no_device_has_is_refused(copy, heap):
    with pytest.raises(BundleError, match=r"'heap_kib' is .*; expected 16 to 65536"):
        copy(heap_kib=heap)


def test_the_heap_is_64_kib_unless_the_bundle_says_more(copy):
    assert copy().heap_kib == 64
    assert copy(heap_kib=128).heap_kib == 128


def test_generated_pictures_differ_and_fall_off_as_natural_ones_do():
    x = camera.generated((32, 32, 3), count=40).x.astype(float).mean(3)
    assert len({picture.tobytes() for picture in x}) == 40
    power = (np.abs(np.fft.fft2(x - x.mean((1, 2), keepdims=True))) ** 2).mean(0)
    # amplitude 1/f: four times the frequency, a sixteenth of the power
    ratio = power[2, 0] / power[8, 0]
    assert 8 < ratio < 32
