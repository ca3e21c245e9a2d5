"""Reads windows of a smartwatch's IMU: ten people's shoulder exercises (Burns et al. 2018, arXiv:1802.01489).

The recordings come in the Python package ``seglearn`` 1.2.5, as its wheel or as the ``watch_dataset.npy`` in
it: 140 recordings of six channels at 50 Hz (acceleration x, y, z, then rate of turn x, y, z), each with the
exercise and the person. The digest is of ``watch_dataset.npy``.

That file is a pickle. It is read only once its digest is right, and then by a reader that knows four names,
none of which it imports or looks up.

A window is 100 samples, 2 s; the next begins 50 samples on. Whole people are kept apart: the test split is
people 9 and 10; the training split is people 1 to 8 in this order, so that its end, person 8, can be kept for
validation.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data_files import DataSet, Source, verified
from models.errors import BundleError, DataMissingError

WHEEL = "seglearn-1.2.5-py3-none-any.whl"
RECORDINGS = "watch_dataset.npy"
_MEMBER = f"seglearn/data/{RECORDINGS}"
_MEMBER_LIMIT = 32 << 20

WINDOW, HOP = 100, 50
"""Samples of a window, and from the start of one to that of the next."""
STEPS = (40, 40, 40, 16, 16, 16)
"""Steps of a uint8 for one unit of each channel's readings; 128 stands for 0, what lies beyond is clipped."""
PEOPLE = {"train": (1, 2, 3, 4, 5, 6, 7, 8), "test": (9, 10)}
VALIDATION = 482
"""Windows of person 8, which end the training split."""


def read(name: str, source: Source, split: str) -> DataSet:
    """The split as (N,100,1,6). Raises DataMissingError: not found; BundleError: damaged."""
    path = source.find(name, WHEEL, RECORDINGS)
    if path is None:
        looked = ", ".join(str(folder) for folder in source.folders(name))
        raise DataMissingError(
            f"{source.title} was not found in {looked}; `pip download --no-deps seglearn==1.2.5 -d DIR` and "
            f"set SLIMWIRE_DATA=DIR, a folder with {WHEEL} or {RECORDINGS}"
        )
    content = _member(path) if path.name == WHEEL else path.read_bytes()
    verified(content, str(path), source.files[RECORDINGS], f" ({RECORDINGS})")
    return DataSet(name, "official", *_windows(_load(path, content), PEOPLE[split]))


def scale(readings: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """(...,6) readings in the sensor's units as uint8."""
    steps: npt.NDArray[np.uint8] = np.clip(np.rint(readings * STEPS) + 128, 0, 255).astype(np.uint8)
    return steps


def _windows(
    recordings: dict[str, Any], people: tuple[int, ...]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """(windows (N,100,1,6), exercises (N,)) of these people, one person after another."""
    x: list[npt.NDArray[np.uint8]] = []
    y: list[int] = []
    for person in people:
        for i in np.flatnonzero(recordings["subject"] == person):
            readings = scale(recordings["X"][i])
            found = [readings[at : at + WINDOW] for at in range(0, len(readings) - WINDOW + 1, HOP)]
            x += found
            y += [int(recordings["y"][i])] * len(found)
    return np.array(x, np.uint8).reshape(-1, WINDOW, 1, len(STEPS)), np.array(y, np.int64)


def _member(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_MEMBER) as file:
            return file.read(_MEMBER_LIMIT)
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError) as error:
        raise BundleError(f"{path} can't be read ({error}); expected a wheel with {_MEMBER}") from error


def _load(path: Path, content: bytes) -> dict[str, Any]:
    """The recordings of a ``.npy`` file that holds one pickled object."""
    file = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("its .npy header is of another version")
        np.lib.format.read_array_header_1_0(file)
        return dict(_Reader(file).load().item())
    except Exception as error:
        raise BundleError(f"{path} can't be read ({error}); expected the recordings of {WHEEL}") from error


class _Reader(pickle.Unpickler):
    """Rebuilds numpy arrays and Python's plain types, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        found = _NAMES.get(f"{module}.{name}")
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return found


def _array(kind: str, _shape: object, _dtype: object) -> npt.NDArray[Any]:
    """An empty array, which the pickle then fills."""
    if kind != _ARRAY:
        raise pickle.UnpicklingError("it rebuilds something that is no array")
    return np.ndarray((0,), np.uint8)


def _encode(text: str, encoding: str) -> bytes:
    """Protocol 2 has no bytes: it keeps them as text in Latin-1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has text in {encoding}")
    return text.encode("latin1")


_ARRAY = "an array"
_NAMES: dict[str, Callable[..., Any] | str] = {
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.ndarray": _ARRAY,
    "numpy.dtype": np.dtype,
    "_codecs.encode": _encode,
}
