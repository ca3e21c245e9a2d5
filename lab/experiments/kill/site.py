"""The processes of one run: an edge server, a gateway, perhaps a broker. Each can be killed."""

import os
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

import slimwire
from lab.demo.processes import Child, Family, free_tcp_port
from lab.experiments.kill.node import GATEWAY, SITE, Node
from models.bundle import Bundle
from security.registry import Device, EdgeRegistry, GatewayRegistry
from slimwire.errors import SlimwireError

_HOST = "127.0.0.1"
_START_SECONDS = 90.0
#: Bytes that a file of the gateway may have while its disk is "full": less than the outbox's log has.
_FULL = 48 * 1024

BROKER_CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 100000
persistence true
persistence_location {state}/
autosave_interval 1
"""


class Site:
    """Starts and kills the parts. State is kept in `directory`, so that a part that is started again goes on.

    Args:
        directory: existing and empty.
        family: where processes belong to.
        nodes: the devices, enrolled at both services.
        bundle: what the edge server serves.
        broker: whether devices reach the gateway through a broker.
    """

    def __init__(
        self, directory: Path, family: Family, nodes: list[Node], bundle: Bundle, *, broker: bool
    ) -> None:
        self._dir = directory
        self._family = family
        self._bundle = bundle
        self._env = {"PYTHONPATH": str(Path(slimwire.__file__).parent.parent), "PYTHONUNBUFFERED": "1"}
        self._lives = 0
        self._children: dict[str, Child] = {}
        self._step = directory / "step"
        self._edge_port = free_tcp_port()
        self._udp_port = free_tcp_port()
        self._mqtt_port = free_tcp_port() if broker else None
        self.edge_url = f"http://{_HOST}:{self._edge_port}"
        self.uplink = self.edge_url
        gateway = {n.eui: Device(n.eui, f"device-{n.number}", {0: n.keys}) for n in nodes}
        edge = {n.eui: Device(n.eui, "", {0: n.edge_keys}) for n in nodes}
        GatewayRegistry(GATEWAY, SITE, devices=gateway).save(directory / "registry.json")
        EdgeRegistry(devices=edge).save(directory / "edge-registry.json")

    @property
    def edge_state(self) -> Path:
        """State directory of the edge server."""
        return self._dir / "edge"

    @property
    def zep(self) -> tuple[str, int]:
        """Where the gateway listens for frames."""
        return _HOST, self._udp_port

    @property
    def mqtt(self) -> tuple[str, int]:
        """Where the broker listens."""
        assert self._mqtt_port is not None
        return _HOST, self._mqtt_port

    def start(self, part: str) -> None:
        """Start `edge`, `gateway` or `broker`, and wait until it serves. Raises TierError."""
        {"edge": self._start_edge, "gateway": self._start_gateway, "broker": self._start_broker}[part]()

    def kill(self, part: str) -> None:
        """SIGKILL to its whole group: it cannot say goodbye."""
        child = self._children.pop(part)
        os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        self._family.children.remove(child)

    def stop(self, part: str) -> None:
        """SIGTERM: it ends as a service manager ends it."""
        child = self._children.pop(part)
        self._family.stop(child, 20.0)
        self._family.children.remove(child)

    def check(self) -> None:
        """Raises TierError if a part ended by itself."""
        self._family.check()

    def fill_disk(self, *, full: bool) -> None:
        """Let every file of the gateway's end at a few kilobytes, as on a full disk; or no more."""
        pid = self._children["gateway"].process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FULL if full else hard, hard))

    def step_clock(self, seconds: float) -> None:
        """From now on the services read a time of day that is off by so much."""
        temporary = self._step.with_suffix(".new")
        temporary.write_text(f"{seconds}\n", encoding="ascii")
        temporary.replace(self._step)

    def status(self) -> dict[str, object]:
        """What the gateway says of itself."""
        return self._ask("/v1/status")

    def held(self) -> int:
        """Messages in the gateway's custody."""
        outbox = self.status()["outbox"]
        assert isinstance(outbox, dict)
        return int(outbox["messages"])

    def _start(self, part: str, command: list[str], ready: Callable[[], bool], env: dict[str, str]) -> None:
        self._lives += 1
        child = self._family.start(f"{part}-{self._lives}", command, {**self._env, **env}, cwd=self._dir)
        self._children[part] = child
        self._family.wait_until(child, ready, _START_SECONDS, "sign of life")

    def _service(self, *arguments: str) -> list[str]:
        module = ["lab.experiments.kill.stepped", str(self._step)] if self._step.exists() else ["slimwire"]
        return [sys.executable, "-m", *module, *arguments]

    def _start_edge(self) -> None:
        command = self._service(
            "edge", "run", "--host", _HOST, "--port", str(self._edge_port),
            "--bundle", str(self._bundle.path.resolve()), "--registry", str(self._dir / "edge-registry.json"),
            "--state", str(self.edge_state),
        )  # fmt: skip
        self._start("edge", command, self._edge_ready, {})

    def _start_gateway(self) -> None:
        command = self._service(
            "gateway", "run", "--listen", f"{_HOST}:{self._udp_port}", "--edge", self.uplink,
            "--registry", str(self._dir / "registry.json"), "--state", str(self._dir / "gateway"),
            "--admin", str(self._dir / "gateway.sock"),
        )  # fmt: skip
        env = {}
        if self._mqtt_port is not None:
            env["SLIMWIRE_GATEWAY__MQTT__BROKER"] = f"{_HOST}:{self._mqtt_port}"
        self._start("gateway", command, self._gateway_ready, env)

    def _start_broker(self) -> None:
        program = shutil.which("mosquitto", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
        if program is None:
            raise SlimwireError(
                "mosquitto is not installed, and it is the broker to be killed",
                remedy="apt install mosquitto, or --component gateway or edge",
            )
        state = self._dir / "broker"
        state.mkdir(mode=0o700, exist_ok=True)
        config = self._dir / "mosquitto.conf"
        text = BROKER_CONFIG.format(port=self._mqtt_port, state=state)
        if os.geteuid() == 0:
            text += "user root\n"  # else it would leave for a user who cannot write there
        config.write_text(text, encoding="utf-8")
        self._start("broker", [program, "-c", str(config)], self._broker_ready, {})

    def _edge_ready(self) -> bool:
        try:
            return httpx.get(f"{self.edge_url}/readyz", timeout=2.0).status_code == 200
        except httpx.TransportError:
            return False

    def _gateway_ready(self) -> bool:
        try:
            return bool(self._ask("/v1/status"))
        except httpx.HTTPError:
            return False

    def _broker_ready(self) -> bool:
        try:
            socket.create_connection(self.mqtt, 1.0).close()
        except OSError:
            return False
        return True

    def _ask(self, path: str) -> dict[str, object]:
        transport = httpx.HTTPTransport(uds=str(self._dir / "gateway.sock"))
        with httpx.Client(transport=transport, base_url="http://gateway", timeout=5.0) as client:
            answer: dict[str, object] = client.get(path).raise_for_status().json()
            return answer
