"""The head on the device: the references' bytes, within a board's memory, and refusals that say why."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware import head as device
from models.bundle import Bundle
from models.head import Head as Reference
from models.headfile import HeadFile
from models.litert_head import LiteRtHead, build
from tests import headgen
from tests.headgen import CONV, DEPTHWISE, POINTWISE
from wire import rans

RUN_ALL = """
import sys
from firmware.head import Head
from firmware.rans import encode_into
head = Head("head.bin", sys.argv[1])
assert bool(head.file) == (sys.argv[1] == "flash")
image = bytearray(head.shape[0] * head.shape[1] * head.shape[2])
message = bytearray(4 + 2 * max(len(latent) for latent in head.latents))
out = sys.stdout.buffer
with open("images", "rb") as images:
    for width in range(len(head.widths)):
        head.set_width(width)
        images.seek(0)
        while images.readinto(image):
            symbols = head.run(image)
            n = encode_into(symbols, head.n_symbols, head, message)
            out.write(symbols)
            out.write(bytes([n >> 8, n & 255]))
            out.write(memoryview(message)[:n])
"""


def parse(out: bytes, head: HeadFile, count: int) -> list[tuple[np.ndarray, list[bytes]]]:
    """What RUN_ALL wrote: for each width (count, n) symbols and `count` messages."""
    at, widths = 0, []
    for index in range(len(head.widths)):
        n = int(np.prod(head.latent_shape(index)))
        symbols, messages = [], []
        for _ in range(count):
            symbols.append(np.frombuffer(out, np.uint8, n, at))
            length = int.from_bytes(out[at + n : at + n + 2], "big")
            at += n + 2 + length
            messages.append(out[at - length : at])
        widths.append((np.stack(symbols), messages))
    assert at == len(out)
    return widths


def compare(run_micropython, data: bytes, images: np.ndarray) -> None:
    """MicroPython = numpy reference = LiteRT's reference kernels; messages are wire.rans's and decode. A head
    left in its file gives what one in memory gives.
    """
    head = HeadFile.parse(data)
    files = {"head.bin": data, "images": images.tobytes()}
    out = run_micropython(RUN_ALL, "ram", heap="96k", files=files)
    assert run_micropython(RUN_ALL, "flash", files=files) == out
    for index, (symbols, messages) in enumerate(parse(out, head, len(images))):
        expected = Reference(head).run(images, index)
        litert = LiteRtHead(build(head, index), head.levels, head.center, reference=True).run(images)
        assert np.count_nonzero(symbols != expected) == 0
        assert np.count_nonzero(litert != expected) == 0
        tables = head.widths[index].tables
        for one, message in zip(symbols, messages, strict=True):
            assert message == rans.encode(one, tables)
            assert np.array_equal(rans.decode(message, tables), one)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load("fashion-mnist")


def test_the_shipped_head_on_512_images_at_every_width(run_micropython, bundle):
    images = bundle.camera()[0]
    assert len(images) == 512
    assert len(bundle.headfile.widths) >= 4
    compare(run_micropython, bundle.head_bytes, images)


ARCHITECTURES = {
    "as shipped": ((28, 28, 1), headgen.FASHION, 16, 4),
    "colour, odd sizes": ((9, 7, 3), ((CONV, 2, 12), (DEPTHWISE, 2, 12), (POINTWISE, 1, 7)), 32, 3),
    "full convolutions": ((11, 12, 3), ((CONV, 1, 8), (CONV, 2, 12), (CONV, 2, 5)), 5, 1),
    "pointwise first": ((5, 6, 4), ((POINTWISE, 1, 12), (POINTWISE, 1, 8), (CONV, 1, 3)), 2, 2),
    "depthwise in a row": (
        (13, 10, 4),
        ((DEPTHWISE, 1, 4), (DEPTHWISE, 2, 4), (DEPTHWISE, 1, 4), (POINTWISE, 1, 6)),
        16,
        4,
    ),
    "a single pixel": ((1, 1, 1), ((CONV, 2, 8), (DEPTHWISE, 2, 8), (POINTWISE, 1, 2)), 16, 4),
    "one layer that widens": ((6, 5, 4), ((POINTWISE, 1, 16),), 16, 4),
    "one layer that narrows": ((6, 5, 16), ((POINTWISE, 1, 4),), 16, 4),
    "one layer": ((8, 8, 1), ((CONV, 2, 3),), 16, 4),
    "a tall image": (
        (30, 2, 2),
        ((CONV, 2, 8), (POINTWISE, 1, 40), (DEPTHWISE, 2, 40), (POINTWISE, 1, 4)),
        9,
        2,
    ),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_head_gives_the_references_symbols(run_micropython, name):
    shape, layers, levels, tables = ARCHITECTURES[name]
    for seed in range(3):
        head = headgen.random_head(seed, shape, layers, levels, tables, mult_bits=24)
        images = np.random.default_rng(seed).integers(0, 256, (12, *shape)).astype(np.uint8)
        compare(run_micropython, head.emit(), images)


def test_multipliers_of_31_bits_and_the_definition_of_each_operation(run_micropython):
    head = headgen.random_head(7)
    images = np.random.default_rng(7).integers(0, 256, (8, 28, 28, 1)).astype(np.uint8)
    data = head.emit()
    out = run_micropython(RUN_ALL, "flash", files={"head.bin": data, "images": images.tobytes()})
    for index, (symbols, _) in enumerate(parse(out, HeadFile.parse(data), len(images))):
        assert np.array_equal(symbols, head.run(images, index))


SMALL = headgen.random_head(
    3, (6, 5, 1), ((CONV, 2, 8), (DEPTHWISE, 1, 8), (POINTWISE, 1, 3)), widths=(0.5, 1.0)
)


def test_cpython_runs_the_same_head_from_bytes_or_a_file(tmp_path):
    data = SMALL.emit()
    (tmp_path / "head.bin").write_bytes(data)
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 1)).astype(np.uint8)
    path = str(tmp_path / "head.bin")
    for source, mode in ((data, "auto"), (path, "ram"), (path, "flash")):
        head = device.Head(source, mode)
        assert head.widths == (500, 1000)
        assert head.width_index == 1
        for index in (0, 1, 0):
            head.set_width(index)
            for image, expected in zip(images, SMALL.run(images, index), strict=True):
                assert bytes(head.run(image.tobytes())) == expected.tobytes()
                assert head.n_symbols == len(expected)
        head.close()
        assert bool(head.file) == (mode == "flash")


def test_a_head_left_in_its_file_says_when_the_file_became_shorter(tmp_path):
    path = tmp_path / "head.bin"
    path.write_bytes(SMALL.emit())
    head = device.Head(str(path), "flash")
    path.write_bytes(SMALL.emit()[:200])
    with pytest.raises(OSError, match="became shorter"):
        head.run(bytes(30))
    head.close()


@pytest.mark.parametrize("layers", [((CONV, 2, 8),), ((CONV, 2, 8), (POINTWISE, 1, 3))])
@pytest.mark.parametrize("mode", ["ram", "flash"])
def test_scratch_memory_is_the_callers_but_for_a_run_and_holds_no_symbols(tmp_path, layers, mode):
    made = headgen.random_head(4, (6, 5, 1), layers, widths=(0.5, 1.0))
    (tmp_path / "head.bin").write_bytes(made.emit())
    head = device.Head(str(tmp_path / "head.bin"), mode, 500)
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 1)).astype(np.uint8)
    assert len(head.scratch) >= 500
    assert len(head.image) == 30
    for index in (0, 1):
        head.set_width(index)
        for image, expected in zip(images, made.run(images, index), strict=True):
            head.scratch[:] = bytes([255]) * len(head.scratch)
            head.image[:] = image.tobytes()
            symbols = head.run(head.image)
            head.scratch[:] = bytes([255]) * len(head.scratch)
            assert bytes(symbols) == expected.tobytes()
    head.close()


def test_the_model_tag_is_the_files_digest(tmp_path):
    data = SMALL.emit()
    (tmp_path / "head.bin").write_bytes(data)
    expected = int.from_bytes(hashlib.sha256(data).digest()[:2], "big")
    assert device.Head(str(tmp_path / "head.bin")).model_tag == expected
    assert device.Head(data).model_tag == expected


ALLOCATIONS = """
import gc, json, sys
from firmware.head import Head
from firmware.rans import encode_into
head = Head("head.bin", sys.argv[1])
image = bytes(784)
message = bytearray(1200)
gc.collect()
gc.disable()
def use():
    for width in (0, 1, 2, 3, 1, 0):
        head.set_width(width)
