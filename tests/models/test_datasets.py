"""Data sets are found where the user says, verified, and refused when damaged."""

import dataclasses
import gzip
import hashlib
import http.client
import io
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from models import data_files, datasets
from models.datasets import SOURCES, load, load_npz
from models.errors import BundleError, DataMissingError


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Three 2×2 images under SLIMWIRE_DATA with pinned digests; no Debian package, no network."""
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    contents = {
        "t10k-images-idx3-ubyte.gz": struct.pack(">4BIII", 0, 0, 8, 3, 3, 2, 2) + images.tobytes(),
        "t10k-labels-idx1-ubyte.gz": struct.pack(">4BI", 0, 0, 8, 1, 3) + bytes([2, 0, 1]),
    }
    folder = tmp_path / "data" / "small"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(gzip.compress(content))
    source = dataclasses.replace(
        SOURCES["fashion-mnist"],
        debian=tmp_path / "absent",
        url=(tmp_path / "nowhere").as_uri() + "/",
        files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    )
    monkeypatch.setitem(datasets.SOURCES, "small", source)
    monkeypatch.setenv("SLIMWIRE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(data_files, "BESIDE", tmp_path / "beside")
    return folder


def test_images_come_from_the_users_folder(small):
    found = load("small", "test")
    assert (found.x.shape, found.x.dtype) == ((3, 2, 2, 1), np.uint8)
    assert found.x[1, 1, 0, 0] == 6
    assert found.y.tolist() == [2, 0, 1]


def test_damage_is_noticed(small):
    path = small / "t10k-labels-idx1-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-1] + b"\x09"))
    with pytest.raises(BundleError, match=r"has SHA-256 .*; expected"):
        load("small", "test")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BundleError, match="not a complete gzip file"):
        load("small", "test")


def test_an_absent_data_set_names_the_remedies(small):
    (small / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(BundleError, match=r"was not found in .*dataset-small or set SLIMWIRE_DATA"):
        load("small", "test")


def test_a_download_is_verified_and_kept(small, tmp_path):
    """A file URL stands in for the official source; what arrives is checked and kept for the next time."""
    name = "t10k-labels-idx1-ubyte.gz"
    (tmp_path / "nowhere").mkdir()
    (small / name).rename(tmp_path / "nowhere" / name)
    assert load("small", "test").y.tolist() == [2, 0, 1]
    assert (small / name).is_file()
    assert not list(small.glob("*.part"))


def test_a_download_that_cannot_be_kept_is_used_all_the_same(small, tmp_path, monkeypatch):
    (tmp_path / "nowhere").mkdir()
    for path in list(small.iterdir()):
        path.rename(tmp_path / "nowhere" / path.name)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SLIMWIRE_DATA", str(tmp_path / "file"))
    assert load("small", "test").y.tolist() == [2, 0, 1]


def test_a_download_that_breaks_off_is_no_data_set(small, monkeypatch):
    (small / "t10k-images-idx3-ubyte.gz").unlink()

    def broken(*_, **__):
        raise http.client.IncompleteRead(b"half")

    monkeypatch.setattr("urllib.request.urlopen", broken)
    with pytest.raises(DataMissingError, match="did not answer"):
        load("small", "test")


def test_unknown_names_are_refused():
    with pytest.raises(BundleError, match="known: cifar10, fashion-mnist"):
        load("cats", "test")
    with pytest.raises(BundleError, match="expected train or test"):
        load("fashion-mnist", "valid")


def records(count: int, seed: int) -> bytes:
    """Some of CIFAR-10's binary records: class, then planes of red, green and blue."""
    rng = np.random.default_rng(seed)
    return b"".join(
        bytes([i % 10]) + rng.integers(0, 256, 3072, dtype=np.uint8).tobytes() for i in range(count)
    )


def tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def jpegs(count: int, size: int = 32) -> dict[str, np.ndarray]:
    """The arrays of cifar10_jpeg_*.npz: flat pictures of one colour each, which JPEG keeps."""
    from PIL import Image

    files = []
    for i in range(count):
        file = io.BytesIO()
        Image.new("RGB", (size, size), (40 * i, 255 - 40 * i, 128)).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    return {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offset": np.cumsum([0, *map(len, files)]),
        "label": np.arange(count, dtype=np.uint8) % 10,
    }


def digest_of(arrays) -> str:
    return hashlib.sha256(
        b"".join(arrays[name].tobytes() for name in ("jpeg", "offset", "label"))
    ).hexdigest()


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """Lets a test pin digests of its own for CIFAR-10; it is looked for in tmp_path alone."""
    monkeypatch.setenv("SLIMWIRE_DATA", str(tmp_path))
    monkeypatch.setattr(data_files, "BESIDE", tmp_path / "beside")

    def pin(files: dict[str, str]) -> None:
        url = (tmp_path / "nowhere").as_uri() + "/"
        source = dataclasses.replace(SOURCES["cifar10"], url=url, files={**SOURCES["cifar10"].files, **files})
        monkeypatch.setitem(datasets.SOURCES, "cifar10", source)

    return pin


def pin_archive(pinned, content: bytes) -> None:
    pinned({"cifar-10-binary.tar.gz": hashlib.sha256(content).hexdigest()})


def test_the_official_archive_gives_planes_as_pixels(tmp_path, pinned):
    batches = {f"data_batch_{i}.bin": records(2, i) for i in range(1, 6)}
    content = tar({**batches, "test_batch.bin": records(3, 0)})
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(content)
    pin_archive(pinned, content)
    test = load("cifar10", "test")
    assert (test.name, test.source, test.x.shape, test.y.tolist()) == (
        "cifar10",
        "official",
        (3, 32, 32, 3),
        [0, 1, 2],
    )
    planes = np.frombuffer(records(3, 0)[1 : 1 + 3072], np.uint8).reshape(3, 32, 32)
    assert (test.x[0, 5, 7] == planes[:, 5, 7]).all()
    train = load("cifar10", "train")
    assert train.x.shape == (10, 32, 32, 3)
    assert (train.x[2].transpose(2, 0, 1).reshape(-1) == np.frombuffer(records(2, 2)[1:3073], np.uint8)).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "can't be read"),
        (tar({"data_batch_1.bin": records(1, 0)}), "can't be read"),
        (tar({"test_batch.bin": records(2, 0)[:-1]}), "expected records of 3073"),
        (tar({"test_batch.bin": b""}), "expected records of 3073"),
    ],
    ids=["text", "no-member", "cut", "empty"],
)
def test_an_archive_that_is_none_is_refused_even_where_its_digest_is_pinned(
    tmp_path, pinned, content, message
):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(content)
    pin_archive(pinned, content)
    with pytest.raises(BundleError, match=message):
        load("cifar10", "test")


def test_an_archive_of_other_bytes_is_refused(tmp_path, pinned):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(tar({"test_batch.bin": records(2, 0)}))
    with pytest.raises(BundleError, match=r"has SHA-256 .*; expected c4a38c50"):
        load("cifar10", "test")


def test_jpeg_files_are_decoded_and_named_as_such(tmp_path, pinned):
    arrays = jpegs(6)
    (tmp_path / "cifar10").mkdir()
    np.savez(tmp_path / "cifar10" / "cifar10_jpeg_test.npz", **arrays)
    pinned({"cifar10_jpeg_test.npz": digest_of(arrays)})
    found = load("cifar10", "test")
    assert (found.source, found.x.shape, found.x.dtype) == ("jpeg", (6, 32, 32, 3), np.uint8)
    assert np.abs(found.x[3, 9, 9].astype(int) - [120, 135, 128]).max() <= 2
    assert found.y.tolist() == [0, 1, 2, 3, 4, 5]


def test_jpeg_files_lie_beside_the_project_too(tmp_path, pinned):
    arrays = jpegs(2)
    (tmp_path / "beside").mkdir()
    np.savez(tmp_path / "beside" / "cifar10_jpeg_train.npz", **arrays)
    pinned({"cifar10_jpeg_train.npz": digest_of(arrays)})
    assert load("cifar10", "train").y.tolist() == [0, 1]


