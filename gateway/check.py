"""What `slimwire gateway check` looks at: all that a start needs, and what it would only miss later.

Nothing is changed, and nothing is listened on for longer than it takes to see that it can be.
"""

import contextlib
import os
import socket
import termios
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from gateway.admission import Budget, Limits
from gateway.errors import GatewayError
from gateway.legs import broker_of
from gateway.links.zep import parse_endpoint
from gateway.settings import EMBEDDED, Settings, load
from security.errors import SecurityError
from security.registry import GATEWAY, GatewayRegistry
from security.signed import Gate, VerifyKey
from slimwire.checks import Check, certificate, failed, private_key
from slimwire.errors import SlimwireError
from slimwire.transport import is_loopback
from wire.batch import CONTENT_TYPE, emit_request

_PATIENCE = 3.0


def check(config: Path | None) -> list[Check]:
    """Everything, settings first; what depends on settings that cannot be read is left out."""
    try:
        settings = load(config)
    except SlimwireError as error:
        return [failed("settings", error)]
    where = f"{config}: " if config else ""
    found = [Check("settings", f"{where}every value is one that can be")]
    try:
        found.extend(_rest(settings))
    except PermissionError as error:
        found.append(
            Check(
                "access",
                f"{error.filename} is not ours to look at",
                False,
                "run this as root (sudo), or as the user that runs the gateway",
            )
        )
    return found


def _rest(settings: Settings) -> Iterator[Check]:
    yield _registry(settings)
    yield _state(settings)
    if settings.listen:
        yield _port("radio", settings.listen, socket.SOCK_DGRAM, settings)
    if settings.metrics:
        yield _port("metrics", settings.metrics, socket.SOCK_STREAM, settings)
    if settings.uart.port is not None:
        yield _serial(settings.uart.port, settings.uart.baud)
    if settings.mqtt.broker == EMBEDDED:
        yield _port("broker", settings.mqtt.listen, socket.SOCK_STREAM, settings)
        if not is_loopback(parse_endpoint(settings.mqtt.listen)[0]):
            yield Check(
                "embedded",
                f"other machines reach {settings.mqtt.listen}, and the embedded broker has no accounts",
                remedy="let only a trusted network reach it, or use mosquitto (docs/services.md)",
            )
    elif settings.mqtt.broker:
        yield from _broker(settings)
    if not (settings.listen or settings.uart.port or settings.mqtt.broker):
        yield Check("legs", "none", False, "set `listen`, [uart] port or [mqtt] broker")
    for url in settings.edge_servers():
        yield from _edge(settings, url)


def _registry(settings: Settings) -> Check:
    path, key = settings.registry_file(), settings.registry_key
    if not path.exists() and settings.registry is None and key is None:
        return Check(
            "registry",
            f"{path} is made at the first start",
            remedy="enrol devices: `slimwire provision --help`",
        )
    try:
        gate = None if key is None else Gate(GATEWAY, VerifyKey.of(key))
        registry = GatewayRegistry.load(path, gate)
    except SecurityError as error:
        return Check("registry", f"{error.what}", False, error.remedy or "restore it from a backup")
    devices = sum(not device.revoked for device in registry.devices.values())
    try:
        Budget(Limits(memory=settings.limits.memory), devices)
    except GatewayError as error:
        return failed("registry", error)
    return Check("registry", f"{path}: site {registry.site!r}, {devices} devices")


def _state(settings: Settings) -> Check:
    path = settings.state_directory()
    there = path
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check("state", f"{path} cannot be written", False, "name another directory as `state`")
    free = os.statvfs(there).f_bavail * os.statvfs(there).f_frsize
    if free < settings.outbox.bytes:
        return Check(
            "state",
            f"{path} has {free >> 20} MiB left, the outbox may take {settings.outbox.bytes >> 20}",
            remedy="make room, or set [outbox] bytes to less",
        )
    return Check("state", f"{path}, {free >> 20} MiB left")


