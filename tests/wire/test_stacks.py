"""`wire dump` on captures of other stacks: what the bytes say, and what tshark finds."""

import ipaddress
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz.mutator import mutations
from tests.fuzz.targets import CONTEXTS as FUZZ_CONTEXTS
from tests.fuzz.targets import TARGETS, A, B
from tests.wire import captures
from tests.wire.stacks import CASES, CONTEXTS, Case, Found
from tests.wire.test_peers import tshark
from wire import ipv6, pcap
from wire.dissect import Dissector
from wire.ieee802154 import FrameKind, MacFrame
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


@pytest.mark.needs("tshark")
def test_tshark_reads_the_same_in_mutated_headers(tmp_path: Path) -> None:
    """What both take for a datagram is the same one; what only this side refuses has a reason."""
    corpus = [data[1:] for name in ("iphc", "lowpan") for data in TARGETS[name].corpus]
    usable = (one for one in mutations(corpus, 2, 90) if one and (one[0] >> 5 == 3 or one[0] == 0x41))
    made = [
        MacFrame(FrameKind.DATA, number & 0xFF, 0x23F0, B, A, payload, version=1).emit()
        for number, payload in enumerate(islice(usable, 1500))
    ]
    data = captures.capture(195, made)
    file = tmp_path / "air.pcap"
    file.write_bytes(data)
    options = ["-E", "occurrence=f"]
    for number, prefix in FUZZ_CONTEXTS.items():
        options += ["-o", f"6lowpan.context{number}:{ipv6.text(prefix.address)}/{prefix.length}"]
    rows = tshark(file, FIELDS[:4], *options)
    target = Dissector(FUZZ_CONTEXTS)
    both = 0
    for (_, *theirs), record in zip(rows, pcap.Reader(data), strict=True):
        found = target.frame(record)
        if found.datagram is None:
            assert found.error is not None
            continue
        assert theirs[0], record.data.hex()
        src, dst = (ipaddress.IPv6Address(text).packed for text in theirs[:2])
        assert (src, dst) == (found.datagram.src, found.datagram.dst), record.data.hex()
        # tshark leaves out what follows a compressed extension header that says "no next header".
        if "6lowpan.nhc-ext" not in found.layers:
            assert 40 + int(theirs[2]) == found.datagram.size, record.data.hex()
        both += 1
    assert both > 700
