"""What is refused at start, and how a person is told."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware import config
from firmware.errors import SettingsError
from firmware.sources.file import open_source
from tests.firmware.loopback import camera, settings, start, write_device
from tests.headgen import random_head

GOOD = settings(17754)
SHAPE = (12, 12, 1)


def test_retries_after_custody_are_those_from_16_on():
    assert config.check({**GOOD, "custody": "keep-until-answer"})["retries"] == 16 + GOOD["retries"]
    assert config.check({**GOOD, "custody": "forget"})["retries"] == GOOD["retries"]


def test_settings_with_defaults():
    made = config.check(copy.deepcopy(GOOD))
    assert made["eui64"] == bytes.fromhex(GOOD["eui64"])
    assert made["link"]["pan"] == 0x23F0
    assert made["source"] == {"type": "file", "path": "camera.bin", "order": ""}
    assert made["wifi"] is None
    short = {k: v for k, v in GOOD.items() if k not in ("period_ms", "deadline_ms", "retries", "log")}
    made = config.check(short)
    assert (made["period_ms"], made["deadline_ms"], made["retries"], made["log"]) == (300, 1000, 2, "")


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("format", 2, "format 2; expected format 1"),
        ("eui64", "0200", "eui64 is '0200'; expected 16 hex digits"),
        ("eui64", "zz00000000000001", "expected 16 hex digits"),
        ("eui64", None, "eui64 is missing; expected 16 hex digits"),
        ("eui64", 7, "expected 16 hex digits"),
        ("eui64", GOOD["gateway"], "one EUI-64 for device and gateway"),
        ("root", "11" * 31, "root is a secret; expected 64 hex digits"),
        ("epoch", -1, "epoch is -1; expected a number from 0 to 4294967295"),
        ("epoch", True, "epoch is True"),
        ("site", "", "site is ''; expected text"),
        ("period_ms", 0, "period_ms is 0"),
        ("retries", 99, "expected a number from 0 to 15"),
        ("custody", "keep", "expected one of forget"),
        ("link", None, "link is missing or no object"),
        ("link", [], "link is missing or no object"),
        ("link.type", "lora", "expected one of zep"),
        ("link.port", 0, "port is 0"),
        ("link.pan", "0xffff", "pan is 65535"),
        ("link.pan", "0xq", "pan is '0xq'"),
        ("source.type", 7, "type is 7; expected text"),
        ("source.path", 3, "path is 3; expected text"),
        ("wifi", {"ssid": "field"}, "key is missing"),
    ],
)
def test_wrong_settings_are_refused_with_what_was_expected(place, value, says):
    changed = copy.deepcopy(GOOD)
    *section, key = place.split(".")
    target = changed[section[0]] if section else changed
    if value is None:
        del target[key]
    else:
        target[key] = value
    with pytest.raises(SettingsError) as error:
        config.check(changed)
    assert says in str(error.value)
    assert "To mend it: " in str(error.value)
    assert GOOD["root"] not in str(error.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(sorted(GOOD)), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), json_values), st.booleans())
def test_any_json_is_settings_or_a_settings_error(values, merge):
    with contextlib.suppress(SettingsError):
        config.check({**copy.deepcopy(GOOD), **values} if merge else values)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null"])
def test_a_file_that_is_no_object(tmp_path: Path, text: str):
    path = tmp_path / "device.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"device\.json"):
        config.load(str(path))


def opened(tmp_path: Path, content: bytes, order: bytes | None = None):
    (tmp_path / "camera.bin").write_bytes(content)
    if order is not None:
        (tmp_path / "order.bin").write_bytes(order)
    settings = {"path": "camera.bin", "order": "" if order is None else "order.bin"}
    return open_source(settings, f"{tmp_path}/", SHAPE)


def test_images_come_in_the_files_order_or_in_the_one_given(tmp_path: Path):
    content = camera(3, SHAPE)
    for order, expected in ((None, [0, 1, 2, 0, 1]), (b"\2\0\0\0\2\0\1\0", [2, 0, 2, 1, 2])):
        source = opened(tmp_path, content, order)
        image = bytearray(144)
        for index in expected:
            assert source.capture_into(image) == index
            assert image == content[12 + 144 * index : 156 + 144 * index]
        source.close()


@pytest.mark.parametrize(
    ("content", "order", "says"),
    [
        (b"", None, "no camera file"),
        (b"JPEG" + bytes(20), None, "no camera file"),
        (camera(2, (28, 28, 1)), None, "28 x 28 x 1; expected 12 x 12 x 1"),
        (camera(2, SHAPE)[:-1], None, "299 bytes; expected 2 images in 300 bytes"),
        (camera(2, SHAPE) + b"x", None, "301 bytes; expected 2 images"),
        (camera(0, SHAPE), None, "0 images"),
        (camera(2, SHAPE), b"", "0 bytes; expected 2 bytes an entry"),
        (camera(2, SHAPE), b"\0\0\1", "3 bytes"),
        (camera(2, SHAPE), b"\0\0\2\0", "names image 2; expected 0 to 1"),
    ],
)
def test_a_wrong_camera_is_refused_with_what_was_expected(tmp_path: Path, content, order, says):
    with pytest.raises(SettingsError) as error:
        opened(tmp_path, content, order)
    assert says in str(error.value)


@pytest.mark.parametrize("heap", ["128k", None], ids=["micropython", "cpython"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda root: (root / "counter.a").unlink() or (root / "counter.b").write_bytes(b""),
            "enrol it anew",
        ),
        (lambda root: (root / "head.bin").write_bytes(b"SWH9" + bytes(50)), "head.bin"),
        (lambda root: (root / "head.bin").unlink(), "copy head.bin from the bundle"),
        (lambda root: (root / "camera.bin").write_bytes(camera(1, (5, 5, 1))), "expected 12 x 12 x 1"),
        (lambda root: (root / "device.json").write_text(json.dumps(GOOD | {"eui64": "1"})), "16 hex digits"),
        (lambda root: (root / "device.json").unlink(), "enrol the device"),
    ],
    ids=["counters lost", "foreign head", "no head", "wrong shape", "wrong id", "no settings"],
)
def test_a_device_that_is_not_fit_says_why_and_ends(tmp_path: Path, spoil, says, heap):
    write_device(tmp_path, random_head(1, SHAPE, ((0, 2, 8), (2, 1, 8))).emit(), SHAPE, 9)
    spoil(tmp_path)
    process = start(tmp_path, 5, heap)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 2, output
    assert output.startswith("slimwire: ")
    assert says in output
    assert len(output.splitlines()) == 1
