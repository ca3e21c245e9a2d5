"""Records keep what became of each image, bit by bit, and refuse what they cannot mean."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BundleError
from models.records import Record, read, write

DATA = {"name": "cifar10", "source": "jpeg", "split": "test", "n": 5}


def record(row: str = "jpeg-20", right=(1, 0, 1, 1, 0), coded=(10, 300, 0, 65535, 7), **facts) -> Record:
    plain = {
        "kind": "jpeg",
        "label": "JPEG quality 20",
        "setting": "20",
        "device_macs": None,
        "server_macs": 12_000_000,
        "params": None,
        "flash_bytes": None,
        "seed": 1,
        "epochs": 38,
        "images_seen": 2_090_000,
        "command": "slimwire train --baseline jpeg-20",
    }
    return Record(row=row, **{**plain, **facts}, right=np.array(right, bool), coded=np.array(coded, np.int64))


def test_what_is_written_is_read(tmp_path):
    rows = [record(), record("independent-0.25", kind="independent", setting="0.25", device_macs=159_152)]
    write(tmp_path / "deep" / "cifar10.npz", DATA, rows)
    data, found = read(tmp_path / "deep" / "cifar10.npz")
    assert data == DATA
    assert [r.row for r in found] == ["jpeg-20", "independent-0.25"]
    assert found[0].right.tolist() == [True, False, True, True, False]
    assert found[0].coded.tolist() == [10, 300, 0, 65535, 7]
    assert (found[0].device_macs, found[1].device_macs, found[1].setting) == (None, 159_152, "0.25")
    assert found[0].top1 == 0.6


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 65535)), min_size=1, max_size=40))
def test_any_outcomes_survive(tmp_path_factory, outcomes):
    right, coded = zip(*outcomes, strict=True)
    path = tmp_path_factory.getbasetemp() / "any.npz"
    write(path, {"n": len(right)}, [record(right=right, coded=coded)])
    found = read(path)[1][0]
    assert (found.right.tolist(), found.coded.tolist()) == (list(right), list(coded))


def test_the_plain_form_needs_no_more_than_rows_and_arrays(tmp_path):
    rows = [{"row": "a", "kind": "raw", "label": "raw"}]
    arrays = {"a/right": np.packbits([1, 0, 1]), "a/bytes": np.full(3, 784, np.uint16)}
    np.savez(tmp_path / "plain.npz", rows=np.array(json.dumps(rows)), **arrays)
    data, (found,) = read(tmp_path / "plain.npz")
    assert (data, found.kind, found.setting, found.seed) == ({"n": 3}, "raw", "", None)
    assert found.right.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([record(right=(1, 0), coded=(1, 2))], "has 2 images; expected 5"),
        ([record(), record()], "two rows are called 'jpeg-20'"),
        ([record(coded=(0, 0, 0, 0, 65536))], "up to 65536 bytes"),
        ([record(kind="guess")], "is of kind 'guess'; expected one of ours, "),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path, rows, message):
    with pytest.raises(BundleError, match=message):
        write(tmp_path / "bad.npz", DATA, rows)


@pytest.mark.parametrize(
    ("rows", "arrays", "message"),
    [
        (
            [{"row": "a", "kind": "raw"}],
            {"a/right": np.zeros(2, np.uint8), "a/bytes": np.zeros(3, int)},
            "expected uint8",
        ),
        ([{"row": "a", "kind": "raw"}], {"a/right": np.zeros(1, np.uint8)}, "can't be read as records"),
        ({"row": "a"}, {}, "can't be read as records"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, rows, arrays, message):
    np.savez(tmp_path / "bad.npz", rows=np.array(json.dumps(rows)), **arrays)
    with pytest.raises(BundleError, match=message):
        read(tmp_path / "bad.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(BundleError, match="can't be read as records"):
        read(tmp_path / "bad.npz")
    with pytest.raises(BundleError, match="can't be read as records"):
        read(tmp_path / "absent.npz")
