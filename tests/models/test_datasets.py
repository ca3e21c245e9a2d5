"""Data sets are found where the user says, verified, and refused when damaged."""

import dataclasses
import gzip
import hashlib
import io
import struct
import zipfile

import numpy as np
import pytest

from models import datasets
from models.datasets import SOURCES, load_named, load_npz
from models.errors import BundleError


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Three 2×2 images under SLIMWIRE_DATA with pinned digests; no Debian package, no network."""
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    contents = {
        "t10k-images-idx3-ubyte.gz": struct.pack(">4BIII", 0, 0, 8, 3, 3, 2, 2) + images.tobytes(),
        "t10k-labels-idx1-ubyte.gz": struct.pack(">4BI", 0, 0, 8, 1, 3) + bytes([2, 0, 1]),
    }
    folder = tmp_path / "data" / "small"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(gzip.compress(content))
    source = dataclasses.replace(
        SOURCES["fashion-mnist"],
        debian=tmp_path / "absent",
        url=(tmp_path / "nowhere").as_uri() + "/",
        files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    )
    monkeypatch.setitem(datasets.SOURCES, "small", source)
    monkeypatch.setenv("SLIMWIRE_DATA", str(tmp_path / "data"))
    return folder


def test_images_come_from_the_users_folder(small):
    x, y = load_named("small", "test")
    assert (x.shape, x.dtype) == ((3, 2, 2, 1), np.uint8)
    assert x[1, 1, 0, 0] == 6
    assert y.tolist() == [2, 0, 1]


def test_damage_is_noticed(small):
    path = small / "t10k-labels-idx1-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-1] + b"\x09"))
    with pytest.raises(BundleError, match=r"has SHA-256 .*; expected"):
        load_named("small", "test")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BundleError, match="not a complete gzip file"):
        load_named("small", "test")


def test_an_absent_data_set_names_the_remedies(small):
    (small / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(BundleError, match=r"was not found in .*dataset-small or set SLIMWIRE_DATA"):
        load_named("small", "test")


def test_a_download_is_verified_and_kept(small, tmp_path):
    """A file URL stands in for the official source; what arrives is checked and kept for the next time."""
    name = "t10k-labels-idx1-ubyte.gz"
    (tmp_path / "nowhere").mkdir()
    (small / name).rename(tmp_path / "nowhere" / name)
    assert load_named("small", "test")[1].tolist() == [2, 0, 1]
    assert (small / name).is_file()


def test_unknown_names_are_refused():
    with pytest.raises(BundleError, match="known: fashion-mnist"):
        load_named("cats", "test")
    with pytest.raises(BundleError, match="expected train or test"):
        load_named("fashion-mnist", "valid")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 4, 4), np.uint8)}, "lacks the array 'y'"),
        ({"x": np.zeros((2, 4, 4), np.float32), "y": np.zeros(2, int)}, "x is float32 .*expected uint8"),
        ({"x": np.zeros((2, 4), np.uint8), "y": np.zeros(2, int)}, "expected uint8"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": np.zeros(3, int)}, "expected 2 integers"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": np.zeros(2)}, "expected 2 integers"),
        ({"x": np.zeros((0, 4, 4), np.uint8), "y": np.zeros(0, int)}, "holds no image"),
        ({"x": np.array([{}, {}], object), "y": np.zeros(2, int)}, "can't be read"),
    ],
)
def test_a_npz_of_the_wrong_shape_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(BundleError, match=message):
        load_npz(tmp_path / "own.npz")


def archive(**members):
    """A .npz whose members are these bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for name, content in members.items():
            out.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def deflated_and_damaged():
    """A compressed archive with a block of an unknown type in it."""
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros((2, 4, 4), np.uint8), y=np.zeros(2, int))
    content = bytearray(file.getvalue())
    content[30 + int.from_bytes(content[26:28], "little") + int.from_bytes(content[28:30], "little")] |= 6
    return bytes(content)


HUGE = npy(np.zeros((3, 28, 28), np.uint8)).replace(b"(3, 28, 28), }      ", b"(999999,9999,28), } ")
UNCLOSED = npy(np.zeros(2, np.uint8)).replace(b"(2,), }", b"((((((", 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"no archive at all",
        npy(np.zeros((3, 4, 4), np.uint8)),
        archive(x=b"hello", y=b"\x93NUMPY"),
        archive(x=HUGE, y=HUGE),
        archive(x=UNCLOSED, y=UNCLOSED),
        deflated_and_damaged(),
    ],
    ids=["empty", "zip", "npy", "text", "one-array", "no-arrays", "huge", "unclosed", "deflate"],
)
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(BundleError, match=r"own\.npz can't be read as \.npz"):
        load_npz(tmp_path / "own.npz")
