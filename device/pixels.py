"""A camera's picture to the image that a head takes."""

import numpy as np
import numpy.typing as npt

_GREY = np.array([77, 150, 29], np.uint32)  # 256 times the weights of ITU-R BT.601


def fit(picture: npt.NDArray[np.uint8], shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """The picture's middle, in the image's proportions, averaged down to the image's size.

    Args:
        picture: (h, w) or (h, w, 1) grey, or (h, w, 3) RGB.
        shape: (height, width, channels) of the image, 1 or 3 channels.

    Returns:
        uint8 of that shape. A picture smaller than the image has pixels repeated.

    Raises:
        ValueError: the picture has another shape than these, or the image neither 1 nor 3 channels.
    """
    height, width, channels = shape
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3) or not picture.size or channels not in (1, 3):
        raise ValueError(f"a picture of shape {picture.shape} for an image of {shape}")
    h, w = picture.shape[:2]
    rows, columns = min(h, max(1, w * height // width)), min(w, max(1, h * width // height))
    top, left = (h - rows) // 2, (w - columns) // 2
    picture = picture[top : top + rows, left : left + columns]
    y, n_y = _parts(rows, height)
    x, n_x = _parts(columns, width)
    sums = np.add.reduceat(np.add.reduceat(picture.astype(np.int64), y, axis=0), x, axis=1)
    counts = (n_y[:, None] * n_x)[..., None]
    pixels: npt.NDArray[np.uint8] = ((sums + counts // 2) // counts).astype(np.uint8)
    if channels == 1 and pixels.shape[2] == 3:
        return ((pixels @ _GREY + 128) >> 8).astype(np.uint8)[..., None]
    return np.repeat(pixels, channels, axis=2) if channels > pixels.shape[2] else pixels


def _parts(length: int, parts: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each of `parts` neighbouring parts of an axis starts, and how many values it has, at least 1.

    Of fewer values than parts, parts share values: `np.add.reduceat` takes one value where a part does not
    end behind its start.
    """
    edges = np.arange(parts + 1) * length // parts
    return edges[:-1], np.maximum(np.diff(edges), 1)
