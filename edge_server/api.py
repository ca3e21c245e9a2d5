"""The HTTP service of the edge server. Every refusal is JSON: a reason, what was expected, a remedy."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from edge_server.classify import read_image
from edge_server.errors import EdgeError, ImageError
from edge_server.guard import Guard
from edge_server.server import EdgeServer
from slimwire import __version__
from slimwire.errors import SlimwireError
from wire import batch
from wire.errors import WireError

#: Largest image body: a JSON list of the largest input a head file can name.
MAX_IMAGE_BODY = 8 << 20


def create_app(server: EdgeServer) -> FastAPI:
    """The service around a built server; closes the server when it shuts down."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.close()

    app = FastAPI(title="Slimwire edge server", version=__version__, lifespan=lifespan)
    app.add_route("/v1/ingest", _ingest(server), methods=["POST"])
    _add_questions(app, server)
    _add_classify(app, server)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        return _refusal(error.status_code, "http", str(error.detail))

    return app


def guarded(server: EdgeServer, app: FastAPI) -> Guard | FastAPI:
    """What is served: `app`, behind a guard where the settings name tokens.

    Raises:
        TransportError: the secret file cannot be used.
    """
    if server.settings.token_file is None:
        return app
    refusal = _refusal(
        401,
        "unauthorized",
        "the request shows no token that this edge server takes",
        expected="Authorization: Bearer TOKEN",
        remedy="put a line of the server's token_file into the file that [uplink] token_file of the gateway, "
        "or --token-file, names",
    )
    refusal.headers["WWW-Authenticate"] = "Bearer"

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        server.metrics.refused.labels("unauthorized").inc()
        await refusal(scope, receive, send)

    return Guard(app, server.settings.token_file, refuse)


def _ingest(server: EdgeServer) -> Callable[[Request], Awaitable[Response]]:
    """The lean path: no model, no validation layer, one read, one worker call."""

    async def ingest(request: Request) -> Response:
        if request.headers.get("content-type") != batch.CONTENT_TYPE:
            server.metrics.refused.labels("content-type").inc()
            return _refusal(415, "content-type", "the body is not a batch", expected=batch.CONTENT_TYPE)
        body = await _read(request, batch.MAX_BODY)
        if body is None:
            server.metrics.refused.labels("body-too-large").inc()
            return _refusal(
                413, "body-too-large", "the batch is too large", expected=f"at most {batch.MAX_BODY} bytes"
            )
        try:
            items = batch.parse_request(body)
        except WireError as error:
            server.metrics.refused.labels(error.reason).inc()
            return _refusal(400, error.reason, error.message, expected="docs/protocol.md, section 6")
        return Response(batch.emit_response(await server.answer(items)), media_type=batch.CONTENT_TYPE)

    return ingest


def _add_questions(app: FastAPI, server: EdgeServer) -> None:
    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        """The process lives."""
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> PlainTextResponse:
        """Devices can be answered: the registry reads (models are warm before the server listens)."""
        if server.enrolled.problem:
            return PlainTextResponse(f"registry: {server.enrolled.problem}\n", status_code=503)
        return PlainTextResponse("ready\n")

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus."""
        server.measure()
        return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/status")
    async def status() -> dict[str, Any]:
        """How the server is."""
        return server.status()

    @app.get("/v1/devices")
    async def devices() -> dict[str, Any]:
        """Devices heard since the start."""
        return {"devices": server.devices()}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Bundles served, with their measured figures."""
        return {"models": server.models()}

    @app.get("/v1/explain/{eui64}")
    async def explain(eui64: str) -> Response:
        """A device's last width choices, newest first, and why."""
        try:
            device = bytes.fromhex(eui64.replace(":", "").replace("-", ""))
        except ValueError:
            device = b""
        if len(device) != 8:
            return _refusal(422, "bad-eui64", f"{eui64!r} is not an EUI-64", expected="16 hexadecimal digits")
        if server.ingest.devices.get(device) is None:
            return _refusal(404, "never-heard", f"no message of {device.hex()} was opened since the start")
        return JSONResponse({"eui64": device.hex(), "choices": server.explain(device)})


def _add_classify(app: FastAPI, server: EdgeServer) -> None:
    @app.post("/v1/classify")
    async def classify(request: Request, width: float | None = None, bundle: str | None = None) -> Response:
        """Classify one image: JSON list, raw uint8 bytes or .npy."""
        body = await _read(request, MAX_IMAGE_BODY)
        try:
            if body is None:
                raise ImageError("the image is too large", expected=f"at most {MAX_IMAGE_BODY} bytes")
            served = server.tails.named(bundle)
            content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            image = read_image(body, content_type, served.headfile.input)
            result = await server.classify(served, image, width)
        except ImageError as error:
            server.metrics.refused.labels("bad-image").inc()
            return _problem(422, "bad-image", error)
        except EdgeError as error:
            server.metrics.refused.labels("unknown-bundle").inc()
            return _problem(404, "unknown-bundle", error)
        return JSONResponse(result.as_json())


async def _read(request: Request, most: int) -> bytes | None:
    """The body, or None as soon as it is longer than `most` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            return None
        parts.append(part)
    return b"".join(parts)


def _problem(code: int, reason: str, error: SlimwireError) -> JSONResponse:
    return _refusal(code, reason, error.what, expected=error.expected, remedy=error.remedy)


def _refusal(code: int, reason: str, what: str, *, expected: str = "", remedy: str = "") -> JSONResponse:
    error = {"reason": reason, "what": what, "expected": expected, "remedy": remedy}
    return JSONResponse({"error": {k: v for k, v in error.items() if v}}, status_code=code)