def work():
    for width in range(4):
        head.set_width(width)
        encode_into(head.run(image), head.n_symbols, head, message)
changes = []
for what in (use, work):
    what()
    before = gc.mem_alloc()
    what()
    changes.append(gc.mem_alloc() - before)
gc.enable()
gc.collect()
with_head = gc.mem_alloc()
head = None
gc.collect()
print(json.dumps({"changes": changes, "head": with_head - gc.mem_alloc()}))
"""


@pytest.mark.parametrize(("mode", "heap", "kib"), [("ram", "96k", 34), ("flash", "64k", 15)])
def test_a_switch_and_a_run_allocate_nothing(run_micropython, bundle, mode, heap, kib):
    """And the head's memory is what the device's documentation says it is, for a head of 18 to 20 KB."""
    files = {"head.bin": bundle.head_bytes}
    figures = json.loads(run_micropython(ALLOCATIONS, mode, heap=heap, files=files))
    assert figures["changes"] == [0, 0]
    assert 10_000 < figures["head"] <= kib * 1024


CHOSEN = """
from firmware.head import Head
print("flash" if Head("head.bin").file else "ram")
"""


@pytest.mark.parametrize(("heap", "mode"), [("64k", "flash"), ("128k", "ram")])
def test_a_head_stays_in_memory_where_there_is_room(run_micropython, bundle, heap, mode):
    out = run_micropython(CHOSEN, heap=heap, files={"head.bin": bundle.head_bytes})
    assert out.decode().strip() == mode


REFUSED = """
from firmware.head import Head, HeadError
try:
    Head("head.bin")
