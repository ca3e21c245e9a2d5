"""The firmware on real MicroPython, a real gateway and edge server: what custody is to a device."""

import json
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import firmware
from edge_server.store import Store
from models.bundle import Bundle
from provisioning import device_files, identity
from tests.firmware.conftest import micropython  # noqa: F401  (a fixture)
from tests.gateway.test_journey import PATIENCE, admin, process

EUI = bytes.fromhex("0200000000000005")
DEADLINE_MS = 150


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path


def enrolled(site: Path, port: int) -> Path:
    link = {
        "type": "zep", "host": "127.0.0.1", "port": port, "bind": 0, "channel": 26, "pan": "0x23f0",
        "gap_ms": 2,
    }  # fmt: skip
    options = identity.DeviceOptions(link=link, period_ms=50, deadline_ms=DEADLINE_MS, retries=3)
    device = identity.create_device(site, eui=EUI, options=options)
    return device_files.write_device_root(site / "device", Bundle.load("fashion-mnist"), device)


def events(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / identity.LOG_FILE).read_text().splitlines()]


def test_a_device_lets_go_of_a_message_at_its_custody_ack_and_the_edge_server_gets_it_later(
    site: Path,
    micropython: str,  # noqa: F811
) -> None:
    identity.create_device(site, eui=bytes.fromhex("02000000000000ee"))  # makes the site's registries
    arguments = [
        "gateway", "run", "--state", str(site / "gateway"), "--registry", str(site / "registry.json"),
        "--listen", "127.0.0.1:0", "--edge", "http://127.0.0.1:9",
    ]  # fmt: skip
    with process(site, *arguments, until="gateway: gateway") as (_, log):
        found = re.search(r"ZEP on UDP [0-9.]+:([0-9]+)", log)
        assert found
        home = enrolled(site, int(found[1]))
        socket = site / "gateway" / "gateway.sock"
        ends = time.monotonic() + PATIENCE
        while len(admin(socket, "/v1/devices")["devices"]) < 2:
            assert time.monotonic() < ends
            time.sleep(0.05)
        subprocess.run(
            [micropython, "-X", "heapsize=512k", "-m", "firmware.main", str(home), "2"],
            env={"MICROPYPATH": f"{Path(firmware.__file__).parent.parent}:.frozen"},
            check=True,
            timeout=PATIENCE,
        )
        told = events(home)
        sent = Counter(event["c"] for event in told if event["e"] == "sent")
        custody = [(event["c"], event["status"]) for event in told if event["e"] == "custody"]
        # Nobody answers, and yet nothing is sent twice and nothing is given up.
        assert len(sent) >= 5
        assert set(sent.values()) == {1}
        assert custody == [(counter, "committed") for counter in sorted(sent)]
        assert not [event for event in told if event["e"] in ("lost", "answer")]
        assert admin(socket, "/v1/status")["outbox"]["messages"] == len(sent)
    # Another gateway process, and now there is an edge server: what was promised is kept.
    state = site / "edge"
    running = [
        "edge", "run", "--port", "0", "--registry", str(site / "edge-registry.json"), "--state", str(state),
    ]  # fmt: skip
    with process(site, *running, until="listening on") as (_, log):
        url = re.search(r"http://[0-9.]+:[0-9]+", log)
        assert url
        with process(site, *arguments[:-1], url[0], until="gateway: gateway"):
            while admin(socket, "/v1/status")["uplink"]["delivered"] < len(sent):
                assert time.monotonic() < ends
                time.sleep(0.05)
    epoch = json.loads((home / "device.json").read_text())["epoch"]
    with Store(state) as store:
        assert all(store.used(EUI, epoch, counter) for counter in sent)
