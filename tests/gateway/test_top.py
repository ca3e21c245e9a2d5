"""What people read of a running gateway: texts are shown as they are, brackets and all."""

from typing import Any

import pytest
from rich.console import Console

from gateway import cli
from gateway.top import Sample, view
from slimwire import output

ADVICE = "the mqtt leg does not work: start it, or correct `broker` in [mqtt]"
STATUS: dict[str, Any] = {
    "gateway": "02" * 8,
    "site": "hall [north]",
    "uptime_s": 5.0,
    "messages": 0,
    "memory": {"used": 0, "bound": 4096},
    "outbox": {
        "messages": 0,
        "bytes": 0,
        "bound": 1,
        "oldest_s": None,
        "hours_left": None,
        "durable": True,
        "writable": True,
    },
    "uplink": {
        "edge": "http://[fe80::1]:8080",
        "servers": {"http://[fe80::1]:8080": "open"},
        "problems": {"http://[fe80::1]:8080": "ConnectError"},
        "away": True,
        "delivered": 0,
    },
    "legs": [
        {"name": "mqtt", "description": "correct `broker` in [mqtt]", "up": False, "received": 0, "sent": 0}
    ],
    "fragments": {"accepted": 0, "rejected": {}},
    "advice": [ADVICE],
    "devices": 1,
}
DEVICES: dict[str, Any] = {
    "devices": [
        {
            "device": "03" * 8,
            "name": "door [/left]",
            "trust": 0.5,
            "standing": "full",
            "messages": 0,
            "rejected": 0,
            "last_heard_s": None,
        }
    ],
    "strangers": [],
}


def test_the_live_view_shows_brackets() -> None:
    console = Console(width=150, record=True)
    console.print(view(Sample(0.0, STATUS, DEVICES), None))
    shown = console.export_text()
    for text in (ADVICE, "hall [north]", "door [/left]"):
        assert text in shown
    assert shown.count("[mqtt]") == 2


def test_the_status_shows_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=150, record=True)
    monkeypatch.setattr(output, "stdout", console)
    monkeypatch.setattr(cli, "_ask", lambda _, path: STATUS if path == "/v1/status" else DEVICES)
    cli.status()
    shown = console.export_text()
    for text in (ADVICE, "hall [north]", "door [/left]", "[fe80::1]"):
        assert text in shown
