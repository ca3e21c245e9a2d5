"""`slimwire edge`: run the server, ask a running one."""

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table

from edge_server import service_cli
from edge_server.errors import EdgeError
from slimwire import log, output

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Run the edge server: tails and width control."
)

_TOKEN = Annotated[
    Path | None, typer.Option("--token-file", help="Secret file with the token that the server asks for.")
]
_CA = Annotated[Path | None, typer.Option("--ca", help="Authority of the server's certificate [system's].")]
_CERTIFICATE = Annotated[
    Path | None, typer.Option("--certificate", help="Our certificate with its key, where one is asked for.")
]
_URL = Annotated[str, typer.Option("--url", help="Where the edge server listens.")]
_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def run(
    file: Annotated[Path | None, typer.Option("--config", help="Settings in TOML.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port [8080]; 0: any free one.")] = None,
    bundle: Annotated[
        list[str] | None,
        typer.Option(help="Bundle to serve, by name or directory; repeatable [all that ship]."),
    ] = None,
    registry: Annotated[Path | None, typer.Option(help="edge-registry.json [none: images only].")] = None,
    registry_key: Annotated[
        str | None, typer.Option(help="The site's registry.pub: take only registries it signed.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Directory that survives restarts [none: memory].")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="slimwire, or fixed-<width> [slimwire].")] = None,
    deadline_ms: Annotated[int | None, typer.Option(help="Answers later than this are late [300].")] = None,
    json_logs: Annotated[bool, typer.Option("--json-logs", help="Log one JSON object a line.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log each answer, too.")] = False,
) -> None:
    """Serve bundles: answer devices' latents (POST /v1/ingest) and images (POST /v1/classify)."""
    import asyncio  # noqa: PLC0415  (these load only when the server runs)
    import logging  # noqa: PLC0415
    import signal  # noqa: PLC0415

    import uvicorn  # noqa: PLC0415

    from edge_server.api import create_app, guarded  # noqa: PLC0415
    from edge_server.guard import Guard  # noqa: PLC0415
    from edge_server.server import EdgeServer  # noqa: PLC0415
    from edge_server.settings import load  # noqa: PLC0415
    from slimwire.transport import TransportError, load_certificate  # noqa: PLC0415

    log.configure(json_lines=json_logs, level="DEBUG" if debug else "INFO")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    settings = load(
        file,
        host=host,
        port=port,
        bundles=tuple(bundle) if bundle else None,
        registry=registry,
        registry_key=registry_key,
        state=state,
        policy=policy,
        deadline_ms=deadline_ms,
    )
    settings.check_listener()
    context = settings.context()
    listener = _listen(settings.host, settings.port)
    server = EdgeServer(settings)
    app = guarded(server, create_app(server))
    logging.getLogger("edge_server").info(
        "listening on %s://%s:%d, serving %s to %d enrolled devices",
        "http" if context is None else "https",
        *listener.getsockname()[:2],
        ", ".join(served.name for served in server.tails),
        len(server.enrolled),
    )
    config = uvicorn.Config(app, loop="uvloop", log_config=None, access_log=False, lifespan="on")
    config.load()
    config.ssl = context
    service = _notifying(config)

    def renew() -> None:
        if context is not None and settings.certificate is not None:
            try:
                load_certificate(context, settings.certificate, settings.key)
            except TransportError as error:
                logging.getLogger("edge_server").error("the certificate before stays in use: %s", error)
        if isinstance(app, Guard):
            app.renew()

    async def serve() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, renew)
        await service.serve(sockets=[listener])

    try:
        with asyncio.Runner(loop_factory=service.config.get_loop_factory()) as runner:
            runner.run(serve())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        listener.close()