def _port(name: str, where: str, kind: socket.SocketKind, settings: Settings) -> Check:
    """Whether an address can be bound; one that a running gateway of these settings holds is no fault."""
    protocol = "UDP" if kind is socket.SOCK_DGRAM else "TCP"
    try:
        family, _, _, _, address = socket.getaddrinfo(*parse_endpoint(where), type=kind)[0]
        with socket.socket(family, kind) as sock:
            if kind is socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as error:
        if settings.admin_socket().exists():
            return Check(name, f"{protocol} {where}: in use, as by the gateway that runs")
        return Check(
            name,
            f"{protocol} {where} cannot be listened on: {error.strerror}",
            False,
            f"stop what uses it (ss -lnp | grep {where.rpartition(':')[2]}), or name another",
        )
    return Check(name, f"{protocol} {where} is free")


def _serial(port: Path, baud: int) -> Check:
    if not hasattr(termios, f"B{baud}"):
        return Check("uart", f"no serial port has {baud} baud", False, "set a speed such as 115200")
    if not port.exists():
        return Check("uart", f"{port} is not there", False, "plug it in, or correct [uart] port")
    if not os.access(port, os.R_OK | os.W_OK):
        return Check("uart", f"{port} is not ours to use", False, "sudo usermod -aG dialout $USER")
    return Check("uart", f"{port} at {baud} baud")


def _broker(settings: Settings) -> Iterator[Check]:
    try:
        broker = broker_of(settings.mqtt)
        context = broker.context()
    except GatewayError as error:
        yield failed("broker", error)
        return
    if broker.certificate is not None:
        yield certificate(broker.certificate, "[mqtt]")
        yield from private_key(broker.key or broker.certificate)
    try:
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(socket.create_connection((broker.host, broker.port), _PATIENCE))
            if context is not None:
                stack.enter_context(context.wrap_socket(sock, server_hostname=broker.host))
    except OSError as error:
        yield Check(
            "broker",
            f"{broker} does not answer: {error}",
            remedy="start it, or correct [mqtt]; the gateway starts without, and goes on trying",
        )
        return
    yield Check("broker", f"{broker} answers" + (" over TLS" if context is not None else " without TLS"))


def _edge(settings: Settings, url: str) -> Iterator[Check]:
    """What the way to one edge server is like, tried with a batch of nothing."""
    try:
        settings.check_edge(url)
        access = settings.uplink.access()
        context = access.context() if url.startswith("https:") else None
        shown = access.headers()
    except SlimwireError as error:
        yield failed("edge server", error)
        return
    if context is not None and access.certificate is not None:
        yield certificate(access.certificate, "[uplink]")
        yield from private_key(access.key or access.certificate)
    batch = urllib.request.Request(f"{url}/v1/ingest", emit_request([]), {"Content-Type": CONTENT_TYPE})
    for name, value in shown.items():
        batch.add_unredirected_header(name, value)
    try:
        for asked in (f"{url}/readyz", batch):
            urllib.request.urlopen(asked, timeout=_PATIENCE, context=context).close()
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.UNAUTHORIZED:
            yield Check(
                "edge server",
                f"{url} takes no token of ours" if access.token_file else f"{url} wants a token",
                False,
                "put a token that it takes into the file that [uplink] token_file names",
            )
            return
        said = f"HTTP {error.code}, {error.read(200).decode(errors='replace').strip()!r}"
        yield Check("edge server", f"{url} is not ready: {said}", remedy="see `slimwire edge check` there")
    except (OSError, urllib.error.URLError) as error:
        yield Check(
            "edge server",
            f"{url} does not answer: {getattr(error, 'reason', error)}",
            remedy="start it (`slimwire edge run`), or correct `edge` and [uplink]; meanwhile messages "
            "wait in the outbox",
        )
    else:
        yield Check("edge server", f"{url} is ready" + ("" if context is None else ", over TLS"))
