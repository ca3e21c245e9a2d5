"""The admin interface: a versioned HTTP API on a Unix socket that only its owner and group reach."""

import asyncio
import contextlib
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import PlainTextResponse, Response

from gateway import explain, metrics
from gateway.advice import advise
from gateway.errors import AdminError
from gateway.links.zep import parse_endpoint
from gateway.peers import Peer
from gateway.service import Service
from security.trust import Quarantining
from slimwire import __version__
from wire import eui64
from wire.errors import WireError

#: Longest path of a Unix socket on Linux, bytes (unix(7)).
_LONGEST_PATH = 107


def create_probes(service: Service) -> FastAPI:
    """What supervisors and Prometheus ask: nothing of it names a device."""
    app = FastAPI(
        title="Slimwire gateway", version=__version__, docs_url=None, redoc_url=None, openapi_url=None
    )
    registry = metrics.registry(service)

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        """Whether the process serves at all."""
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> PlainTextResponse:
        """Whether devices can be served: a leg is up, and what is accepted can be kept. 503 says what not."""
        wrong = [] if any(leg.up for leg in service.link.legs()) else ["no leg is up"]
        if service.outbox.refusing:
            wrong.append("the disk refuses the outbox")
        return PlainTextResponse("\n".join(wrong or ["ok"]) + "\n", 503 if wrong else 200)

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Prometheus's text format."""
        return Response(metrics.exposition(registry), media_type="text/plain; version=0.0.4")

    return app


def create_app(service: Service) -> FastAPI:
    """The API of one service."""
    app = create_probes(service)

    @app.get("/v1/status")
    async def status() -> dict[str, Any]:
        """How the gateway is."""
        receiver, uplink, outbox = service.receiver, service.uplink, service.outbox
        signer = service.enrolment.gate.trusted
        age, hours = outbox.age(), outbox.hours_left()
        return {
            "version": __version__,
            "gateway": receiver.gateway.hex(),
            "site": service.enrolment.registry.site,
            "link": service.link.description,
            "legs": [leg._asdict() for leg in service.link.legs()],
            "advice": advise(service),
            "uptime_s": round(service.uptime, 3),
            "devices": len(receiver.peers),
            "registry": {
                "version": service.enrolment.registry.version,
                "signed_by": signer.id if signer is not None else None,
                "problem": service.enrolment.problem,
            },
            "fragments": {"accepted": receiver.fragments, "rejected": service.rejected()},
            "messages": receiver.messages,
            "memory": {"used": receiver.memory_used, "bound": receiver.memory_bound},
            "uplink": {
                "edge": service.settings.edge,
                "away": uplink.away,
                "servers": {url: state.value for url, state in uplink.states().items()},
                "problems": uplink.problems(),
                "unknown": {
                    url: [{"device": device.hex(), "epoch": epoch} for device, epoch in waiting]
                    for url, waiting in uplink.unknown().items()
                },
                "live": uplink.live,
                "delivered": uplink.delivered,
                "batches": uplink.batches,
            },
            "outbox": {
                "durable": outbox.durable,
                "messages": outbox.messages,
                "bytes": outbox.bytes,
                "bound": outbox.bound,
                "oldest_s": None if age is None else round(age, 3),
                "hours_left": None if hours is None else round(hours, 2),
                "bytes_per_s": round(outbox.rate, 1),
                "committed": outbox.committed,
                "commits": outbox.commits,
                "writable": not outbox.refusing,
            },
            "custody": dict(service.downlink.custody),
            "downlink": {
                "queue": len(service.downlink),
                "answers": service.downlink.sent,
                "frames": service.downlink.frames,
            },
        }

    @app.get("/v1/devices")
    async def devices() -> dict[str, Any]:
        """Enrolled devices, and sources that are not enrolled but were heard."""
        now = time.monotonic()
        return {
            "devices": [_device(service, eui, peer, now) for eui, peer in service.receiver.peers.items()],
            "strangers": [
                {"source": source.hex(), "last_heard_s": round(now - at, 1)}
                for source, at in reversed(service.receiver.strangers.items())
            ],
        }

    @app.get("/v1/trust/{eui}")
    async def trust(eui: str) -> dict[str, Any]:
        """One device's trust, what it grants, and what changed it."""
        try:
            device = eui64.parse(eui)
        except WireError as error:
            raise HTTPException(422, str(error)) from None
        if device not in service.receiver.peers:
            raise HTTPException(404, f"{eui} is not enrolled at this gateway")
        now = time.monotonic()
        receiver = service.receiver
        standing = receiver.standing(device, now)
        release = service.trust.release(device) if isinstance(service.trust, Quarantining) else None
        shared = receiver.budget.shared
        return {
            "device": device.hex(),
            "trust": service.trust.level(device),
            "standing": "revoked" if receiver.peers[device].device.revoked else standing.value,
            "quarantine_s": None if release is None else round(release - now, 1),
            "reserve": receiver.limits.reserve_at(standing),
            "extra": service.trust.budget(device, shared),
            "history": [
                explain.as_json(change, now, receiver.limits, shared)
                for change in service.trust.history(device)
            ],
        }

    @app.get("/v1/delivered")
    async def delivered(since: int = Query(0, ge=0)) -> dict[str, Any]:
        """Messages that passed admission after number `since`, of the last 10,000."""
        return {
            "seq": service.journal.seq,
            "messages": [entry._asdict() for entry in service.journal.since(since)],
        }

    return app


