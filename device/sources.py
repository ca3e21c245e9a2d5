"""Sources that only Linux has, behind the interface of `firmware/sources`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from device.errors import DeviceError
from models.arrays import read_npz

#: Types of source that are opened here; the firmware opens all others.
LINUX = ("npz", "camera")


class Source(Protocol):
    """Where samples come from."""

    def capture_into(self, buffer: memoryview) -> int:
        """Fill the buffer with one image; its index, or -1. Raises OSError: this one failed."""

    def close(self) -> None:
        """Give back what it holds."""


def open_source(settings: Mapping[str, Any], directory: Path, shape: tuple[int, int, int]) -> Source:
    """The source that a section of device.json names.

    Args:
        settings: `type`, one of LINUX, and `path`: of the .npz file, relative to `directory`; of the camera,
            its number, device, address or file (0 where it is missing).
        shape: (height, width, channels) of the image.

    Raises:
        DeviceError: it does not open, or does not fit the head.
    """
    path = settings.get("path")
    if settings["type"] == "npz":
        if not isinstance(path, str):
            raise DeviceError(
                "the source names no .npz file", expected='"path" in it', remedy="name it with --path FILE"
            )
        return NpzImages(directory / path, shape)
    from device.camera import Camera  # noqa: PLC0415  (what drives a camera loads only for one)

    device: Any = 0 if path is None else path
    return Camera(int(device) if str(device).isdecimal() else str(device), shape)


class NpzImages:
    """Images of a NumPy archive, in order, from the start again at its end.

    Args:
        path: an archive with `x`, uint8 (N, H, W) or (N, H, W, C).
        shape: what the head takes.

    Raises:
        DeviceError: there is no such archive, or its images are others.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        try:
            (images,) = read_npz(path, "x")
        except ValueError as error:
            raise DeviceError(
                f"{path} cannot be used: {error}",
                expected="a NumPy archive (.npz) with images as `x`, uint8 (N, H, W) or (N, H, W, C)",
            ) from error
        if images.ndim == 3:
            images = images[..., None]
        if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
            raise DeviceError(
                f"the images of {path} are {images.dtype} of shape {images.shape}",
                expected=f"uint8 of shape (N, {', '.join(map(str, shape))}), which head.bin takes",
            )
        self._images = images
        self._next = 0

    def capture_into(self, buffer: memoryview) -> int:
        """Copy the next image to the buffer; its index."""
        index = self._next
        self._next = (index + 1) % len(self._images)
        buffer[:] = self._images[index].tobytes()
        return index

    def close(self) -> None:
        """Nothing to give back."""
