"""An image posted to the server, through the integer head, coder and tail that a device's sample takes."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_server.errors import ImageError
from edge_server.tails import Served
from models.arrays import read_npy
from models.evaluate import frames
from wire import rans

_NPY = b"\x93NUMPY"


@dataclass(frozen=True, slots=True)
class Classified:
    """What an image is, and what it would have cost a device to ask."""

    bundle: str
    label: str
    cls: int
    confidence: float
    width: float
    coded_bytes: int
    frames: int
    probabilities: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """The response's object."""
        return {
            "bundle": self.bundle,
            "class": self.cls,
            "label": self.label,
            "confidence": self.confidence,
            "probabilities": self.probabilities,
            "width": self.width,
            "bytes": self.coded_bytes,
            "frames": self.frames,
        }


def read_image(body: bytes, content_type: str, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """The posted image as uint8 (H, W, C).

    Args:
        body: a JSON list (rows of pixels, or rows of pixels of channels) or `{"image": list}`; a .npy file;
            or the raw H·W·C bytes.
        content_type: `application/json` or `application/octet-stream`.
        shape: what the model takes, (H, W, C).

    Raises:
        ImageError: it is something else; says what was expected.
    """
    height, width, channels = shape
    expected = (
        f"one image of {height} x {width} pixels with {channels} channel{'s' * (channels > 1)}, "
        f"integers 0 to 255: a JSON list of {height} rows (application/json), a uint8 .npy file, "
        f"or {height * width * channels} raw bytes (application/octet-stream)"
    )
    if content_type == "application/json":
        array = _from_json(body, expected)
    elif content_type == "application/octet-stream":
        array = _from_npy(body, expected) if body.startswith(_NPY) else np.frombuffer(body, np.uint8)
        if array.shape == (height * width * channels,):
            array = array.reshape(shape)
    else:
        raise ImageError(f"the content type is {content_type or 'missing'!r}", expected=expected)
    if array.shape == (1, *shape):
        array = array[0]
    elif channels == 1 and array.shape == (height, width):
        array = array[:, :, None]
    if array.shape != shape:
        size = f"{array.size} values in one row" if array.ndim == 1 else f"shape {array.shape}"
        raise ImageError(f"the image has {size}", expected=expected)
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
        kind = array.dtype if array.dtype.kind not in "iu" else f"{array.min()}..{array.max()}"
        raise ImageError(f"the image's values are {kind}", expected=expected)
    return array.astype(np.uint8)


def classify(served: Served, image: npt.NDArray[np.uint8], width: float | None = None) -> Classified:
    """Classify one uint8 (H, W, C) image at a width (None: the widest).

    Raises:
        ImageError: the bundle has no such width.
    """
    widths = [option.width for option in served.options]
    if width is not None and width not in widths:
        raise ImageError(
            f"the bundle {served.name} has no width {width:g}",
            expected="one of " + ", ".join(f"{w:g}" for w in widths),
        )
    index = len(widths) - 1 if width is None else widths.index(width)
    symbols = served.head.run(image[None], index)[0]
    coded = rans.encode(symbols, served.tables[index])
    [prediction] = served.run([(index, rans.decode(coded, served.tables[index]))])
    classes = served.bundle.classes
    return Classified(
        bundle=served.name,
        label=classes[prediction.cls],
        cls=prediction.cls,
        confidence=round(prediction.confidence, 6),
        width=widths[index],
        coded_bytes=len(coded),
        frames=frames(len(coded)),
        probabilities={c: round(float(p), 6) for c, p in zip(classes, prediction.probabilities, strict=True)},
    )


def _from_json(body: bytes, expected: str) -> npt.NDArray[Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"the body is not JSON: {error}", expected=expected) from None
    if isinstance(value, dict):
        value = value.get("image")
    if not isinstance(value, list):
        raise ImageError(
            "the body is JSON, but neither a list nor an object with an image", expected=expected
        )
    try:
        return np.array(value)
    except (ValueError, OverflowError):
        raise ImageError("the image's rows are not of one length", expected=expected) from None


def _from_npy(body: bytes, expected: str) -> npt.NDArray[Any]:
    try:
        return read_npy(body)
    except ValueError as error:
        raise ImageError(f"the body is not a .npy file: {error}", expected=expected) from None