@app.command()
def status(
    url: _URL = "http://127.0.0.1:8080",
    token_file: _TOKEN = None,
    ca: _CA = None,
    certificate: _CERTIFICATE = None,
    as_json: _JSON = False,
) -> None:
    """How a running edge server is, and the devices it has heard."""
    shown = _Shown(token_file, ca, certificate)
    state = _ask(url, "/v1/status", shown)
    devices = _ask(url, "/v1/devices", shown)["devices"]
    if as_json:
        output.print_json({**state, "devices": devices})
        return
    output.stdout.print(
        f"up {state['uptime_s']:.0f} s, serving {', '.join(state['bundles'])}, policy {state['policy']}, "
        f"{state['enrolled']} enrolled"
    )
    output.stdout.print(
        "latents: " + (", ".join(f"{k} {v}" for k, v in state["verdicts"].items()) or "none yet")
    )
    table = Table("device", "counter", "answered", "width", "next", "last took", "retries")
    for d in devices:
        took = f"{d['report']['duration_ms']} ms" if d["report"]["duration_ms"] else "-"
        table.add_row(
            d["eui64"],
            str(d["counter"]),
            str(d["answered"]),
            _show(d["width"]),
            _show(d["next_width"]),
            took,
            str(d["report"]["retries"]),
        )
    if devices:
        output.stdout.print(table)


@app.command()
def explain(
    device: Annotated[str, typer.Argument(help="EUI-64, 16 hexadecimal digits.")],
    url: _URL = "http://127.0.0.1:8080",
    token_file: _TOKEN = None,
    ca: _CA = None,
    certificate: _CERTIFICATE = None,
    as_json: _JSON = False,
) -> None:
    """Why a device was told its last widths, newest first."""
    answer = _ask(url, f"/v1/explain/{device}", _Shown(token_file, ca, certificate))
    if as_json:
        output.print_json(answer)
        return
    table = Table("ago", "width", "why", "P(on time) by width", "samples")
    for c in answer["choices"]:
        on_time = " ".join(f"{p:.2f}" for p in c["on_time"])
        table.add_row(f"{c['seconds_ago']:.1f} s", f"{c['width']:g}", c["reason"], on_time, str(c["samples"]))
    output.stdout.print(table)


app.add_typer(service_cli.app)


def _notifying(config: Any) -> Any:
    """A uvicorn server that tells systemd when it serves."""
    import uvicorn  # noqa: PLC0415

    from slimwire.notify import notify  # noqa: PLC0415

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            notify("READY=1")

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            notify("STOPPING=1")
            await super().shutdown(sockets)

    return Server(config)


def _show(width: float | None) -> str:
    return "-" if width is None else f"{width:g}"


def _listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; refuses a port that is taken or not allowed."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        raise EdgeError(
            f"the edge server cannot listen on {host} port {port}: {error.strerror or error}",
            remedy="stop what listens there, or name another port: --port N (0: any free one)",
        ) from error
    return listener


class _Shown(NamedTuple):
    """What a question shows of whoever asks, and how it knows the server."""

    token_file: Path | None
    ca: Path | None
    certificate: Path | None


def _ask(url: str, path: str, shown: _Shown) -> Any:
    from slimwire.transport import bearer, client_context, read_tokens  # noqa: PLC0415

    if not url.startswith(("http://", "https://")):
        raise EdgeError(f"{url!r} is not the address of a server", expected="http://HOST:PORT")
    request = urllib.request.Request(url.rstrip("/") + path)
    if shown.token_file is not None:
        request.add_unredirected_header("Authorization", bearer(read_tokens(shown.token_file)[0]))
    context = client_context(shown.ca, shown.certificate, None) if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        problem = json.loads(error.read() or b"{}").get("error", {})
        raise EdgeError(
            problem.get("what", f"the edge server answered {error.code}"),
            expected=problem.get("expected", ""),
            remedy=problem.get("remedy", ""),
        ) from error
    except (OSError, ValueError) as error:
        raise EdgeError(
            f"no edge server answers at {url}: {getattr(error, 'reason', error)}",
            remedy="start one with `slimwire edge run`, or name its address: --url http://HOST:PORT",
        ) from error