def test_the_official_archive_comes_before_jpeg_files(tmp_path, pinned):
    content = tar({"test_batch.bin": records(3, 0)})
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(content)
    np.savez(tmp_path / "cifar10_jpeg_test.npz", **jpegs(2))
    pin_archive(pinned, content)
    assert load("cifar10", "test").source == "official"


def test_changed_jpeg_files_are_refused(tmp_path, pinned):
    arrays = jpegs(2)
    pinned({"cifar10_jpeg_test.npz": digest_of(arrays)})
    np.savez(tmp_path / "cifar10_jpeg_test.npz", **{**arrays, "label": arrays["label"][::-1]})
    with pytest.raises(BundleError, match=r"SHA-256 .* \(jpeg, offset, label\); expected"):
        load("cifar10", "test")
    np.savez(tmp_path / "cifar10_jpeg_test.npz", jpeg=arrays["jpeg"])
    with pytest.raises(BundleError, match="lacks the array 'offset'"):
        load("cifar10", "test")


def test_what_is_no_jpeg_of_the_right_size_is_refused(tmp_path, pinned):
    other = jpegs(2, size=16)
    broken = {**other, "jpeg": np.zeros_like(other["jpeg"])}
    for arrays in (other, broken):
        np.savez(tmp_path / "cifar10_jpeg_test.npz", **arrays)
        pinned({"cifar10_jpeg_test.npz": digest_of(arrays)})
        with pytest.raises(BundleError, match="image 0 is no JPEG file of 32 × 32"):
            load("cifar10", "test")


def test_cifar10_that_is_nowhere_names_the_remedy(pinned):
    pinned({})
    with pytest.raises(
        BundleError, match=r"CIFAR-10 was not found in .*; set SLIMWIRE_DATA to a folder with cifar"
    ):
        load("cifar10", "test")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((2, 4, 4), np.uint8)}, "lacks the array 'y'"),
        ({"x": np.zeros((2, 4, 4), np.float32), "y": np.zeros(2, int)}, "x is float32 .*expected uint8"),
        ({"x": np.zeros((2, 4), np.uint8), "y": np.zeros(2, int)}, "expected uint8"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": np.zeros(3, int)}, "expected 2 integers"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": np.zeros(2)}, "expected 2 integers"),
        ({"x": np.zeros((0, 4, 4), np.uint8), "y": np.zeros(0, int)}, "holds no image"),
        ({"x": np.array([{}, {}], object), "y": np.zeros(2, int)}, "can't be read"),
    ],
)
def test_a_npz_of_the_wrong_shape_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(BundleError, match=message):
        load_npz(tmp_path / "own.npz")


def archive(**members):
    """A .npz whose members are these bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for name, content in members.items():
            out.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def deflated_and_damaged():
    """A compressed archive with a block of an unknown type in it."""
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros((2, 4, 4), np.uint8), y=np.zeros(2, int))
    content = bytearray(file.getvalue())
    content[30 + int.from_bytes(content[26:28], "little") + int.from_bytes(content[28:30], "little")] |= 6
    return bytes(content)


HUGE = npy(np.zeros((3, 28, 28), np.uint8)).replace(b"(3, 28, 28), }      ", b"(999999,9999,28), } ")
UNCLOSED = npy(np.zeros(2, np.uint8)).replace(b"(2,), }", b"((((((", 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"no archive at all",
        npy(np.zeros((3, 4, 4), np.uint8)),
        archive(x=b"hello", y=b"\x93NUMPY"),
        archive(x=HUGE, y=HUGE),
        archive(x=UNCLOSED, y=UNCLOSED),
        deflated_and_damaged(),
    ],
    ids=["empty", "zip", "npy", "text", "one-array", "no-arrays", "huge", "unclosed", "deflate"],
)
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(BundleError, match=r"own\.npz can't be read as \.npz"):
        load_npz(tmp_path / "own.npz")
