"""How long custody takes a Wi-Fi device: from its PUBLISH, through mosquitto and a gateway process, whose
outbox commits with full durability, to the custody ack it verified; all on loopback.

The bound is the disk's own: two fsyncs of a page appended to a file, measured on the same file system between
the messages, and 2 ms.
"""

import os
import random
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

import slimwire
from lab.demo.processes import Family, free_tcp_port
from security import chain, custody
from security.keys import derive_gateway
from security.registry import Device, GatewayRegistry
from slimwire.errors import SlimwireError
from wire import eui64, mqtt
from wire.errors import WireError
from wire.message import Kind, octet0
from wire.reply import Custody, CustodyStatus

_SITE = "bench"
_GATEWAY = bytes.fromhex("02000000000000ff")
_DEVICE = bytes.fromhex("0200000000000001")
_HOST = "127.0.0.1"
_SEALED = 200
_PATIENCE = 20.0
_BROKER = """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 0
"""


class _Wifi:
    """A device at the broker: publishes a message, waits for its custody ack."""

    def __init__(self, port: int, root: bytes) -> None:
        self._at = 0.0
        self._keys = derive_gateway(root, _DEVICE, 0, _SITE)
        self._heard = threading.Event()
        self._subscribed = threading.Event()
        self._awaited = 0
        self._client = client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        client.on_socket_open = _no_delay
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = self._on_message
        client.connect(_HOST, port)
        client.subscribe(mqtt.topic(_SITE, _DEVICE, mqtt.DOWN), qos=0)
        client.loop_start()
        if not self._subscribed.wait(_PATIENCE):
            raise SlimwireError("the broker does not answer")

    def once(self, counter: int, sealed: bytes) -> float:
        """Seconds from PUBLISH to custody."""
        slices = chain.make(
            self._keys.frag_up,
            _DEVICE,
            eui64.link_local(_DEVICE),
            eui64.link_local(_GATEWAY),
            octet0=octet0(Kind.DATA, 0),
            counter=counter,
            sealed=sealed,
            single_room=1232,
            first_room=1232,
            slice_room=1232,
        )
        (packet,) = mqtt.fragments(counter, slices)
        self._awaited = counter
        self._heard.clear()
        began = time.perf_counter()
        self._client.publish(mqtt.topic(_SITE, _DEVICE, mqtt.UP), packet, qos=1)
        if not self._heard.wait(_PATIENCE):
            raise SlimwireError(f"no custody for message {counter} within {_PATIENCE:.0f} s")
        return self._at - began

    def close(self) -> None:
        """End the connection."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Client, _data: object, message: Any) -> None:
        at = time.perf_counter()
        try:
            fragment = mqtt.Fragment.parse(message.payload)
            ack = Custody.parse(fragment.data)
        except WireError:
            return
        if (
            ack.counter == self._awaited
            and ack.status is CustodyStatus.COMMITTED
            and custody.verify(self._keys.frag_dn, _GATEWAY, _DEVICE, ack)
        ):
            self._at = at
            self._heard.set()


def _no_delay(_client: Client, _data: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _fsync(file: int) -> float:
    """Seconds that the fsync of a page takes that was appended, as a log's is."""
    os.write(file, os.urandom(4096))
    began = time.perf_counter()
    os.fsync(file)
    return time.perf_counter() - began


def measure(messages: int, seed: int, directory: Path | None = None) -> dict[str, Any]:
    """Run broker, gateway and device, and take the times.

    Args:
        messages: one after the other.
        seed: of their bytes.
        directory: on the file system to measure; None: a temporary one.

    Raises:
        SlimwireError: mosquitto is not installed, or a process did not start.
    """
    program = shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    if program is None:
        raise SlimwireError("mosquitto is not installed", remedy="Debian, Ubuntu: sudo apt install mosquitto")
    draw = random.Random(f"custody {seed}")
    with (
        tempfile.TemporaryDirectory(prefix="slimwire-bench-", dir=directory) as name,
        Family(Path(name)) as family,
    ):
        place = Path(name)
        port, root = free_tcp_port(), draw.randbytes(32)
        (place / "mosquitto.conf").write_text(_BROKER.format(port=port))
        broker = family.start("broker", [program, "-c", str(place / "mosquitto.conf")])
        keys = {0: derive_gateway(root, _DEVICE, 0, _SITE)}
        GatewayRegistry(_GATEWAY, _SITE, devices={_DEVICE: Device(_DEVICE, "device", keys)}).save(
            place / "registry.json"
        )
        env = {
            "PYTHONPATH": str(Path(slimwire.__file__).parent.parent),
            "SLIMWIRE_GATEWAY__MQTT__BROKER": f"{_HOST}:{port}",
            "SLIMWIRE_GATEWAY__LISTEN": "",
            "SLIMWIRE_GATEWAY__STATE": name,
            "SLIMWIRE_GATEWAY__REGISTRY": str(place / "registry.json"),
            # Nobody is there: custody does not wait for an edge server.
            "SLIMWIRE_GATEWAY__EDGE": f"http://{_HOST}:{free_tcp_port()}",
        }
        gateway = family.start("gateway", [sys.executable, "-m", "slimwire", "gateway", "run"], env)
        transport = httpx.HTTPTransport(uds=str(place / "gateway.sock"))
        with httpx.Client(transport=transport, base_url="http://gateway") as admin:

            def ready() -> bool:
                try:
                    return admin.get("/readyz").status_code == 200
                except httpx.HTTPError:
                    return False

            family.wait_until(gateway, ready, 60.0, "connection to the broker")
            device = _Wifi(port, root)
            file = os.open(place / "fsync", os.O_CREAT | os.O_RDWR, 0o600)
            try:
                times, syncs = [], []
                for counter in range(1, messages + 1):
                    times.append(device.once(counter, draw.randbytes(_SEALED)))
                    syncs.append(_fsync(file))
            finally:
                os.close(file)
                device.close()
            committed = int(admin.get("/v1/status").json()["outbox"]["committed"])
        family.stop(gateway)
        family.stop(broker)
    p50, sync = statistics.median(times), statistics.median(syncs)
    return {
        "messages": messages,
        "committed": committed,
        "p50_ms": round(1000 * p50, 3),
        "p99_ms": round(1000 * sorted(times)[int(0.99 * (messages - 1))], 3),
        "fsync_ms": round(1000 * sync, 3),
        "bound_ms": round(2000 * sync + 2, 3),
        "met": p50 <= 2 * sync + 0.002,
    }
