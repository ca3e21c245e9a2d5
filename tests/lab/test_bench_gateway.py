"""The benches of the outbox and the gateway count what was really done. No time is asserted."""

import json

import pytest
from typer.testing import CliRunner

from lab.bench import gateway, outbox
from lab.bench.cli import app
from slimwire.errors import SlimwireError


def test_the_outbox_commits_more_together_than_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_SECONDS", 0.05)
    result = outbox.measure(rounds=1)
    assert set(result) == {"commits_per_s", "one_by_one_per_s", "ratio", "messages_per_commit"}
    assert result["ratio"] > 1
    assert result["messages_per_commit"] > 1


def test_the_gateway_serves_every_message_of_a_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_STRETCH", 2048)
    result = gateway.measure(4096)
    assert result["frames"] == 4096
    assert result["frames_per_s"] == pytest.approx(4 * result["latents_per_s"], abs=4)
    assert result["radio_channels"] == result["frames_per_s"] // 230
    assert result["cpu_us_per_frame"] > 0
    _, tenth, _, end = result["resident_bytes"]
    assert min(result["resident_bytes"]) > 0
    assert result["growth_bytes"] == end - tenth


def test_a_message_that_is_refused_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_STRETCH", 512)
    monkeypatch.setattr(gateway, "GATEWAY", bytes(8))
    with pytest.raises(SlimwireError, match="not-ours"):
        gateway.measure(512)


@pytest.mark.soak
def test_memory_stays_flat_over_a_million_frames() -> None:
    result = gateway.measure(1_000_000)
    assert result["frames"] > 990_000
    _, tenth, half, end = result["resident_bytes"]
    # Queues that are longer than before take some MB; whatever stayed of each message would take tens.
    assert end - tenth < 6 << 20
    assert end - half < 3 << 20


def test_the_commands_print_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    committed = {"commits_per_s": 90000, "one_by_one_per_s": 3000, "ratio": 30.0, "messages_per_commit": 900}
    served = {
        "latents_per_s": 4000, "frames_per_s": 16000, "cpu_us_per_frame": 50.0, "radio_channels": 69,
        "frames": 200_000, "growth_bytes": 1 << 20,
        "resident_bytes": [80 << 20, 92 << 20, 93 << 20, 93 << 20],
    }  # fmt: skip
    monkeypatch.setattr(outbox, "measure", lambda **_: committed)
    monkeypatch.setattr(gateway, "measure", lambda *_: served)
    run = CliRunner().invoke
    assert json.loads(run(app, ["outbox", "--json"]).stdout) == committed
    assert json.loads(run(app, ["gateway", "--json"]).stdout) == served
    assert "30.0 times as many" in " ".join(run(app, ["outbox"]).stdout.split())
    assert "69 saturated channels" in " ".join(run(app, ["gateway"]).stdout.split())
