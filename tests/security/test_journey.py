"""From a root secret to the bytes in the frames and back, with every part in its place."""

from typing import Any

import pytest

from security import keys, seal
from security.chain import KeyedChain, make
from tests.vectors.registry import case_name, claim
from wire import eui64, latent
from wire.ieee802154 import room
from wire.latent import InnerHeader, LinkReport
from wire.message import PORT, FirstSlice, FrameRooms, Kind, epoch_of, octet0
from wire.reply import Answer


@pytest.mark.parametrize("case", claim("journey.json", "security"), ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    root, device, gateway = (bytes.fromhex(case[name]) for name in ("root", "device", "gateway"))
    epoch, counter, up = case["epoch"], case["counter"], case["direction"] == "up"
    hop = keys.derive_gateway(root, device, epoch, case["site"])
    edge = keys.derive_edge(root, device, epoch)
    octet = octet0(Kind.DATA if up else Kind.REPLY, epoch)
    ends = (device, gateway) if up else (gateway, device)
    addresses = eui64.link_local(ends[0]), eui64.link_local(ends[1])
    key = hop.frag_up if up else hop.frag_dn

    # The sender.
    if up:
        header = InnerHeader(case["model_tag"], case["width"], report=LinkReport(**case["report"]))
        plaintext = latent.emit(header, bytes.fromhex(case["coded"]))
        sealed = seal.seal_up(edge, device, octet, counter, plaintext)
    else:
        plaintext = Answer(**case["answer"]).emit()
        sealed = seal.seal_down(edge, octet, counter, plaintext)
    rooms = FrameRooms.of(room(*ends))
    slices = make(key, device, *addresses, octet0=octet, counter=counter, sealed=sealed, **rooms._asdict())
    assert sealed.hex() == case["sealed"]
    assert [s.hex() for s in slices] == case["slices"]

    # The receiver: the first slice first, the others from the last on.
    length = sum(map(len, slices))
    first = FirstSlice.parse(slices[0], length)
    chain = KeyedChain()
    assert chain.verify_first(key, addresses, (PORT, PORT), length, first)
    assert all(chain.verify_slice(key, device, first, i, slices[i]) for i in range(first.n, 0, -1))
    assert epoch_of(first.octet0) == epoch % 4
    received = first.sealed + b"".join(slices[1:])
    if up:
        assert seal.open_up(edge, device, first.octet0, first.counter, received) == plaintext
    else:
        assert Answer.parse(seal.open_down(edge, first.octet0, first.counter, received)) == Answer(
            **case["answer"]
        )
