"""`wire dump` on captures of other stacks: what the bytes say, and what tshark finds."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire import captures
from tests.wire.stacks import CASES, CONTEXTS, Case, Found
from tests.wire.test_peers import tshark
from wire import ipv6, pcap
from wire.dissect import Dissector
from wire.iphc import Prefix


def dissector(case: Case) -> Dissector:
    networks = {n: ipaddress.IPv6Network(text) for n, text in CONTEXTS.items() if case.contexts}
    return Dissector({n: Prefix(net.network_address.packed, net.prefixlen) for n, net in networks.items()})


def found(case: Case, carrier: str) -> Iterator[Found]:
    linktype, wrap = captures.CARRIERS[carrier]
    target = dissector(case)
    for number, record in enumerate(pcap.Reader(captures.capture(linktype, list(map(wrap, case.frames)))), 1):
        one = target.frame(record)
        assert one.error is None or one.error.startswith("context-missing"), (number, one.layers, one.error)
        if (datagram := one.datagram) is not None:
            src, dst = ipv6.text(datagram.src), ipv6.text(datagram.dst)
            yield number, src, dst, datagram.size, datagram.payload.hex()


@pytest.mark.parametrize("carrier", captures.CARRIERS)
@pytest.mark.parametrize("name", CASES)
def test_the_datagrams_in_every_link_type(name: str, carrier: str) -> None:
    assert list(found(CASES[name], carrier)) == CASES[name].datagrams


FIELDS = ["frame.number", "ipv6.src", "ipv6.dst", "ipv6.plen", "udp.payload", "_ws.malformed"]


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.no_oracle])
def test_tshark_finds_the_same(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    file = tmp_path / "air.pcap"
    file.write_bytes(captures.capture(195, case.frames))
    options = ["-Y", "ipv6"]
    for number, prefix in CONTEXTS.items() if case.contexts else ():
        options += ["-o", f"6lowpan.context{number}:{prefix}"]
    rows = tshark(file, FIELDS, *options)
    assert not any(malformed for *_, malformed in rows)
    # The outer header of IPv6 in IPv6 comes first.
    outer = [[value.split(",")[0] for value in row] for row in rows]
    assert [(int(n), src, dst, 40 + int(length)) for n, src, dst, length, *_ in outer] == [
        datagram[:4] for datagram in case.datagrams
    ]
    for row, datagram in zip(rows, case.datagrams, strict=True):
        payload = row[4]
        assert not payload or datagram[4].endswith(payload)
