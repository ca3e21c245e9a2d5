"""One run of the demo: start every tier, watch, stop, and add up what happened."""

import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

import firmware
import slimwire
from edge_server.store import Store
from lab.attacks import inject
from lab.demo import report
from lab.demo.devices import GATEWAY, Home, Pace, enrol
from lab.demo.processes import Child, Family, TierError, free_tcp_port, interruptible
from lab.demo.report import Air, Delivered, DeviceLog, LogReader
from lab.demo.view import Device, State, View
from lab.sim import air
from lab.sim import trace as traces
from models.bundle import Bundle
from models.errors import BundleError
from slimwire.errors import SlimwireError

_START_SECONDS = 90.0
_DRAIN_SECONDS = 20.0
_POLL = 0.1
_ASK_EVERY = 1.0
_SHOWN_WIDTHS = 24
_HOST = "127.0.0.1"
#: KiB of heap that a Wi-Fi device gets on top; its link takes 7 more than the radio's.
_WIFI_HEAP = 16


@dataclass(frozen=True)
class Plan:
    """What to run. Rates in kb/s, times in ms unless said otherwise.

    `low`, `high` and `speed` rescale the trace (`lab.sim.trace`); `deadline_ms` is the edge server's, in
    which answers count as on time: as long as a device waits before it sends again, so that every width can
    pay while the link is good. `policy` is its width control; `pace` is the devices' own.
    """

    seconds: float = 30.0
    devices: int = 3
    wifi: int = 1
    attack: bool = True
    seed: int = 7
    bundle: str = "fashion-mnist"
    trace: str = "norway3g-20110202"
    verifier: str = "chain"
    pcap: Path | None = None
    pcap_legit: Path | None = None
    low: float = 80.0
    high: float = 250.0
    speed: float = 4.0
    deadline_ms: int = 1000
    policy: str = "slimwire"
    pace: Pace = field(default_factory=lambda: Pace(period_ms=250, deadline_ms=1000, retries=3, gap_ms=15))
    attack_rate: float = 32.0


def run(plan: Plan, view: View) -> dict[str, Any]:
    """Run it, show it in `view`, and return the object of `lab.demo.report.build`.

    Raises:
        TierError: a process did not start or ended early; names it, shows the end of its log, and
            keeps the run's
            directory.
        KeyboardInterrupt: after SIGINT, SIGTERM or SIGHUP. In every case all processes have ended.
    """
    try:
        bundle = Bundle.load(plan.bundle)
    except BundleError as error:
        raise SlimwireError(
            str(error), remedy="name a bundle that ships, or a directory: --bundle"
        ) from error
    known = ("slimwire", *(f"fixed-{item['width']:g}" for item in bundle.widths))
    if plan.policy not in {*known, *(f"fixed-{item['width']:.1f}" for item in bundle.widths)}:
        raise SlimwireError(
            f"{plan.policy!r} is no policy for the bundle {bundle.name}",
            expected="one of " + ", ".join(known),
        )
    traces.load(plan.trace)
    _check_captures(plan.pcap, plan.pcap_legit)
    directory = Path(tempfile.mkdtemp(prefix="slimwire-demo-"))
    keep = False
    try:
        with interruptible(), ExitStack() as stack:
            stack.enter_context(view)
            family = stack.enter_context(Family(directory))
            return _Run(plan, bundle, directory, family, view).go()
    except TierError:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def _check_captures(*paths: Path | None) -> None:
    """Raises SlimwireError for a capture that cannot be written, or two that are one file."""
    given = [path.resolve() for path in paths if path is not None]
    if len(set(given)) < len(given):
        raise SlimwireError(
            f"--pcap and --pcap-legit are both {given[0]}",
            expected="two files: the second lacks the attacker's frames",
        )
    for path in given:
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise SlimwireError(
                f"the capture {path} cannot be written",
                expected="a file in a directory that can be written to",
            )


