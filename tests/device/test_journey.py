"""A Linux device with a real gateway and a real edge server, each a process of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import numpy as np

from models.bundle import Bundle
from models.head import Head
from provisioning import device_files, identity
from tests.device.conftest import Directory
from tests.gateway.test_journey import process

GATEWAY = bytes.fromhex("02000000000000ff")
EUI = bytes.fromhex("0200000000000042")


def test_every_sample_of_a_linux_device_is_answered_with_the_class_that_the_bundle_gives(tmp_path: Path):
    bundle = Bundle.load("fashion-mnist")
    site = tmp_path / "site"
    edge_arguments = ["edge", "run", "--port", "0", "--registry", str(site / "edge-registry.json")]
    gateway_arguments = ["gateway", "run", "--state", str(tmp_path), "--listen", "127.0.0.1:0"]
    gateway_arguments += ["--registry", str(site / "registry.json")]
    settings = identity.create_device(site, gateway=GATEWAY, eui=EUI, name="linux")
    with process(tmp_path, *edge_arguments, until="listening on") as (_, edge_log):
        edge = re.search(r"http://[0-9.]+:[0-9]+", edge_log)
        assert edge
        until = "gateway: gateway"
        with process(tmp_path, *gateway_arguments, "--edge", edge[0], until=until) as (_, gateway_log):
            port = re.search(r"ZEP on UDP [0-9.]+:([0-9]+)", gateway_log)
            assert port
            settings["link"]["port"] = int(port[1])
            settings |= {"period_ms": 20, "deadline_ms": 3000, "log": ""}
            root = device_files.write_device_root(tmp_path / "device", bundle, settings)
            assert (root / "device.json").stat().st_mode & 0o777 == 0o600
            device = Directory.__new__(Directory)
            device.path = root
            running = device.start("--json", "--seconds", "2")
            output, errors = running.communicate(timeout=60)
            assert running.returncode == 0, errors
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "gateway.sock"))) as client:
                delivered = client.get("http://gateway/v1/delivered").json()["messages"]
    events = [json.loads(line) for line in output.splitlines()]
    sent = {event["c"]: event for event in events if event["e"] == "sent"}
    answers = {event["c"]: event for event in events if event["e"] == "answer"}
    assert len(answers) >= 10
    assert set(answers) >= set(sent) - {max(sent)}
    sealed = {message["counter"]: message["sha256"] for message in delivered}
    assert {sent[counter]["sealed"] for counter in answers} <= set(sealed.values())
    images, _ = bundle.camera()
    head, tail = Head(bundle.headfile), bundle.tail()
    widths = [round(1000 * width.width) for width in bundle.headfile.widths]
    for counter, answer in answers.items():
        width = widths.index(sent[counter]["w"])
        symbols = head.run(images[sent[counter]["img"]][None], width)[0]
        assert answer["cls"] == int(np.argmax(tail.run([(width, symbols)])[0]))
