"""The firmware meets the golden vectors: on a real MicroPython, and on CPython."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.firmware import vectors_on_device
from tests.vectors.registry import VECTORS, case_name, claim

CASES = {
    "answer": claim("answer.json", "firmware"),
    "chain": claim("chain.json", "firmware"),
    "custody": claim("custody.json", "firmware"),
    "epoch": claim("epoch.json", "firmware"),
    "frames": claim("frames.json", "firmware"),
    "journey": claim("journey.json", "firmware"),
    "keys": claim("keys.json", "firmware"),
    "latent": claim("latent.json", "firmware"),
    "mqtt": claim("mqtt.json", "firmware"),
    "rans": claim("rans.json", "firmware"),
    "recoverable": claim("recoverable.json", "firmware"),
    "recovery": claim("recovery.json", "firmware"),
    "seal": claim("seal.json", "firmware"),
}


@pytest.mark.parametrize("name", CASES)
def test_micropython_meets_the_vectors(name: str, run_micropython):
    script = Path(vectors_on_device.__file__).read_text()
    # The heap is for the vectors' JSON text, not for the firmware.
    out = run_micropython(script, str(VECTORS / f"{name}.json"), heap="1m").decode()
    assert out.splitlines() == [f"met {case['name']}" for case in CASES[name]]


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, id=f"{name}: {case_name(case)}")
        for name, cases in CASES.items()
        for case in cases
    ],
)
def test_cpython_meets_the_vectors(
    name: str, case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    vectors_on_device.CHECKS[name](case)