class _Run:
    """The state of one run."""

    def __init__(self, plan: Plan, bundle: Bundle, directory: Path, family: Family, view: View) -> None:
        self._plan = plan
        self._bundle = bundle
        self._dir = directory
        self._family = family
        self._view = view
        self._pictures = bundle.pictures()
        #: The picture's class by its index; of generated pictures there is none.
        self._labels = None if self._pictures.y is None else self._pictures.y.tolist()
        self._widths = {round(item["width"] * 1000): float(item["top1"]) for item in bundle.widths}
        self._env = {"PYTHONPATH": str(Path(slimwire.__file__).parent.parent), "PYTHONUNBUFFERED": "1"}
        self._air = Air()
        self._air_lines = LogReader(directory / "air.jsonl")

        self._rate = 0.0
        self._forged: Counter[str] = Counter()
        self._delivered: list[Delivered] = []
        self._seen = 0
        self._status: dict[str, Any] = {}
        self._trust: dict[str, float] = {}

    def go(self) -> dict[str, Any]:
        """Start, watch, stop, report."""
        plan, family = self._plan, self._family
        if self._labels is None:
            self._view.note(
                f"{self._bundle.info['data']['name']} is not on this machine (SLIMWIRE_DATA): "
                f"{self._pictures.origin} instead, so no answer is right or wrong"
            )
        self._view.note("starting the radio and the edge server")
        air_child, ports = self._start_air()
        broker = free_tcp_port()
        homes = enrol(
            self._dir,
            count=plan.devices,
            seed=plan.seed,
            air=(_HOST, ports["port"]),
            bundle=self._bundle,
            pace=plan.pace,
            wifi=plan.wifi,
            broker=broker,
        )
        edge, edge_url = self._start_edge()
        gateway = self._start_gateway(ports["port"], edge_url, broker)
        with self._admin() as admin:
            family.wait_until(edge, lambda: _ready(f"{edge_url}/readyz"), _START_SECONDS, "answer of /readyz")
            family.wait_until(
                gateway, lambda: _ready("/healthz", admin), _START_SECONDS, "answer of /healthz"
            )
            attacker = self._start_attacker(ports["attacker_port"]) if plan.attack else None
            self._view.note(
                f"starting {plan.devices} devices" + (f" and {plan.wifi} on Wi-Fi" if plan.wifi else "")
            )
            logs = self._start_devices(homes)
            self._watch(logs, admin)
            if attacker is not None:
                family.stop(attacker)
            family.stop(air_child)
            self._come_to_rest(admin)
            self._ask(admin)
        self._read_air()
        family.stop(gateway)
        family.stop(edge)
        with Store(self._dir / "edge") as store:
            record = store.record()
        answered = {
            (device.hex(), counter)
            for (device, _), flat in record.items()
            for first, last in zip(flat[::2], flat[1::2], strict=True)
            for counter in range(first, last + 1)
        }
        return self._result([log for log, _, _ in logs], answered)

    def _come_to_rest(self, admin: httpx.Client) -> None:
        """Wait until nothing is in the gateway's custody any more; what stays there counts as lost."""
        ends = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < ends:
            if not admin.get("/v1/status").raise_for_status().json()["outbox"]["messages"]:
                return
            time.sleep(_POLL)

    # The tiers

    def _python(self, name: str, *arguments: str) -> Child:
        return self._family.start(name, [sys.executable, "-m", *arguments], self._env, cwd=self._dir)

    def _start_air(self) -> tuple[Child, dict[str, int]]:
        plan = self._plan
        settings = air.Settings(
            trace=plan.trace if not Path(plan.trace).is_file() else str(Path(plan.trace).resolve()),
            seed=plan.seed,
            seconds=plan.seconds,
            low=plan.low,
            high=plan.high,
            speed=plan.speed,
            pcap=str(plan.pcap.resolve()) if plan.pcap else "",
            pcap_legit=str(plan.pcap_legit.resolve()) if plan.pcap_legit else "",
            record=str(self._dir / "air.jsonl"),
        )
        child = self._python("air", "lab.sim.air", settings.to_json())
        self._family.wait_until(child, lambda: "port" in _said(child), _START_SECONDS, "port")
        return child, _said(child)

    def _start_edge(self) -> tuple[Child, str]:
        port = free_tcp_port()
        child = self._python(
            "edge", "slimwire", "edge", "run", "--host", _HOST, "--port", str(port),
            "--bundle", str(self._bundle.path.resolve()), "--registry", str(self._dir / "edge-registry.json"),
            "--registry-key", str(self._dir / "registry.pub"),
            "--state", str(self._dir / "edge"),
            "--deadline-ms", str(self._plan.deadline_ms), "--policy", self._plan.policy,
        )  # fmt: skip
        return child, f"http://{_HOST}:{port}"

    def _start_gateway(self, air_port: int, edge_url: str, broker: int) -> Child:
        """With a broker of its own for Wi-Fi devices, if there are any."""
        if self._plan.wifi:
            self._env = {
                **self._env,
                "SLIMWIRE_GATEWAY__MQTT__BROKER": "embedded",
                "SLIMWIRE_GATEWAY__MQTT__LISTEN": f"{_HOST}:{broker}",
            }
        given = {
            "listen": f"{_HOST}:0",
            "peer": f"{_HOST}:{air_port}",
            "edge": edge_url,
            "registry": str(self._dir / "registry.json"),
            "registry_key": str(self._dir / "registry.pub"),
            "admin": str(self._dir / "gateway.sock"),
            "state": str(self._dir),
        }
        if self._plan.verifier == "pass-through":
            return self._python("gateway", "lab.attacks.pass_through", json.dumps(given))
        options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
        return self._python("gateway", "slimwire", "gateway", "run", *options)

    def _start_attacker(self, port: int) -> Child:
        settings = inject.Settings(
            _HOST, port, self._plan.seed, str(self._dir / "attacker.jsonl"), rate=self._plan.attack_rate
        )
        child = self._python("attacker", "lab.attacks.inject", settings.to_json())
        self._family.wait_until(child, lambda: "ready" in _said(child), _START_SECONDS, "sign of life")

        return child

    def _start_devices(self, homes: list[Home]) -> list[tuple[DeviceLog, LogReader, Child]]:
        command, env = self._runtime()
        out = []
        for home in homes:
            heap = ["-X", f"heapsize={self._bundle.heap_kib + home.wifi * _WIFI_HEAP}k"]
            arguments = [
                command, *(heap if "MICROPYPATH" in env else []),
                "-m", "firmware.main", str(home.path), str(self._plan.seconds),
            ]  # fmt: skip
            child = self._family.start(home.name, arguments, env, cwd=self._dir, ends=True)
            out.append((DeviceLog(home.eui.hex(), wifi=home.wifi), LogReader(home.log), child))
        for log, reader, child in out:
            self._family.wait_until(child, partial(_started, log, reader), 30.0, "first event")
        return out

    def _runtime(self) -> tuple[str, dict[str, str]]:
        """The interpreter that runs the firmware, and what to add to its environment.

        MicroPython with a board's heap, and modules compiled as for a board; or CPython where MicroPython has
        no build.
        """
        library = self._dir / "lib"
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        program = shutil.which("micropython", path=path)
        if program is None:
            library.mkdir()
            (library / "firmware").symlink_to(Path(firmware.__file__).parent)
            return sys.executable, {"PYTHONPATH": str(library)}
        command = [sys.executable, "-m", "firmware.build", str(library), "--march", "x64"]
        child = self._family.start("firmware", command, self._env, cwd=self._dir, ends=True)
        done = partial(_succeeded, child)
        self._family.wait_until(child, done, _START_SECONDS, "end of the firmware's compilation")
        # Relative, as short as a board's /lib: the paths of modules lie in the device's heap. Words here are
        # twice as long as a board's, so that the heap stands for a smaller one there.
        return program, {"MICROPYPATH": f"{library.name}:.frozen"}

    # Watching

    def _watch(self, logs: list[tuple[DeviceLog, LogReader, Child]], admin: httpx.Client) -> None:
        began = time.monotonic()
        asked = began
        while any(child.alive for _, _, child in logs):
            elapsed = time.monotonic() - began
            if elapsed > self._plan.seconds + _DRAIN_SECONDS:
                late = [child.name for _, _, child in logs if child.alive]
                raise TierError(
                    f"{', '.join(late)} still at work {_DRAIN_SECONDS:.0f} s after the end",
                    remedy=f"the logs are in {self._dir}",
                )
            self._family.check()
            for log, reader, _ in logs:
                _read(log, reader)
            self._read_air()
            if time.monotonic() - asked >= _ASK_EVERY:
                self._ask(admin)
                asked = time.monotonic()
            self._view.show(self._state(elapsed, [log for log, _, _ in logs]))
            time.sleep(_POLL)
        self._family.check()
        for log, reader, _ in logs:
            _read(log, reader)

    def _read_air(self) -> None:
        for line in self._air_lines.new():
            if line["e"] == "rate":
                self._rate = float(line["kbps"])
            elif line["forged"]:
                self._air.forged += 1
                self._air.forged_at_open += bool(line["open"])
                self._forged[line["sha"]] += 1
            elif line["src"] == GATEWAY.hex() and line["delivered"]:
                self._air.downlink[line["dst"]] += 1

    def _ask(self, admin: httpx.Client) -> None:
        """Ask the gateway for its counters, its trust, and what it delivered since we asked last."""
        self._status = admin.get("/v1/status").raise_for_status().json()
        for device in admin.get("/v1/devices").raise_for_status().json()["devices"]:
            self._trust[device["device"]] = float(device["trust"])
        fresh = admin.get("/v1/delivered", params={"since": self._seen}).raise_for_status().json()
        for item in fresh["messages"]:
            self._delivered.append(Delivered(item["device"], int(item["counter"]), item["sha256"]))
        self._seen = int(fresh["seq"])

    def _admin(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self._dir / "gateway.sock"))
        return httpx.Client(transport=transport, base_url="http://gateway", timeout=10.0)

    # Adding up

    def _rejected(self) -> dict[str, int]:
        return {
            reason: int(count)
            for reason, count in self._status.get("fragments", {}).get("rejected", {}).items()
        }

    def _state(self, elapsed: float, logs: list[DeviceLog]) -> State:
        classes, labels = self._bundle.classes, self._labels
        devices = []
        for number, log in enumerate(logs, 1):
            answers = log.answers
            last = max(answers, default=None)
            devices.append(
                Device(
                    name=f"device-{number}",
                    sent=len(log.sent),
                    answers=len(answers),
                    right=None
                    if labels is None
                    else sum(
                        a["cls"] == labels[log.sent[c]["img"]] for c, a in answers.items() if c in log.sent
                    ),
                    last=classes[answers[last]["cls"]] if last is not None else "",
                    trust=self._trust.get(log.eui),
                    widths=[log.sent[c]["w"] for c in sorted(log.sent)[-_SHOWN_WIDTHS:]],
                    hits=[hit for _, hit in log.hits(self._plan.deadline_ms)[-_SHOWN_WIDTHS - 1 : -1]],
                )
            )
        genuine = {(log.eui, counter, sealed) for log in logs for counter, sealed in log.sealed}
        return State(
            elapsed=elapsed,
            seconds=self._plan.seconds,
            devices=devices,
            all_widths=sorted(self._widths),
            rate=self._rate,
            rejected=self._rejected(),
            forged=self._air.forged,
            forged_at_open=self._air.forged_at_open,
            accepted=sum((d.device, d.counter, d.sealed) not in genuine for d in self._delivered),
        )

    def _result(self, logs: list[DeviceLog], answered: set[tuple[str, int]]) -> dict[str, Any]:
        for line in LogReader(self._dir / "attacker.jsonl").new():
            self._air.by_kind[line["kind"]] += self._forged.pop(line["sha"], 0)
        result = report.build(
            seconds=self._plan.seconds,
            deadline_ms=self._plan.deadline_ms,
            logs=logs,
            labels=self._labels,
            widths=self._widths,
            delivered=self._delivered,
            answered=answered,
            accepted_fragments=int(self._status["fragments"]["accepted"]),
            published=sum(leg["sent"] for leg in self._status["legs"] if leg["name"] == "mqtt"),
            rejected=self._rejected(),
            air=self._air,
        )
        plan = self._plan
        return {
            **result,
            "seed": plan.seed,
            "bundle": f"{self._bundle.name} {self._bundle.info['version']}",
            "camera": self._pictures.origin,
            # What the interpreter was given, where it has a heap of its own.
            "heap_kib": self._bundle.heap_kib if result["heap_kib"] else None,
            "trace": plan.trace,
            "policy": plan.policy,
            "verifier": plan.verifier,
        }


