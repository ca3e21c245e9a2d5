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
    small = _reduce(_reduce(picture.astype(np.float32), height, 0), width, 1)
    pixels: npt.NDArray[np.uint8] = np.rint(small).astype(np.uint8)
    if channels == 1 and pixels.shape[2] == 3:
        return ((pixels @ _GREY + 128) >> 8).astype(np.uint8)[..., None]
    return np.repeat(pixels, channels, axis=2) if channels > pixels.shape[2] else pixels


def _reduce(values: npt.NDArray[np.float32], size: int, axis: int) -> npt.NDArray[np.float32]:
    """Means of `size` neighbouring parts along an axis; of fewer values than parts, each is repeated."""
    length = values.shape[axis]
    edges = np.arange(size + 1) * length // size
    starts = np.minimum(edges[:-1], length - 1)
    counts = np.maximum(edges[1:] - edges[:-1], 1)
    if length < size:
        repeated: npt.NDArray[np.float32] = np.take(values, starts, axis=axis)
        return repeated
    counts = counts.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    means: npt.NDArray[np.float32] = (np.add.reduceat(values, starts, axis=axis) / counts).astype(np.float32)
    return means
