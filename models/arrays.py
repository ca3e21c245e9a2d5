"""Reads numpy's own file formats. What cannot be read ends in ValueError, whatever is wrong with it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def read_npy(body: bytes) -> npt.NDArray[Any]:
    """The array of a ``.npy`` file's bytes. Raises ValueError; pickled objects are never loaded."""
    try:
        array = np.load(io.BytesIO(body), allow_pickle=False)
    except Exception as error:
        raise _unreadable(error) from error
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an archive of arrays")
    return array


def read_npz(path: Path, *names: str) -> list[npt.NDArray[Any]]:
    """The arrays ``names`` of a ``.npz`` file. Raises ValueError, also for a name that is missing."""
    try:
        archive = np.load(path, allow_pickle=False)
    except Exception as error:
        raise _unreadable(error) from error
    if isinstance(archive, np.ndarray):
        raise ValueError("it is a single array")
    with archive:
        for name in names:
            if name not in archive.files:
                raise ValueError(f"it lacks the array {name!r}")
        try:
            arrays = [archive[name] for name in names]
        except Exception as error:
            raise _unreadable(error) from error
    for name, array in zip(names, arrays, strict=True):
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name!r} is no array")
    return arrays


def _unreadable(error: Exception) -> ValueError:
    """What to say of `error`, which may be of any type: numpy passes on what its parser's parts raise."""
    # numpy's advice to allow pickles is not for people with a broken file.
    text = str(error)
    return ValueError("it holds pickled objects, or is damaged" if "pickle" in text else text or repr(error))