def _device(service: Service, eui: bytes, peer: Peer, now: float) -> dict[str, Any]:
    return {
        "device": eui.hex(),
        "name": peer.device.name,
        "revoked": peer.device.revoked,
        "trust": round(service.trust.level(eui), 4),
        "standing": "revoked" if peer.device.revoked else service.receiver.standing(eui, now).value,
        "epochs": sorted(peer.device.epochs),
        "epoch_heard": service.receiver.epochs.newest(eui),
        "messages": peer.messages,
        "fragments": peer.fragments,
        "rejected": peer.rejected,
        "open": len(peer.account.open),
        "bytes": peer.account.used,
        "last_heard_s": None if peer.last_heard is None else round(now - peer.last_heard, 3),
    }


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (the service has its own), that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Served(ABC):
    """An app on one socket."""

    def __init__(self, app: FastAPI) -> None:
        self._server = _Server(
            uvicorn.Config(app, log_config=None, log_level="warning", lifespan="off", ws="none")
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises AdminError: the address cannot be bound; says why and what to do."""
        sock = self._bind()
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]))
        await self._server.listening.wait()

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task

    @abstractmethod
    def _bind(self) -> socket.socket:
        """The socket. Raises AdminError: it cannot be had."""


class ProbeServer(_Served):
    """Serves `create_probes` on a TCP address, HOST:PORT."""

    def __init__(self, service: Service, where: str) -> None:
        super().__init__(create_probes(service))
        self._where = where

    def _bind(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(*parse_endpoint(self._where), type=socket.SOCK_STREAM)[0]
            sock = socket.socket(found[0], socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(found[4])
        except OSError as error:
            raise AdminError(
                f"metrics cannot be served on TCP {self._where}: {error.strerror or error}",
                remedy="stop what uses that port, or name another as `metrics`",
            ) from error
        return sock


class AdminServer(_Served):
    """Serves `create_app` on a Unix socket of mode 0660."""

    def __init__(self, service: Service, path: Path) -> None:
        super().__init__(create_app(service))
        self.path = path

    async def stop(self) -> None:
        """Stop listening and remove the socket."""
        await super().stop()
        if self._task is not None:
            self.path.unlink(missing_ok=True)

    def _bind(self) -> socket.socket:
        path = str(self.path)
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise AdminError(
                f"the admin socket's path has {len(os.fsencode(path))} bytes: {path}",
                expected=f"at most {_LONGEST_PATH} bytes",
                remedy="name a shorter one with --admin",
            )
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remove_stale()
            mask = os.umask(0o117)
            try:
                sock.bind(path)
            finally:
                os.umask(mask)
        except OSError as error:
            sock.close()
            raise AdminError(
                f"the admin socket {path} cannot be made: {error.strerror}",
                remedy="name a path in a writable directory with --admin",
            ) from error
        except AdminError:
            sock.close()
            raise
        return sock

    def _remove_stale(self) -> None:
        """Remove a socket that nobody listens on: what a killed gateway leaves."""
        if not self.path.is_socket():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.path))
            except OSError:
                self.path.unlink()
                return
        raise AdminError(
            f"another gateway serves the admin socket {self.path}",
            remedy="stop it, or give this one another --admin (or --state)",
        )
