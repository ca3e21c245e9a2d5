"""head.bin: literal bytes, the round trip, and everything that is refused."""

import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.errors import BundleError
from models.headfile import HeadFile
from tests.models.conftest import random_headfile

VALID = random_headfile(7).emit()

# One pointwise layer, 1×1×1 → 1 symbol of 2 levels, one width, one table: small enough to read.
TINY = (
    b"SWH1"
    + bytes([1, 1, 1, 1, 1, 1, 2, 1])  # version, height, width, channels, widths, layers, levels, center
    + struct.pack("<I", 1)
    + struct.pack("<BBBBHHI", 2, 1, 1, 0, 1, 1, 0)
    + struct.pack("<I", 16 + 12 + 4 + 1)
    + bytes([128 - 3])  # the weight: −3
    + struct.pack("<HH", 1000, 1)
    + struct.pack("<IIB", 1 << 30, (1 << 24) + 5, 2)
    + bytes([1])
    + struct.pack("<HH", 1, 4095)
    + bytes([0])
)


def test_literal_bytes():
    head = HeadFile.parse(TINY)
    assert head.input == (1, 1, 1)
    assert head.weights.tolist() == [-3]
    (width,) = head.widths
    assert (width.width, width.out_channels) == (1.0, (1,))
    assert (width.mult[0].tolist(), width.bias[0].tolist(), width.rshift[0].tolist()) == ([1 << 30], [5], [2])
    assert width.tables.freqs.tolist() == [[1, 4095]]
    assert head.emit() == TINY
    assert head.model_tag == int(head.digest[:4], 16)


@pytest.mark.parametrize("seed", range(4))
def test_parse_and_emit_are_inverses(seed):
    head = random_headfile(seed, (11 + seed, 12, 1 + seed))
    again = HeadFile.parse(head.emit())
    assert again.emit() == head.emit()
    assert again.layers == head.layers
    for one, other in zip(head.widths, again.widths, strict=True):
        assert one.tables == other.tables
        assert all((a == b).all() for a, b in zip(one.bias, other.bias, strict=True))


def test_shapes_and_work():
    head = random_headfile(7)  # 13×10×2, strides 2 and 2
    assert head.latent_shape(0) == (4, 3, 3)
    assert head.latent_shape(1) == (4, 3, 6)
    # conv 7·5·9·2·4, depthwise 7·5·9·4, pointwise 7·5·4·8,
    # depthwise 4·3·9·8, conv 4·3·9·8·4, pointwise 4·3·4·3
    assert head.macs(0) == 2520 + 1260 + 1120 + 864 + 3456 + 144
    assert head.params == len(head.weights)
    assert head.ram_bytes(0) < head.ram_bytes(1)


def patched(offset, value, size=1):
    return VALID[:offset] + value.to_bytes(size, "little") + VALID[offset + size :]


WIDTH_0 = struct.unpack_from("<I", VALID, 16 + 12 * 6)[0]
MULT_0 = WIDTH_0 + 2 + 2 * 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends at byte 0 inside the header; expected 16"),
        (b"SWH2" + VALID[4:], r"starts with b'SWH2'; expected b'SWH1'"),
        (patched(4, 2), "format version 2; expected version 1"),
        (patched(5, 0), "input is 0×10×2; expected sizes of at least 1"),
        (patched(8, 0), "0 widths; expected 1 to 16"),
        (patched(9, 33), "33 layers; expected 1 to 32"),
        (patched(10, 1), "1 levels; expected 2 to 32"),
        (patched(11, 16), "center symbol is 16; expected less than the 16 levels"),
        (patched(12, 0xFFFFFFFF, 4), "claims 4294967295 bytes of weights"),
        (patched(16, 3), "layer 0 has operator 3"),
        (patched(17, 3), "layer 0 has stride 3"),
        (patched(18, 1), "layer 0 has activation 1; expected 1 for the last, else 0"),
        (patched(19, 7), "reserved byte of layer 0"),
        (patched(20, 9, 2), "layer 0 takes 9 channels; expected 2"),
        (patched(22, 6, 2), "layer 0 gives 6 channels; expected a multiple of 4"),
        (patched(22, 0xFFFF, 2), "layer 0 gives 65535 channels; expected 1 to 4096"),
        (patched(24, 0xFFFFFF, 4), "within the"),
        (patched(16 + 12 * 6, WIDTH_0 + 1, 4), "width section 0 starts at"),
        (patched(16 + 12 * 6 + 8, 0), "a weight is −128"),
        (patched(WIDTH_0, 1001, 2), "width 1001/1000"),
        (patched(WIDTH_0, 1000, 2), "width 1000 follows 1000"),
        (patched(WIDTH_0 + 2, 12, 2), "layer 0 of width section 0 gives 12 channels; expected 1 to 8"),
        (patched(MULT_0, 5, 4), r"expected 2\^30 ≤ multiplier"),
        (patched(MULT_0 + 16, 0, 4), r"expected \|bias\| < 2\^24"),
        (patched(MULT_0 + 32, 32), "is 32; expected 0 to 31"),
        (VALID + b"\0", "1 bytes follow the last width"),
        (VALID[:-1], "inside the map of width section 1"),
    ],
)
def test_refusals_say_what_was_found_and_expected(data, message):
    with pytest.raises(BundleError, match=message):
        HeadFile.parse(data)


