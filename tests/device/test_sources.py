"""What becomes of a picture, and what drives a camera on Linux."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.camera import Camera
from device.errors import DeviceError
from device.pixels import fit
from device.sources import open_source


def plainly(picture: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The middle's means, a pixel at a time."""
    height, width, _ = shape
    h, w, channels = picture.shape
    rows, columns = min(h, max(1, w * height // width)), min(w, max(1, h * width // height))
    top, left = (h - rows) // 2, (w - columns) // 2
    out = np.zeros((height, width, channels), int)
    for y, x in np.ndindex(height, width):
        y0, y1 = y * rows // height, max((y + 1) * rows // height, y * rows // height + 1)
        x0, x1 = x * columns // width, max((x + 1) * columns // width, x * columns // width + 1)
        part = picture[top + y0 : top + y1, left + x0 : left + x1].astype(int)
        n = part.shape[0] * part.shape[1]
        out[y, x] = (part.sum(axis=(0, 1)) + n // 2) // n
    return out


@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(1, 12), st.integers(1, 12)
)
def test_a_picture_of_any_size_becomes_its_middle_averaged(h, w, channels, height, width):
    picture = np.random.default_rng(h * 41 + w).integers(0, 256, (h, w, channels), dtype=np.uint8)
    found = fit(picture, (height, width, channels))
    assert (found == plainly(picture, (height, width, channels))).all()


def test_colours_become_grey_and_grey_becomes_colours():
    assert fit(np.full((8, 8, 3), (255, 0, 0), np.uint8), (2, 2, 1)).tolist() == [[[77], [77]]] * 2
    assert fit(np.full((8, 8), 9, np.uint8), (2, 2, 3)).tolist() == [[[9, 9, 9]] * 2] * 2
    for wrong in (np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="a picture of shape"):
            fit(wrong, (2, 2, 1))


class VideoCapture:
    """OpenCV's class, as far as it is used here: BGR pictures, the third of which fails."""

    def __init__(self, device):
        self.device, self.taken, self.released = device, 0, False

    def isOpened(self):  # noqa: N802
        return self.device != 9

    def set(self, key, value):
        return True

    def read(self):
        self.taken += 1
        return self.taken != 3, np.full((60, 80, 3), (10, 20, 200), np.uint8)

    def release(self):
        self.released = True


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("cv2")
    module.VideoCapture, module.CAP_PROP_BUFFERSIZE = VideoCapture, 38
    monkeypatch.setitem(sys.modules, "cv2", module)
    monkeypatch.setitem(sys.modules, "picamera2", None)


def test_opencv_s_pictures_arrive_in_rgb_and_a_missing_one_is_an_oserror(opencv):
    source = open_source({"type": "camera", "path": "0"}, Path("/"), (4, 5, 3))
    image = bytearray(60)
    for _ in range(2):
        assert source.capture_into(memoryview(image)) == -1
        assert bytes(image) == bytes((200, 20, 10)) * 20
    with pytest.raises(OSError, match="gave no picture"):
        source.capture_into(memoryview(image))
    source.capture_into(memoryview(image))
    source.close()


@pytest.mark.parametrize(
    ("path", "expected"), [(None, 0), ("2", 2), ("/dev/video1", "/dev/video1"), ("rtsp://x/y", "rtsp://x/y")]
)
def test_a_camera_s_number_path_or_address_reaches_its_driver(opencv, monkeypatch, path, expected):
    opened = []
    monkeypatch.setattr(sys.modules["cv2"], "VideoCapture", lambda d: opened.append(d) or VideoCapture(d))
    settings = {"type": "camera"} | ({} if path is None else {"path": path})
    open_source(settings, Path("/"), (4, 5, 1)).close()
    assert opened == [expected]


def test_what_does_not_open_is_refused(opencv, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DeviceError, match="camera 9 does not open"):
        Camera(9, (28, 28, 1))
    with pytest.raises(DeviceError, match="images of 6 channels"):
        Camera(0, (28, 28, 6))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DeviceError, match="nothing that drives a camera") as error:
        Camera(0, (28, 28, 1))
    assert "opencv-python-headless" in error.value.remedy


@pytest.mark.needs("module:cv2")
def test_real_opencv_reads_a_video(tmp_path: Path):
    import cv2

    path = str(tmp_path / "film.avi")
    film = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for level in (40, 200):
        film.write(np.full((48, 64, 3), level, np.uint8))
    film.release()
    source = Camera(path, (28, 28, 1))
    image = bytearray(784)
    for level in (40, 200):
        source.capture_into(memoryview(image))
        assert max(abs(value - level) for value in image) <= 3
    with pytest.raises(OSError, match="no picture"):
        source.capture_into(memoryview(image))
    source.close()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (None, "cannot be used: .*No such file"),
        ({"y": np.zeros(3)}, "lacks the array 'x'"),
        ({"x": np.zeros((2, 3, 3), np.uint8)}, r"uint8 of shape \(2, 3, 3, 1\)"),
        ({"x": np.zeros((2, 28, 28))}, "float64"),
        ({"x": np.zeros((0, 28, 28), np.uint8)}, r"shape \(0, 28, 28, 1\)"),
        ({"x": np.array([{}])}, "pickled"),
    ],
)
def test_an_archive_that_does_not_fit_is_refused(tmp_path: Path, arrays, says):
    if arrays is not None:
        np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(DeviceError, match=says):
        open_source({"type": "npz", "path": "images.npz"}, tmp_path, (28, 28, 1))


def test_an_archive_needs_a_name():
    with pytest.raises(DeviceError, match=r"names no \.npz file"):
        open_source({"type": "npz"}, Path("/"), (28, 28, 1))
