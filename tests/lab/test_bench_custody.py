"""`slimwire bench custody`: every message it times is committed by a real gateway behind a real broker."""

import json
import subprocess
import sys

import pytest


@pytest.mark.needs("mosquitto")
def test_every_message_timed_was_committed() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "slimwire", "bench", "custody", "--messages", "20", "--json"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    result = json.loads(out)
    assert result["committed"] == result["messages"] == 20
    assert 0 < result["fsync_ms"] < result["bound_ms"]
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert result["met"] == (result["p50_ms"] <= result["bound_ms"])
