"""The files of a device but for its firmware: on a board, or in the directory that Linux runs it on."""

import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware.counter import slot
from models.bundle import Bundle
from provisioning.errors import ProvisionError
from provisioning.identity import CAMERA_FILE, LOG_FILE, ORDER_FILE

SETTINGS_FILE = "device.json"
HEAD_FILE = "head.bin"
COUNTER_FILES = ("counter.a", "counter.b")


def write_device_root(
    directory: Path | str,
    bundle: Bundle,
    device: Mapping[str, Any],
    camera: npt.NDArray[np.uint8] | None = None,
    order: Sequence[int] | None = None,
) -> Path:
    """Lay out a device's directory on Linux: what `micropython -m firmware.main DIRECTORY` runs on.

    Args:
        directory: made if missing; an older identity in it is replaced, its counters with it.
        bundle: whose head it gets.
        device: `device.json`, from `provisioning.identity.create_device`.
        camera: (N, H, W, C) uint8 images, None: the bundle's own.
        order: indices into `camera` in the order they are shown, None: 0, 1, 2 ...; goes with
            `options.order`.

    Returns:
        the directory.
    """
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    (root / LOG_FILE).unlink(missing_ok=True)
    for name, content in device_files(bundle, device, camera, order).items():
        _write(root / name, content)
    return root


def device_files(
    bundle: Bundle,
    device: Mapping[str, Any],
    camera: npt.NDArray[np.uint8] | None = None,
    order: Sequence[int] | None = None,
) -> dict[str, bytes]:
    """The files of a device but for its firmware, by name. Arguments as for `write_device_root`."""
    images = bundle.pictures().x if camera is None else camera
    if images.dtype != np.uint8 or images.shape[1:] != bundle.headfile.input or not 0 < len(images) < 1 << 16:
        raise ProvisionError(
            f"the camera's images are {images.dtype} of shape {images.shape}",
            expected=f"uint8 of shape (1..65535, {', '.join(map(str, bundle.headfile.input))})",
        )
    files = {
        SETTINGS_FILE: json.dumps(device, indent=1).encode() + b"\n",
        HEAD_FILE: bundle.head_bytes,
        CAMERA_FILE: camera_file(images),
        **{name: slot(1) for name in COUNTER_FILES},
    }
    if order is not None:
        if not len(order) or not all(0 <= index < len(images) for index in order):
            raise ProvisionError("the camera's order is empty or names an image that is not there")
        if device["source"].get("order") != ORDER_FILE:
            raise ProvisionError(
                "the device's settings name no order of images", remedy="options.order = True"
            )
        files[ORDER_FILE] = np.asarray(order, "<u2").tobytes()
    return files


def camera_file(images: npt.NDArray[np.uint8]) -> bytes:
    """(N, H, W, C) uint8 images as camera.bin (`firmware/sources/filecam.py`)."""
    count, height, width, channels = images.shape
    return b"SWC1" + struct.pack("<HBBBxxx", count, height, width, channels) + images.tobytes()


def _write(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
