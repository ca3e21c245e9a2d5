"""`slimwire wire`: look at bytes on the air."""

import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from slimwire.errors import SlimwireError
from slimwire.output import print_json
from wire import dissect, iphc, ipv6, pcap
from wire.errors import WireError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Look at bytes on the air.")

#: Bytes of payload that the table shows.
_SHOWN = 24


@app.callback()
def _wire() -> None:
    """Keeps `dump` a subcommand although it is the only one."""


@app.command()
def dump(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.pcap", help="A pcap or pcapng capture; - reads standard input.")
    ],
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: per frame, and per completed datagram.")
    ] = False,
    context: Annotated[
        list[str] | None,
        typer.Option("--context", metavar="N=PREFIX", help="An IPHC context: 0=2001:db8::/64. Repeatable."),
    ] = None,
) -> None:
    """Take every frame of a capture apart: 802.15.4 (195, 230, 283), or ZEP in Ethernet or Linux cooked."""
    contexts = dict(_context(text) for text in context or [])
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise SlimwireError(
            f"{file}: {error.strerror or error}",
            expected="a capture file that can be read",
            remedy="check the path and its permissions",
        ) from error
    dissector = dissect.Dissector(contexts)
    missing_context = False
    for number, record in enumerate(_records(file, data), 1):
        found = dissector.frame(record)
        missing_context |= (found.error or "").startswith("context-missing")
        if json:
            print_json({"n": number, "layers": found.layers, "error": found.error})
        else:
            problem = f"  !! {found.error}" if found.error else ""
            print(f"{number:>6}  {len(record.data):>4} B  {' '.join(found.layers)}{problem}")
        if found.datagram:
            _print_datagram(found.datagram, json)
    if missing_context:
        print(
            "slimwire: some addresses need an IPHC context; give it with --context N=PREFIX", file=sys.stderr
        )


def _records(file: Path, data: bytes) -> Iterator[pcap.Record]:
    """The frames of the capture; damage ends them with an error for people, after all that came before it."""
    try:
        reader = pcap.Reader(data)
        if reader.linktype is not None and reader.linktype not in dissect.LINKTYPES:
            raise SlimwireError(
                f"{file}: link type {reader.linktype} holds no 802.15.4 frames",
                expected=f"one of the link types {', '.join(map(str, dissect.LINKTYPES))}",
                remedy="capture on the 802.15.4 interface, or the Ethernet side that carries ZEP",
            )
        yield from reader
    except WireError as error:
        truncated = error.reason == "pcap-truncated"
        raise SlimwireError(
            f"{file}: {error.message}",
            expected="a pcap or pcapng file that is whole",
            remedy="what came before the cut is shown; let the capture finish, or copy the file again"
            if truncated
            else "check that this is a capture; `editcap -F pcap` converts other formats",
        ) from error


def _context(text: str) -> tuple[int, iphc.Prefix]:
    number, _, prefix = text.partition("=")
    try:
        network = ipaddress.IPv6Network(prefix if "/" in prefix else f"{prefix}/64", strict=False)
        index = int(number)
    except ValueError as error:
        raise _bad_context(text) from error
    if not 0 <= index <= 15:
        raise _bad_context(text)
    return index, iphc.Prefix(network.network_address.packed, network.prefixlen)


def _bad_context(text: str) -> SlimwireError:
    return SlimwireError(
        f"--context {text!r} is no IPHC context",
        expected="a number 0..15 and an IPv6 prefix",
        remedy="write it like --context 0=2001:db8::/64",
    )


def _print_datagram(datagram: dissect.Datagram, json: bool) -> None:
    src, dst = ipv6.text(datagram.src), ipv6.text(datagram.dst)
    if json:
        fields = {"src": src, "dst": dst, "size": datagram.size, "payload_hex": datagram.payload.hex()}
        print_json({"datagram": fields})
        return
    more = "..." if len(datagram.payload) > _SHOWN else ""
    print(
        f"        = {src} > {dst}  {datagram.size} B, payload {len(datagram.payload)} B:"
        f" {datagram.payload[:_SHOWN].hex()}{more}"
    )
