"""`slimwire gateway`: run it, ask a running one; `gateway.service_cli` has what makes it a service."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway import service_cli
from gateway.errors import AdminError
from slimwire import log, output

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Run the gateway: admission, reassembly, trust, uplink."
)
trust_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="What the gateway thinks of a device."
)
app.add_typer(trust_app, name="trust")

_ADMIN = Annotated[
    Path | None, typer.Option("--admin", help="Admin socket of the gateway [the default one].")
]
_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def run(
    config: Annotated[Path | None, typer.Option(help="Settings in TOML.")] = None,
    listen: Annotated[str | None, typer.Option(help="UDP address of the ZEP link [127.0.0.1:17754].")] = None,
    peer: Annotated[
        str | None, typer.Option(help="Where all frames are sent, HOST:PORT [where each device was heard].")
    ] = None,
    edge: Annotated[str | None, typer.Option(help="Edge server [http://127.0.0.1:8080].")] = None,
    registry: Annotated[Path | None, typer.Option(help="registry.json [the state directory's].")] = None,
    registry_key: Annotated[
        str | None, typer.Option(help="The site's registry.pub: take only registries it signed.")
    ] = None,
    state: Annotated[Path | None, typer.Option(help="State directory [~/.local/state/slimwire].")] = None,
    admin: Annotated[
        Path | None, typer.Option(help="Admin socket [gateway.sock in the state directory].")
    ] = None,
    pcap: Annotated[Path | None, typer.Option(help="Capture every frame to this file.")] = None,
    json_logs: Annotated[bool, typer.Option("--json-logs", help="Log one JSON object a line.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log each step of each message, too.")] = False,
) -> None:
    """Admit frames from the radio, reassemble, and carry latents to the edge server and answers back."""
    import uvloop  # noqa: PLC0415  (these load only when the gateway runs)

    from gateway import process  # noqa: PLC0415
    from gateway.settings import load  # noqa: PLC0415
    from security.chain import KeyedChain  # noqa: PLC0415

    log.configure(json_lines=json_logs, level="DEBUG" if debug else "INFO")
    read = partial(
        load,
        config,
        listen=listen,
        peer=peer,
        edge=edge,
        registry=registry,
        registry_key=registry_key,
        state=state,
        admin=admin,
        pcap=pcap,
    )
    uvloop.run(process.run(read(), verifier=KeyedChain(), reload=read))


@app.command()
def status(admin: _ADMIN = None, as_json: _JSON = False) -> None:
    """How a running gateway is, and the devices it knows."""
    state = _ask(admin, "/v1/status")
    known = _ask(admin, "/v1/devices")
    if as_json:
        output.print_json({**state, **known, "enrolled": state["devices"]})
        return
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    uplink, outbox = state["uplink"], state["outbox"]
    output.stdout.print(
        f"gateway {state['gateway']}, site {escape(state['site'])}, up {state['uptime_s']:.0f} s; "
        f"memory {state['memory']['used']} of {state['memory']['bound']} bytes\n"
        f"{state['messages']} messages in {state['fragments']['accepted']} fragments; "
        f"the edge server took {uplink['delivered']}: "
        + ", ".join(
            escape(url) + (" IS AWAY" if url in uplink["problems"] else "") for url in uplink["servers"]
        )
        + f"\noutbox: {_in_custody(outbox)}"
    )
    table = Table("device", "name", "trust", "messages", "rejected", "last heard")
    for device in known["devices"]:
        heard = device["last_heard_s"]
        table.add_row(
            device["device"],
            escape(device["name"]),
            f"{device['trust']:.2f}" + ("" if device["standing"] == "full" else f" {device['standing']}"),
            str(device["messages"]),
            str(device["rejected"]),
            "never" if heard is None else f"{heard:.0f} s ago",
        )
    if known["devices"]:
        output.stdout.print(table)
    if state["fragments"]["rejected"]:
        reasons = Table("dropped because", "count")
        for reason, count in sorted(state["fragments"]["rejected"].items(), key=lambda item: -item[1]):
            reasons.add_row(reason, str(count))
        output.stdout.print(reasons)
    for advice in state["advice"]:
        output.stdout.print(f"[yellow]![/yellow] {escape(advice)}", highlight=False)
    for stranger in known["strangers"]:
        output.stdout.print(f"not enrolled: {stranger['source']}, heard {stranger['last_heard_s']:.0f} s ago")


def _in_custody(outbox: dict[str, Any]) -> str:
    """What waits, since when, and how long the room lasts."""
    parts = [f"{outbox['messages']} messages in custody, {outbox['bytes']} of {outbox['bound']} bytes"]
    if outbox["oldest_s"] is not None:
        parts.append(f"the oldest for {_ago(outbox['oldest_s'])}")
    if outbox["hours_left"] is not None:
        parts.append(f"room for {_ago(outbox['hours_left'] * 3600)} at the present rate")
    if not outbox["durable"]:
        parts.append("in memory only, so no device is told that it may forget a message")
    if not outbox["writable"]:
        parts.append("THE DISK REFUSES IT: devices are told `full`")
    return "; ".join(parts)


@trust_app.command("show")
def trust_show(
    eui: Annotated[str, typer.Argument(help="The device's EUI-64, 16 hex digits.")],
    admin: _ADMIN = None,
    as_json: _JSON = False,
) -> None:
    """A device's trust, what it grants, and every kept change of it with its reason."""
    state = _ask(admin, f"/v1/trust/{eui}")
    if as_json:
        output.print_json(state)
        return

    left = state["quarantine_s"]
    typer.echo(
        f"{state['device']}: trust {state['trust']:.3f}, standing {state['standing']}"
        + ("" if left is None else f" for another {left:.0f} s")
        + f"; {state['reserve']} bytes reserved, {state['extra']} on top"
    )
    if not state["history"]:
        typer.echo("no evidence yet: trust is what enrolment vouches for")
    for change in state["history"]:
        since, until = _ago(change["since_s"]), _ago(change["until_s"])
        when = f"{until} ago" if since == until else f"{since} to {until} ago"
        steps = [_step("trust", change["before"], change["after"], "{:.3f}")]
        if change["budget_before"] is not None:
            steps.append(_step("budget", change["budget_before"], change["budget_after"], "{:,d}") + " bytes")
        if change["led_to"]:
            steps.append(change["led_to"])
        outcome = ", ".join(steps)
        typer.echo(f"{when}: {change['happened']}\n    {outcome}")


