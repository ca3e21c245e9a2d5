"""The wrist IMU data set: whole people apart, fixed scaling, and a pickle that can ask for nothing."""

import dataclasses
import hashlib
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from models import data_files, datasets, wrist_imu
from models.datasets import load
from models.errors import BundleError, DataMissingError


def recordings(**changes):
    """Two recordings of each of ten people, in the form of watch_dataset.npy: 260 samples make 4 windows."""
    numbers = np.arange(20)
    return {
        "X": [np.full((260, 6), person, np.float64) for person in numbers // 2 + 1],
        "y": numbers % 7,
        "subject": numbers // 2 + 1,
        "X_labels": ["ax", "ay", "az", "wx", "wy", "wz"],
        **changes,
    }


def npy(content) -> bytes:
    """As numpy 1 wrote it, the names of whose modules the reader knows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    body = pickle.dumps(np.array(content, object), protocol=2)
    return file.getvalue() + body.replace(b"cnumpy._core.", b"cnumpy.core.")


def wheel(member: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return packed.getvalue()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Returns a function that puts a file where it is looked for, and pins the digest of its recordings."""
    monkeypatch.setenv("SLIMWIRE_DATA", str(tmp_path))
    monkeypatch.setattr(data_files, "BESIDE", tmp_path / "beside")

    def put(name: str, content: bytes, held: bytes | None = None) -> None:
        (tmp_path / name).write_bytes(content)
        digest = hashlib.sha256(content if held is None else held).hexdigest()
        source = dataclasses.replace(datasets.SOURCES["wrist-imu"], files={wrist_imu.RECORDINGS: digest})
        monkeypatch.setitem(datasets.SOURCES, "wrist-imu", source)

    return put


@pytest.mark.parametrize("packed", [True, False])
def test_people_are_in_one_split_each_and_the_last_of_training_is_person_8(place, packed):
    content = npy(recordings())
    if packed:
        place(wrist_imu.WHEEL, wheel("seglearn/data/watch_dataset.npy", content), content)
    else:
        place(wrist_imu.RECORDINGS, content)
    train, test = load("wrist-imu", "train"), load("wrist-imu", "test")
    assert (train.x.shape, train.x.dtype) == ((64, 100, 1, 6), np.uint8)
    assert (test.x.shape, test.y.dtype) == ((16, 100, 1, 6), np.int64)
    turns = [(int(x) - 128) // 16 for x in np.concatenate([train.x, test.x])[:, 0, 0, 5]]
    people = [person for person in range(1, 8) for _ in range(8)]
    assert turns == people + 24 * [7], "a turn of 8 and more is clipped"
    assert train.y[:12].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert test.y[::4].tolist() == [16 % 7, 17 % 7, 18 % 7, 19 % 7]


def test_windows_overlap_by_half(place):
    readings = np.zeros((150, 6))
    readings[:, 0] = np.arange(150) / 40 - 2
    place(wrist_imu.RECORDINGS, npy(recordings(X=[readings], y=np.array([3]), subject=np.array([9]))))
    found = load("wrist-imu", "test")
    assert found.x[:, :, 0, 0].tolist() == [list(range(48, 148)), list(range(98, 198))]
    assert found.x[:, :, 0, 1:].min() == found.x[:, :, 0, 1:].max() == 128
    assert load("wrist-imu", "train").x.shape == (0, 100, 1, 6)


def test_readings_beyond_the_scale_are_clipped():
    readings = np.array([[-9.0, 9.0, 0.012, -9.0, 9.0, 0.04]])
    assert wrist_imu.scale(readings).tolist() == [[0, 255, 128, 0, 255, 129]]


class Asks:
    """Unpickling this calls the function it was made with."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, eval, np.load, getattr])
def test_a_pickle_that_asks_for_more_is_refused_even_if_its_digest_is_right(place, tmp_path, function):
    argument = str(tmp_path / "made") if function is os.mkdir else "1"
    place(wrist_imu.RECORDINGS, npy(recordings(more=Asks(function, argument))))
    with pytest.raises(
        BundleError, match=rf"watch_dataset.npy can't be read \(it asks for .*{function.__name__}"
    ):
        load("wrist-imu", "test")
    assert not (tmp_path / "made").exists()


def test_other_content_is_not_even_opened(place, tmp_path):
    good = npy(recordings())
    bad = npy(recordings(more=Asks(os.mkdir, str(tmp_path / "made"))))
    place(wrist_imu.WHEEL, wheel("seglearn/data/watch_dataset.npy", bad), good)
    with pytest.raises(BundleError, match=r"has SHA-256 .* \(watch_dataset.npy\); expected"):
        load("wrist-imu", "test")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"PK", b"", wheel("seglearn/data/other.npy", b"")])
def test_a_wheel_that_is_none_is_refused(place, content):
    place(wrist_imu.WHEEL, content)
    with pytest.raises(
        BundleError, match=r"can't be read .*; expected a wheel with seglearn/data/watch_data"
    ):
        load("wrist-imu", "test")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x02\x00", npy(recordings())[:-40], npy(7)])
def test_recordings_that_are_none_are_refused(place, content):
    place(wrist_imu.RECORDINGS, content)
    with pytest.raises(BundleError, match=r"can't be read .*; expected the recordings of seglearn"):
        load("wrist-imu", "test")


def test_without_a_file_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMWIRE_DATA", str(tmp_path))
    monkeypatch.setattr(data_files, "BESIDE", tmp_path / "beside")
    with pytest.raises(
        DataMissingError, match=r"pip download --no-deps seglearn==1\.2\.5 -d DIR.*SLIMWIRE_DATA"
    ):
        load("wrist-imu", "test")
