"""Measurements compare the same thing: every implementation gives the same symbols. No time is asserted."""

import json
import platform

import numpy as np
import pytest
from typer.testing import CliRunner

from lab.bench import cli, head, interpreter, linux, plain, switch
from models.head import Head
from models.headfile import HeadFile
from slimwire.errors import SlimwireError
from tests import headgen
from tests.headgen import CONV, DEPTHWISE, POINTWISE

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="MicroPython's unix port comes as a wheel for x86-64 only"
)

LAYERS = ((CONV, 2, 8), (DEPTHWISE, 1, 8), (POINTWISE, 1, 12), (CONV, 2, 8), (POINTWISE, 1, 3))
HEAD = HeadFile.parse(headgen.random_head(1, (9, 8, 1), LAYERS).emit())
# LiteRT knows multipliers of 24 significant bits, as the export makes them.
LITERT_HEAD = HeadFile.parse(headgen.random_head(1, (9, 8, 1), LAYERS, mult_bits=24).emit())
IMAGE = np.random.default_rng(1).integers(0, 256, (9, 8, 1)).astype(np.uint8)


def test_every_implementation_runs_the_head_at_every_width():
    rows = head.measure(HEAD, IMAGE, rounds=1)
    assert [row["width"] for row in rows] == [0.25, 0.5, 0.75, 1.0]
    assert [row["macs"] for row in rows] == [HEAD.macs(index) for index in range(4)]
    for row in rows:
        assert set(row) == {"width", "macs", "viper_us", "viper_flash_us", "plain_us", "numpy_us", "c_us"}
        assert min(row["viper_us"], row["plain_us"], row["numpy_us"]) > 0


def test_an_implementation_with_another_symbol_ends_the_measurement(monkeypatch):
    monkeypatch.setattr(head, "_numpy", lambda *_: lambda index, _: (1.0, b"\0" * 5))
    with pytest.raises(SlimwireError, match="numpy gives other symbols than the reference at width 0"):
        head.measure(HEAD, IMAGE, rounds=1)


def test_without_a_compiler_the_column_is_empty_and_says_why(monkeypatch, capsys):
    monkeypatch.setattr(head.shutil, "which", lambda _: None)
    rows = head.measure(HEAD, IMAGE, rounds=1)
    assert [row["c_us"] for row in rows] == [None] * 4
    assert "no C compiler" in capsys.readouterr().err


def test_a_linux_device_s_head_is_measured_beside_a_board_s():
    result = linux.measure(LITERT_HEAD, IMAGE, rounds=1)
    assert result["runtime"].split()[0] in ("ai-edge-litert", "tflite-runtime")
    assert [row["width"] for row in result["widths"]] == [0.25, 0.5, 0.75, 1.0]
    for row in result["widths"]:
        assert set(row) == {"width", "macs", "litert_us", "viper_us", "coder_us", "times"}
        assert min(row.values()) > 0


def test_a_linux_head_with_another_symbol_ends_the_measurement(monkeypatch):
    monkeypatch.setattr(linux.LiteRtHead, "run", lambda self, image: bytes(self.n_symbols))
    with pytest.raises(SlimwireError, match="different symbols at width 0"):
        linux.measure(LITERT_HEAD, IMAGE, rounds=1)


def test_a_switch_allocates_nothing_and_is_less_than_a_reload():
    result = switch.measure(HEAD, seed=3, rounds=2)
    assert set(result) == {"switch_us", "reload_us", "heap_bytes", "flash"}
    assert set(result["flash"]) == {"switch_us", "reload_us", "heap_bytes"}
    assert result["heap_bytes"] == result["flash"]["heap_bytes"] == 0


def test_a_head_of_one_width_gives_that_widths_symbols():
    for index in range(len(HEAD.widths)):
        alone = switch.single_width(HEAD, index)
        assert HeadFile.parse(alone.emit()).widths[0].thousandths == HEAD.widths[index].thousandths
        assert len(alone.weights) <= len(HEAD.weights)
        expected = Head(HEAD).run(IMAGE[None], index)
        assert np.array_equal(Head(alone).run(IMAGE[None], 0), expected)


def test_plain_python_has_nothing_of_viper():
    source = plain.without_viper((interpreter.firmware_root() / "firmware" / "kernels.py").read_text("utf-8"))
    for word in ("@micropython", "ptr8(", "ptr16(", "ptr32("):
        assert word not in source
    assert "x[x_at + 1] * w[w_at + 1]" in source


def test_a_script_that_fails_is_an_error_that_says_how():
    with (
        interpreter.Worker("head.py", ["/nonexistent", "/nonexistent", "ram"]) as worker,
        pytest.raises(SlimwireError, match=r"MicroPython ended in head\.py: OSError"),
    ):
        worker.ask("0 1")


def test_the_command_prints_one_object_and_refuses_a_bundle_that_is_not_there():
    result = CliRunner().invoke(cli.app, ["switch", "--json", "--seed", "2", "--bundle", "fashion-mnist"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["heap_bytes"] == 0
    result = CliRunner().invoke(cli.app, ["head", "--bundle", "no-such"])
    assert isinstance(result.exception, SlimwireError)
    assert "no-such is no bundle" in str(result.exception)