except HeadError as error:
    print(error)
"""


def test_a_head_that_does_not_fit_is_refused_with_the_figures(run_micropython):
    layers = ((CONV, 2, 32), (DEPTHWISE, 1, 32), (POINTWISE, 1, 128), (POINTWISE, 1, 8))
    data = headgen.random_head(0, layers=layers).emit()
    out = run_micropython(REFUSED, files={"head.bin": data}).decode()
    assert f"no memory for a head of {len(data)} bytes" in out
    assert "smaller one" in out


def test_a_head_beyond_the_plans_words_is_refused():
    layers = ((CONV, 1, 32), (DEPTHWISE, 1, 32), (POINTWISE, 1, 128), (POINTWISE, 1, 8))
    with pytest.raises(device.HeadError, match="of activations; at most 65535 of each"):
        device.Head(headgen.random_head(0, layers=layers).emit())


def test_a_cut_file_is_refused_at_every_length(tmp_path):
    data = SMALL.emit()
    for n in range(len(data)):
        with pytest.raises(device.HeadError, match=r"cut off|head file"):
            device.Head(data[:n])
    for n in (0, 15, 16, 60, len(data) - 1):
        (tmp_path / "cut.bin").write_bytes(data[:n])
        with pytest.raises(device.HeadError, match="cut off"):
            device.Head(str(tmp_path / "cut.bin"))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, ord("X"), "no head file: starts with b'XWH1', expected b'SWH1'"),
        (4, 2, "format 2, expected 1"),
        (5, 0, "image"),
        (8, 0, "0 widths"),
        (9, 40, "40 layers"),
        (10, 33, "33"),
        (11, 16, "centre"),
        (16, 3, "layer 0: op 3"),
        (17, 3, "stride 3"),
        (18, 1, "layer 0: .* activation 1"),
        (20, 2, "2 to 8 channels"),
        (24, 200, "weights to byte"),
    ],
)
def test_a_wrong_field_is_named(at, value, message):
    data = bytearray(SMALL.emit())
    data[at] = value
    with pytest.raises(device.HeadError, match=message):
        device.Head(bytes(data))


SECTION = int.from_bytes(SMALL.emit()[52:56], "little")  # of the narrow width, after three records
CHANNELS = SECTION + 2
REQUANT = CHANNELS + 6
CODER = REQUANT + 9 * (4 + 4 + 3)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (52, SECTION + 1 & 255, "width section 0"),
        (CHANNELS, 0, "layer 0 has 0 channels"),
        (CHANNELS, 12, "layer 0 has 12 channels"),
        (CHANNELS + 2, 3, "layer 1 has 3 channels after 4"),
        (CHANNELS, 3, "layer 1 has 4 channels after 3"),
        (REQUANT + 3, 0x80, "layer 0: multiplier"),
        (REQUANT + 3, 0x3F, "layer 0: multiplier"),
        (REQUANT + 16 + 3, 2, "layer 0: .* bias"),
        (REQUANT + 32, 32, "layer 0: .* shift above 31"),
        (CODER, 0, "coder tables"),
        (CODER, 5, "coder tables"),
        (CODER + 2, 0xF0, "4 coder tables; expected 1..4, each with a sum of 4096"),
    ],
)
def test_a_wrong_field_of_a_width_is_named(at, value, message):
    data = bytearray(SMALL.emit())
    assert data[at] != value
    data[at] = value
    with pytest.raises(device.HeadError, match=message):
        device.Head(bytes(data))


def test_a_pointwise_layer_takes_channels_by_fours():
    layers = ((CONV, 1, 8), (POINTWISE, 1, 3))
    data = bytearray(headgen.random_head(0, (4, 4, 1), layers, widths=(1.0,)).emit())
    section = int.from_bytes(data[40:44], "little")
    data[section + 2] = 6
    with pytest.raises(device.HeadError, match="layer 1 has 3 channels after 6"):
        device.Head(bytes(data))


def test_a_map_to_a_table_that_is_not_there_is_refused():
    data = bytearray(headgen.random_head(0, (2, 2, 4), ((POINTWISE, 1, 1),), tables=2, widths=(1.0,)).emit())
    assert data[-1] & 0b10101010 == 0
    data[-1] |= 0b10
    with pytest.raises(device.HeadError, match=r"2 coder tables; .* a map to them"):
        device.Head(bytes(data))


def test_bytes_behind_the_end_are_refused():
    with pytest.raises(device.HeadError, match="1 bytes follow"):
        device.Head(SMALL.emit() + b"\0")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(SMALL.emit()) - 1), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_file_is_refused_or_runs(changes):
    """What the checks let through, the kernels run within their buffers (CPython's stand-ins would raise)."""
    data = bytearray(SMALL.emit())
    for at, value in changes:
        data[at] = value
    try:
        head = device.Head(bytes(data))
    except device.HeadError:
        return
    for index in range(len(head.widths)):
        head.set_width(index)
        symbols = bytes(head.run(bytes(int(np.prod(head.shape)))))
        assert max(symbols) < head.levels


def test_an_image_or_width_that_does_not_fit_is_refused():
    head = device.Head(SMALL.emit())
    with pytest.raises(device.HeadError, match="image of 29 bytes, expected 6 x 5 x 1"):
        head.run(bytes(29))
    for index in (-1, 2):
        with pytest.raises(ValueError, match="of 2"):
            head.set_width(index)
