"""Bundles: what ships loads and fits; what is damaged, foreign or wrong is refused with what was expected."""

import hashlib
import json
import shutil
from itertools import pairwise

import numpy as np
import pytest

from models.bundle import SHIPPED, Bundle, shipped
from models.errors import BundleError
from models.heap import heap_bytes


@pytest.fixture
def copy(tmp_path):
    """A writable copy of the shipped bundle."""
    shutil.copytree(SHIPPED / "fashion-mnist", tmp_path / "copy")
    return tmp_path / "copy"


def edit(directory, change):
    """Applies ``change`` to the parsed bundle.json and writes it back."""
    path = directory / "bundle.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def test_the_shipped_bundle_is_complete():
    assert "fashion-mnist" in shipped()
    bundle = Bundle.load("fashion-mnist")
    assert bundle.name == "fashion-mnist"
    assert len(bundle.classes) == 10
    assert [row["width"] for row in bundle.widths] == [0.25, 0.5, 0.75, 1.0]
    x, y = bundle.camera()
    assert (x.shape, x.dtype, y.shape) == ((512, 28, 28, 1), np.uint8, (512,))
    assert bundle.digest == hashlib.sha256((bundle.path / "bundle.json").read_bytes()).hexdigest()
    assert bundle.head_bytes == bundle.headfile.emit()


def test_the_shipped_figures_are_what_the_design_asks_for():
    rows = Bundle.load("fashion-mnist").widths
    assert rows[-1]["top1"] >= 0.85
    assert rows[0]["frames"]["mean"] < rows[-1]["frames"]["mean"]
    for narrow, wide in pairwise(rows):
        assert narrow["top1"] < wide["top1"]
        assert narrow["bytes"]["mean"] < wide["bytes"]["mean"]
        assert narrow["macs"] < wide["macs"]
    assert Bundle.load("fashion-mnist").headfile.ram_bytes(3) <= 30 << 10


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_head_fits_the_heap_its_bundle_names(name):
    """Weights, activations, tables and plans: at most 30 KiB of a heap of 64, 70 of one of 128."""
    bundle = Bundle.load(name)
    held = heap_bytes(bundle.head_bytes)
    assert held is None or held <= {64: 30 << 10, 128: 70 << 10}[bundle.heap_kib]
    for narrow, wide in pairwise(bundle.widths):
        assert narrow["macs"] < wide["macs"]
        assert narrow["bytes"]["mean"] < wide["bytes"]["mean"]
        assert narrow["top1"] < wide["top1"]


def test_a_directory_loads_like_a_name(copy):
    assert Bundle.load(copy).digest == Bundle.load("fashion-mnist").digest
    assert Bundle.load(str(copy)).info == Bundle.load("fashion-mnist").info


@pytest.mark.parametrize("name", ["no-such-bundle", "../bundles/fashion-mnist", "", "fashion-mnist/head.bin"])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(BundleError, match=r"is no bundle; expected .*fashion-mnist"):
        Bundle.load(name)


@pytest.mark.parametrize("name", ["head.bin", "tail.tflite", "camera.npz"])
def test_damaged_truncated_and_missing_files_are_refused(copy, name):
    path = copy / name
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(BundleError, match=f"{name} has SHA-256 .*; expected "):
        Bundle.load(copy)
    path.write_bytes(content[:-1])
    with pytest.raises(BundleError, match=f"{name} has SHA-256 .*; expected "):
        Bundle.load(copy)
    path.unlink()
    with pytest.raises(BundleError, match=f"{name} can't be read"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.update(format=2), "has format 2; expected 1"),
        (lambda info: info.pop("format"), "has format None; expected 1"),
        (lambda info: info.update(classes="ten"), "'classes' is 'ten'; expected a list"),
        (lambda info: info.pop("tail"), "'tail' is None; expected a dict"),
        (lambda info: info["head"].update(file="../head.bin"), "expected a file name and its sha256"),
        (lambda info: info["head"].pop("sha256"), "expected a file name and its sha256"),
        (lambda info: info["input"].update(height=32), "'input' is .*32.*; its head has .*28"),
        (lambda info: info["latent"].update(levels=8), "'latent' is .*; its head has"),
        (lambda info: info["widths"].pop(), "figures for widths .*; its head has"),
        (lambda info: info.update(widths=[1, 2, 3, 4]), "figures for widths"),
        (
            lambda info: info["classes"].__setitem__(3, None),
            "'classes' is .*None.*; expected a list of names",
        ),
        (lambda info: info.update(classes=[]), r"'classes' is \[\]; expected a list of names"),
        (lambda info: info["widths"][1].pop("top1"), "'top1' of width 0.5 is None; expected a number"),
        (lambda info: info["widths"][1].update(top1=92.07), "'top1' of width 0.5 is 92.07; .* from 0 to 1"),
        (lambda info: info["widths"][0].update(top1=True), "'top1' of width 0.25 is True"),
        (lambda info: info["widths"][3].update(frames=2), "'frames.mean' of width 1.0 is None"),
        (lambda info: info["widths"][3]["frames"].update(mean=0), "'frames.mean' of width 1.0 is 0"),
        (lambda info: info["widths"][3]["bytes"].update(mean=float("nan")), "'bytes.mean' .* is nan"),
        (lambda info: info["widths"][3].update(macs="many"), "'macs' of width 1.0 is 'many'"),
    ],
)
def test_a_bundle_json_that_is_wrong_or_does_not_fit_is_refused(copy, change, message):
    edit(copy, change)
    with pytest.raises(BundleError, match=message):
        Bundle.load(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\xff", "[" * 100_000])
def test_a_bundle_json_that_is_not_an_object_is_refused(copy, text):
    (copy / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"is not JSON|has format 'list'; expected 1"):
        Bundle.load(copy)


def replace_file(directory, part, content):
    """Puts other content into a bundle's file, with the right digest."""

    def change(info):
        (directory / info[part]["file"]).write_bytes(content)
        info[part]["sha256"] = hashlib.sha256(content).hexdigest()

    edit(directory, change)


def test_a_tail_that_is_no_model_is_refused(copy):
    replace_file(copy, "tail", b"not a model")
    with pytest.raises(BundleError, match="the tail is no LiteRT model"):
        Bundle.load(copy).tail()


def test_a_tail_for_other_classes_is_refused(copy):
    edit(copy, lambda info: info["classes"].pop())
    with pytest.raises(BundleError, match=r"expected \(N, 9\)"):
        Bundle.load(copy).tail()


@pytest.mark.parametrize("label", [-1, 10])
def test_a_camera_with_labels_of_no_class_is_refused(copy, tmp_path, label):
    np.savez(tmp_path / "other.npz", x=np.zeros((2, 28, 28), np.uint8), y=np.array([0, label]))
    replace_file(copy, "camera", (tmp_path / "other.npz").read_bytes())
    with pytest.raises(BundleError, match=r"camera labels go from .*; expected 0 to 9"):
        Bundle.load(copy).camera()


def test_a_camera_of_another_shape_is_refused(copy, tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros((5, 32, 32, 3), np.uint8), y=np.zeros(5, np.int64))
    replace_file(copy, "camera", (tmp_path / "other.npz").read_bytes())
    with pytest.raises(BundleError, match=r"camera images are \(32, 32, 3\); expected \(28, 28, 1\)"):
        Bundle.load(copy).camera()
