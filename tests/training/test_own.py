"""A person's own data: what is read, what is refused, how it is divided, and the recipe made for it."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch (pip install 'slimwire[train]')")

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.evaluate import FRAME_LIMITS
from models.headfile import MAX_CHANNELS
from slimwire.errors import SlimwireError
from training import own
from training.data import Data, Split
from training.fitting import FLASH, MACS, SYMBOLS, frame_counts, recipe_for


def picture(rng, colour=True, size=(40, 30)):
    height, width = size
    shape = (height, width, 3) if colour else (height, width)
    return Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Two classes of 20 images in several formats and sizes."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(20):
            kind = ("png", "jpg", "bmp", "webp", "gif")[number % 5]
            picture(rng, size=(20 + number, 30)).save(tmp_path / "pets" / name / f"{number}.{kind}")
    (tmp_path / "pets" / "cat" / ".DS_Store").write_bytes(b"\0")
    return tmp_path / "pets"


def archive(path, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.integers(0, 256, (60, 12, 10, 2)).astype(np.uint8),
        "y": np.repeat(np.arange(3), 20),
        **changes,
    }
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def test_a_folder_becomes_images_of_one_size(folder):
    data = own.load(folder, 24, seed=1)
    assert data.classes == ("cat", "dog")
    assert data.split.train_x.shape == (28, 24, 24, 3)
    assert len(data.split.valid_x) == len(data.test_x) == 6
    assert data.split.train_x.dtype == np.uint8
    assert own.load(folder, None, seed=1).test_x.shape == (6, own.SIZE, own.SIZE, 3)


def test_grey_images_stay_grey(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(20):
            picture(rng, colour=False).save(tmp_path / name / f"{number}.png")
    assert own.load(tmp_path, None, 1).test_x.shape[3] == 1
    picture(rng).save(tmp_path / "a" / "colour.png")
    assert own.load(tmp_path, None, 1).test_x.shape[3] == 3


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = (np.arange(256, dtype=np.uint16) << 8).reshape(16, 16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.asarray(own._picture(tmp_path / "deep.png", 16)).tolist() == (deep >> 8).tolist()


def test_images_stand_as_the_camera_meant(tmp_path):
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180°
    Image.fromarray(upright[::-1, ::-1].copy()).save(tmp_path / "turned.png", exif=exif)
    assert (np.asarray(own._picture(tmp_path / "turned.png", 16)) == upright).all()


def test_the_division_keeps_every_sample_once_and_each_class_in_each_part():
    x = np.arange(300, dtype=np.uint16).view(np.uint8).reshape(300, 1, 2, 1)
    y = np.repeat([0, 1, 2], [200, 60, 40]).astype(np.int64)
    data = own._divided(x, y, ("a", "b", "c"), 5, {})
    parts = [(data.split.train_x, data.split.train_y), (data.split.valid_x, data.split.valid_y)]
    parts.append((data.test_x, data.test_y))
    numbers = [part.reshape(-1).view(np.uint16) for part, _ in parts]
    assert sorted(np.concatenate(numbers).tolist()) == list(range(300))
    for found, (_, labels) in zip(numbers, parts, strict=True):
        assert (y[found] == labels).all(), "a sample keeps its class"
    assert [np.bincount(labels).tolist() for _, labels in parts] == [[140, 42, 28], [30, 9, 6], [30, 9, 6]]
    again, other = own._divided(x, y, ("a", "b", "c"), 5, {}), own._divided(x, y, ("a", "b", "c"), 6, {})
    assert (again.test_x == data.test_x).all()
    assert (other.test_x != data.test_x).any()


def test_an_archive_keeps_its_size_unless_asked(tmp_path):
    path = archive(tmp_path / "a.npz", classes=np.array(["x", "y", "z"]))
    data = own.load(path, None, 1)
    assert data.test_x.shape == (9, 12, 10, 2)
    assert data.classes == ("x", "y", "z")
    assert own.load(path, 16, 1).test_x.shape == (9, 16, 16, 2)
    assert own.load(archive(tmp_path / "b.npz"), None, 1).classes == ("0", "1", "2")


def refusal(path, size=None):
    with pytest.raises((SlimwireError, ValueError)) as caught:
        own.load(path, size, 1)
    return str(caught.value)


def test_folders_that_teach_nothing_are_refused(folder, tmp_path):
    assert "there is no folder and no .npz file" in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "nothing says which image is of which class" in refusal(tmp_path / "empty")
    (folder / "dog" / "notes.txt").write_text("not an image")
    (folder / "dog" / "3.jpg").write_bytes((folder / "dog" / "1.jpg").read_bytes()[:60])
    text = refusal(folder)
    assert "2 files" in text
    assert "dog/notes.txt" in text
    assert "dog/3.jpg" in text
    (folder / "dog" / "notes.txt").unlink()
    (folder / "dog" / "3.jpg").unlink()
    (folder / "dog" / "4.gif").unlink()
    text = refusal(folder)
    assert "too few samples of 1 classes: dog 19" in text
    assert "at least 20 of each class" in text
    for left in (folder / "dog").iterdir():
        left.unlink()
    assert "dog 0" in refusal(folder)
    (folder / "dog").rmdir()
    assert "has one class, 'cat'" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"y": None}, "lacks the array 'y'"),
        ({"x": np.zeros((60, 12, 10), np.float32)}, "x is float32"),
        ({"x": np.zeros((60, 12), np.uint8)}, "expected uint8 (N,H,W) or (N,H,W,C)"),
        ({"y": np.repeat(np.arange(3), 19)}, "expected 60 integers"),
        ({"y": np.zeros(60)}, "expected 60 integers"),
        ({"y": np.repeat([-1, 0, 1], 20)}, "expected: classes from 0 on"),
        ({"y": np.zeros(60, np.int64)}, "has one class"),
        ({"y": np.repeat([0, 1, 3], 20)}, "2 0"),
        ({"classes": np.array(["a", "b"])}, "expected: at least 3 names"),
        ({"classes": np.arange(3)}, "as an array of strings"),
        ({"x": np.zeros((60, 200, 200), np.uint8)}, "remedy: --size 32 resizes images"),
        ({"x": np.zeros((60, 12, 10, 40), np.uint8)}, "1 to 16 channels, last"),
        ({"x": np.zeros((60, 4, 1, 3), np.uint8)}, "windows have 4 readings"),
    ],
)
def test_archives_that_teach_nothing_are_refused(tmp_path, changes, text):
    from models.errors import BundleError

    path = archive(tmp_path / "a.npz", **changes)
    with pytest.raises((SlimwireError, BundleError)) as caught:
        own.load(path, None, 1)
    assert text in str(caught.value)


def test_other_refusals(tmp_path):
    assert "--size 4 is out of range" in refusal(tmp_path, 4)
    windows = archive(tmp_path / "w.npz", x=np.zeros((60, 50, 1, 3), np.uint8))
    assert "leave out --size" in refusal(windows, 32)


def test_frames_are_read_and_checked():
    assert frame_counts("1,2,4") == (1, 2, 4)
    for text in ("", "0", "2,1", "1,1", "1,9", "a", "1.5"):
        with pytest.raises(SlimwireError, match="rising numbers from 1 to 6"):
            frame_counts(text)


def of_shape(height, width, channels, count=40):
    x = np.zeros((count, height, width, channels), np.uint8)
    y = np.zeros(count, np.int64)
    return Data(Split(x, y, x, y), x, y, ("a", "b"), {})


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.tuples(st.integers(8, 96), st.integers(8, 96)),
        st.tuples(st.integers(8, 255), st.just(1)),
    ),
    st.integers(1, 6),
    st.sets(st.integers(1, 6), min_size=1),
)
def test_heads_fit_whatever_the_data_is(tmp_path_factory, size, channels, counts):
    frames = tuple(sorted(counts))
    recipe = recipe_for(tmp_path_factory.getbasetemp(), of_shape(*size, channels), frames)
    height, width = recipe.grid
    inputs, macs, weights, sizes = channels, 0, 0, recipe.input[:2]
    for layer in recipe.layers:
        sizes = tuple(-(-side // layer.stride) for side in sizes)
        each = {0: 9 * inputs, 1: 9, 2: inputs}[layer.op]
        outputs = layer.channels[-1]
        macs, weights, inputs = macs + sizes[0] * sizes[1] * each * outputs, weights + each * outputs, outputs
        assert list(layer.channels) == sorted(layer.channels)
        assert outputs <= MAX_CHANNELS
        if layer.relu:
            assert all(count % 4 == 0 for count in layer.channels)
    assert macs <= MACS
    assert weights <= FLASH
    assert height * width * recipe.layers[-1].channels[-1] <= SYMBOLS + height * width
    assert len(recipe.widths) == len(frames) == len(recipe.targets)
    assert recipe.widths[-1] == 1.0
    for target, count in zip(recipe.targets, frames, strict=True):
        assert target.mean < target.limit
        if count <= 4:
            assert target.limit < FRAME_LIMITS[count - 1]
    # the teacher has features on the latent's grid
    assert recipe.stride.bit_length() - 1 < len(recipe.teacher)


def test_images_that_no_head_can_work_through_are_refused(tmp_path):
    with pytest.raises(SlimwireError, match=r"87×93×16 are too much work"):
        recipe_for(tmp_path, of_shape(87, 93, 16), (1,))


def test_photographs_get_a_latent_of_about_eight_by_eight(tmp_path):
    grids = {
        size: recipe_for(tmp_path, of_shape(size, size, 3), (1, 2)).grid for size in (28, 32, 48, 64, 96)
    }
    assert grids == {28: (7, 7), 32: (8, 8), 48: (6, 6), 64: (8, 8), 96: (6, 6)}


def test_windows_of_readings_are_neither_moved_sideways_nor_mirrored(tmp_path):
    recipe = recipe_for(tmp_path, of_shape(100, 1, 6), (1, 2), mirror=True)
    assert (recipe.shift, recipe.flip, recipe.erase) == (0, False, 0)
