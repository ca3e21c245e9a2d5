"""A camera of a Linux board, through whichever of these is installed: picamera2, or OpenCV.

picamera2 comes with Raspberry Pi OS and drives its own cameras; OpenCV takes any V4L2 device, a stream's
address or a video file. Neither is a dependency: pip install opencv-python-headless, or apt install
python3-picamera2 and an environment made with --system-site-packages.
"""

import importlib
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from device.errors import DeviceError
from device.pixels import fit


class _Pictures(Protocol):
    """Where pictures come from."""

    def picture(self) -> npt.NDArray[np.uint8]:
        """The next one, (h, w, 3) RGB or (h, w) grey. Raises OSError."""

    def close(self) -> None:
        """Give the camera back."""


class Camera:
    """A source of a camera's pictures, fitted to the head's image.

    Args:
        device: number or path of a V4L2 device, a stream's address, or a video file.
        shape: (height, width, channels) of the image.

    Raises:
        DeviceError: nothing here drives a camera, or this one does not open.
    """

    def __init__(self, device: int | str, shape: tuple[int, int, int]) -> None:
        if shape[2] not in (1, 3):
            raise DeviceError(
                f"head.bin takes images of {shape[2]} channels", expected="1 or 3 for a camera's pictures"
            )
        self._shape = shape
        self._pictures = _open(device)

    def capture_into(self, buffer: memoryview) -> int:
        """Take a picture; -1, as pictures have no index. Raises OSError: the camera gave none."""
        image = fit(self._pictures.picture(), self._shape)
        buffer[: image.size] = image.tobytes()
        return -1

    def close(self) -> None:
        """Give the camera back."""
        self._pictures.close()


def _open(device: int | str) -> _Pictures:
    for name, made in (("picamera2", _PiCamera), ("cv2", _OpenCv)):
        if isinstance(device, str) and name == "picamera2":
            continue  # a path or an address is no Raspberry Pi camera
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return made(module, device)
    raise DeviceError(
        "nothing that drives a camera is installed here",
        expected="the Python package picamera2 (Raspberry Pi) or cv2 (any other)",
        remedy="pip install opencv-python-headless",
    )


class _PiCamera:
    def __init__(self, module: Any, device: int | str) -> None:
        try:
            self._camera = module.Picamera2(device)
            self._camera.configure(self._camera.create_still_configuration(main={"format": "BGR888"}))
            self._camera.start()
        except (RuntimeError, IndexError, OSError) as error:
            raise DeviceError(f"camera {device} does not open: {error}") from error

    def picture(self) -> npt.NDArray[np.uint8]:
        try:
            # picamera2's "BGR888" is an array in the order R, G, B.
            taken: npt.NDArray[np.uint8] = self._camera.capture_array("main")
        except RuntimeError as error:
            raise OSError(f"the camera gave no picture: {error}") from error
        return taken

    def close(self) -> None:
        self._camera.close()


class _OpenCv:
    def __init__(self, module: Any, device: int | str) -> None:
        self._camera = module.VideoCapture(device)
        if not self._camera.isOpened():
            raise DeviceError(
                f"camera {device} does not open",
                expected="number or path of a V4L2 device, a stream's address, or a video file",
                remedy="look with `v4l2-ctl --list-devices`; the user must be of the group `video`",
            )
        self._camera.set(module.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, where the driver knows this

    def picture(self) -> npt.NDArray[np.uint8]:
        good, taken = self._camera.read()
        if not good:
            raise OSError("the camera gave no picture")
        picture: npt.NDArray[np.uint8] = np.asarray(taken)
        return picture[..., ::-1] if picture.ndim == 3 else picture

    def close(self) -> None:
        self._camera.release()