def test_coder_tables_are_checked():
    tables = len(TINY) - 6
    for at, value, message in (
        (tables, 5, "5 coder tables; expected 1 to 4"),
        (tables + 1, 0, "frequency of 0"),
        (tables + 1, 2, r"sum to \[4097\]; expected 4096"),
        (tables + 5, 1, "names table 1; expected less than the 1"),
        (tables + 5, 4, "unused bits of the map"),
    ):
        with pytest.raises(BundleError, match=message):
            HeadFile.parse(TINY[:at] + bytes([value]) + TINY[at + 1 :])


def two_layers(middle):
    """1×1×1 → pointwise to ``middle`` channels → a 3×3 convolution to one, every weight 127."""
    layers = struct.pack("<BBBBHHI", 2, 1, 0, 0, 1, middle, 0)
    layers += struct.pack("<BBBBHHI", 0, 1, 1, 0, middle, 1, middle)
    weights = bytes([255]) * (10 * middle)
    section = struct.pack("<HHH", 1000, middle, 1)
    for channels in (middle, 1):
        section += (
            struct.pack("<I", 1 << 30) * channels + struct.pack("<I", 1 << 24) * channels + bytes(channels)
        )
    section += bytes([1]) + struct.pack("<HH", 2048, 2048) + bytes([0])
    head = b"SWH1" + bytes([1, 1, 1, 1, 1, 2, 2, 1]) + struct.pack("<I", len(weights)) + layers
    return head + struct.pack("<I", len(head) + 4 + len(weights)) + weights + section


def test_an_accumulator_that_could_reach_2_to_the_29_is_refused():
    most = ((1 << 29) - 1) // (255 * 127 * 9) // 4 * 4  # channels of full weights under nine full taps
    HeadFile.parse(two_layers(most))
    with pytest.raises(
        BundleError, match=r"layer 1 at width .* can accumulate .*; expected less than 536870912"
    ):
        HeadFile.parse(two_layers(most + 4))


def parses_or_refuses(data):
    try:
        head = HeadFile.parse(data)
    except BundleError:
        return
    assert head.emit() == data


@given(st.binary(max_size=400))
@example(b"SWH1")
def test_any_bytes_give_a_head_or_a_bundle_error(data):
    parses_or_refuses(data)
    parses_or_refuses(b"SWH1\x01" + data)


@settings(max_examples=300)
@given(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=4), st.integers(0, len(VALID)))
def test_any_damage_gives_a_head_or_a_bundle_error(at, patch, end):
    parses_or_refuses(VALID[:at] + patch + VALID[at + len(patch) :])
    parses_or_refuses(VALID[:end])


def test_weights_come_in_the_layouts_of_the_format():
    head = random_headfile(7)
    conv, depthwise, pointwise = (head.layer_weights(i) for i in range(3))
    assert (conv.shape, depthwise.shape, pointwise.shape) == ((8, 3, 3, 2), (3, 3, 8), (12, 8))
    offset = head.layers[2].weight_offset
    assert pointwise[1, 3] == head.weights[offset + 8 + 3]
    assert np.shares_memory(conv, head.weights)