def _succeeded(child: Child) -> bool:
    return child.process.poll() == 0


def _said(child: Child) -> dict[str, Any]:
    """The JSON object in the first line that a process has printed; empty while there is none."""
    try:
        value = json.loads(child.log.read_bytes().partition(b"\n")[0])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _started(log: DeviceLog, reader: LogReader) -> bool:
    _read(log, reader)
    return bool(log.runtime)


def _read(log: DeviceLog, reader: LogReader) -> None:
    for event in reader.new():
        log.add(event)


def _ready(url: str, client: httpx.Client | None = None) -> bool:
    get: Callable[..., httpx.Response] = client.get if client else httpx.get
    try:
        return get(url, timeout=2.0).status_code == 200
    except httpx.TransportError:
        return False


def check(result: dict[str, Any]) -> None:
    """Raises SlimwireError if the run broke a promise.

    A forgery accepted, or an acknowledged message lost.
    """
    forged = result["forged"]
    if result["verifier"] == "chain" and (forged["accepted"] or forged["downlink_accepted"]):
        raise SlimwireError(
            f"{forged['accepted']} forged messages were accepted by the gateway, "
            f"{forged['downlink_accepted']} forged fragments by devices",
            expected="none: this is a fault in Slimwire",
            remedy="please report it with the output of `slimwire demo --json --pcap FILE`",
        )
    if result["verifier"] == "chain" and result["lost"]:
        raise SlimwireError(
            f"{result['lost']} messages were acknowledged and never answered",
            expected="none: this is a fault in Slimwire",
        )
