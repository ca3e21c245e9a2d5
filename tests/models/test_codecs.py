"""What JPEG and WebP baselines count: entropy-coded bytes, neither tables nor containers."""

import io

import numpy as np
import pytest
from PIL import Image

from models.codecs import jpeg, payload_bytes, scan_bytes, webp
from models.errors import BundleError


def pictures(channels: int) -> np.ndarray:
    """Four smooth pictures with a little noise, (4,32,32,channels)."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:32, :32]
    smooth = 127 + 90 * np.sin(x / 6 + np.arange(4)[:, None, None]) * np.cos(y / 5)
    return np.clip(smooth[..., None] + rng.normal(0, 4, (4, 32, 32, channels)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("codec", [jpeg, webp])
@pytest.mark.parametrize("channels", [1, 3])
def test_more_quality_costs_bytes_and_gives_fidelity(codec, channels):
    x = pictures(channels)
    sizes, errors = [], []
    for quality in (5, 50, 90):
        back, counted = codec(x, quality)
        assert (back.shape, back.dtype, counted.shape) == (x.shape, np.uint8, (4,))
        sizes.append(counted.mean())
        errors.append(np.abs(back.astype(int) - x).mean())
    assert sizes[0] < sizes[1] < sizes[2]
    assert errors[0] > errors[2]
    assert errors[2] < 6


def test_a_flat_grey_block_takes_the_bytes_of_the_standard_tables():
    """T.81 annex K, a block of 128: DC difference 0 is the code 00, end of block 1010; ones fill up."""
    back, sizes = jpeg(np.full((1, 8, 8, 1), 128, np.uint8), 50)
    assert (back == 128).all()
    assert sizes.tolist() == [1]


def test_scan_bytes_skips_segments_and_counts_stuffing_and_restarts():
    head = b"\xff\xd8" + b"\xff\xdb\x00\x04\xff\xda" + b"\xff\xda\x00\x03\x01"
    scan = b"\x12\xff\x00\x34\xff\xd0\x56"
    assert scan_bytes(head + scan + b"\xff\xd9") == len(scan)
    assert scan_bytes(head + scan + b"\xff\xda\x00\x02" + b"\x77" + b"\xff\xd9trailer") == len(scan) + 1


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\xff\xd8",
        b"RIFF",
        b"\xff\xd8\xff\xda\x00\x02\x12\x34",
        b"\xff\xd8\xff\xda\x00\x02\x12\xff",
        b"\xff\xd8\x12",
    ],
)
def test_scan_bytes_of_what_is_no_jpeg_file(file):
    with pytest.raises(ValueError, match=r"it |a scan"):
        scan_bytes(file)


def test_payload_bytes_is_the_image_chunk_s_size():
    file = io.BytesIO()
    Image.fromarray(pictures(3)[0]).save(file, "WEBP", quality=40)
    content = file.getvalue()
    assert content[12:16] == b"VP8 "
    assert payload_bytes(content) == int.from_bytes(content[16:20], "little") <= len(content) - 20
    extended = b"RIFF\0\0\0\0WEBPVP8X\x03\0\0\0abc\0VP8L\x05\0\0\0hello\0"
    assert payload_bytes(extended) == 5


@pytest.mark.parametrize(
    "file", [b"", b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WEBPVP8 \x09\0\0\0abc", b"\xff\xd8"]
)
def test_payload_bytes_of_what_is_no_webp_file(file):
    with pytest.raises(ValueError, match="it"):
        payload_bytes(file)


@pytest.mark.parametrize("codec", [jpeg, webp])
def test_what_is_no_image_is_refused(codec):
    with pytest.raises(BundleError, match=r"expected uint8 \(N,H,W,1\)"):
        codec(np.zeros((2, 8, 8, 2), np.uint8), 50)
    with pytest.raises(BundleError, match=r"expected uint8 \(N,H,W,1\)"):
        codec(np.zeros((2, 8, 8, 3)), 50)
    with pytest.raises(BundleError, match="quality 101; expected 0 to 100"):
        codec(pictures(1), 101)