def _step(what: str, before: float, after: float, form: str) -> str:
    if before == after:
        return f"{what} stays {form.format(after)}"
    return f"{what} {form.format(before)} -> {form.format(after)}"


def _ago(seconds: float) -> str:
    """A span for people: 45 s, 12 min 5 s, 5 h 3 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, unit, part, smaller in ((60, "min", 1, "s"), (3600, "h", 60, "min")):
        if whole < size * 60:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


@app.command()
def reasons(as_json: _JSON = False) -> None:
    """Every reason for which something is dropped, and what it means."""
    from gateway.reasons import Reason  # noqa: PLC0415

    if as_json:
        output.print_json({reason.value: reason.about for reason in Reason})
        return
    for reason in Reason:
        typer.echo(f"{reason.value:22}{reason.about}")


@app.command()
def settings() -> None:
    """Every setting, its environment variable, its default and what it means."""
    from gateway.settings import describe  # noqa: PLC0415

    for name, variable, default, about in describe():
        typer.echo(f"{name} = {default}\n    {about}\n    {variable}")


@app.command()
def top(
    admin: _ADMIN = None,
    every: Annotated[float, typer.Option(min=0.1, max=3600, help="s between two pictures.")] = 1.0,
    count: Annotated[int | None, typer.Option(min=1, help="Pictures [until Ctrl-C].")] = None,
) -> None:
    """Watch a running gateway: legs, outbox, devices, and what is dropped."""
    from gateway.top import watch  # noqa: PLC0415

    watch(lambda path: _ask(admin, path), output.stdout, every, count)


app.add_typer(service_cli.app)


def _ask(admin: Path | None, path: str) -> Any:
    """What the running gateway answers to GET `path`. Raises AdminError."""
    import httpx  # noqa: PLC0415

    from gateway.settings import SERVICE_SOCKET, load  # noqa: PLC0415

    where = admin or load().admin_socket()
    # `os.path`: a directory that is not ours to enter is no error here.
    if admin is None and not os.path.exists(where) and SERVICE_SOCKET.parent.exists():
        where = SERVICE_SOCKET
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(where)), timeout=5.0) as client:
            response = client.get("http://gateway" + path)
    except httpx.HTTPError as error:
        ours = os.access(where.parent, os.X_OK) and (os.access(where, os.W_OK) or not where.exists())
        raise AdminError(
            f"no gateway answers at {where}: {error}",
            remedy="start one with `slimwire gateway run`, or name its socket with --admin"
            if ours or not where.parent.exists()
            else "that is the service's own: run this as root (sudo), or as the service's user",
        ) from error
    if response.status_code != 200:
        detail = (
            response.json().get("detail", "") if "json" in response.headers.get("content-type", "") else ""
        )
        raise AdminError(f"the gateway at {where} answered HTTP {response.status_code}: {detail}")
    return response.json()
