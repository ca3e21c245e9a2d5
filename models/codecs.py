"""What JPEG and WebP make of images, and in how many bytes that a receiver could not know beforehand.

JPEG: baseline, with the standard Huffman tables and, for colour, 4:2:0. Counted are the entropy-coded bytes
of the scan: from the end of the SOS segment to the EOI marker (ITU-T T.81, annex B); tables and headers are
the same for all images of a quality and size, so a receiver needs them once.

WebP: lossy, method 6 (the slowest, smallest). Counted is the data of the ``VP8 `` or ``VP8L`` chunk
(developers.google.com/speed/webp/docs/riff_container); grey images go through RGB, as WebP has no other way.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BundleError

Images = npt.NDArray[np.uint8]
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA


def jpeg(x: Images, quality: int) -> tuple[Images, npt.NDArray[np.int64]]:
    """Images (N,H,W,1|3) uint8 → what comes out of JPEG at ``quality`` 1..100, and scan bytes int64 (N,).

    Raises BundleError: images of another shape or type, no such quality, or Pillow is missing.
    """
    mode = "L" if x.shape[-1] == 1 else "RGB"
    return _through(x, quality, "JPEG", mode, scan_bytes, {"subsampling": "4:2:0"} if mode == "RGB" else {})


def webp(x: Images, quality: int) -> tuple[Images, npt.NDArray[np.int64]]:
    """Images (N,H,W,1|3) uint8 → what comes out of lossy WebP at ``quality`` 0..100, and payload bytes (N,).

    Raises as `jpeg` does.
    """
    return _through(x, quality, "WEBP", "RGB", payload_bytes, {"method": 6})


def scan_bytes(file: bytes) -> int:
    """Entropy-coded bytes of a JPEG file's scans, byte stuffing included. Raises ValueError: no JPEG file."""
    at, total = 2, 0
    if file[:2] != bytes((0xFF, _SOI)):
        raise ValueError("it does not start with SOI")
    while at + 4 <= len(file) and file[at] == 0xFF:
        marker, length = file[at + 1], int.from_bytes(file[at + 2 : at + 4])
        at += 2 + length
        if marker == _SOS:
            end = _scan_end(file, at)
            total += end - at
            at = end
            if file[at + 1] == _EOI:
                return total
    raise ValueError("it ends before EOI")


def _scan_end(file: bytes, start: int) -> int:
    """Where the marker that ends a scan is: neither a stuffed zero nor a restart."""
    at = start
    while True:
        at = file.find(b"\xff", at)
        if at < 0 or at + 1 >= len(file):
            raise ValueError("a scan has no end")
        if file[at + 1] and not 0xD0 <= file[at + 1] <= 0xD7:
            return at
        at += 2


def payload_bytes(file: bytes) -> int:
    """Bytes of a WebP file's VP8 or VP8L chunk, without its header. Raises ValueError: no such file."""
    if file[:4] != b"RIFF" or file[8:12] != b"WEBP":
        raise ValueError("it is no WebP file")
    at = 12
    while at + 8 <= len(file):
        kind, size = file[at : at + 4], int.from_bytes(file[at + 4 : at + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            if at + 8 + size > len(file):
                raise ValueError("its image is cut")
            return size
        at += 8 + size + size % 2
    raise ValueError("it has no image")


def _through(
    x: Images, quality: int, kind: str, mode: str, count: Callable[[bytes], int], options: dict[str, Any]
) -> tuple[Images, npt.NDArray[np.int64]]:
    try:
        from PIL import Image  # noqa: PLC0415  (needed for these baselines alone)
    except ModuleNotFoundError as error:
        raise BundleError(
            f"{kind} needs the Python package 'pillow', which is not installed here; "
            "pip install 'slimwire[edge]'"
        ) from error
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] not in (1, 3):
        raise BundleError(f"the images are {x.dtype} {x.shape}; expected uint8 (N,H,W,1) or (N,H,W,3)")
    if not 0 <= quality <= 100:
        raise BundleError(f"there is no {kind} quality {quality}; expected 0 to 100")
    back = np.empty_like(x)
    sizes = np.empty(len(x), np.int64)
    grey = x.shape[-1] == 1
    for i, picture in enumerate(x):
        image = Image.fromarray(picture[..., 0] if grey else picture)
        file = io.BytesIO()
        image.convert(mode).save(file, kind, quality=quality, **options)
        sizes[i] = count(file.getvalue())
        with Image.open(io.BytesIO(file.getvalue()), formats=[kind]) as decoded:
            back[i] = np.asarray(decoded.convert("L" if grey else "RGB")).reshape(x.shape[1:])
    return back, sizes
