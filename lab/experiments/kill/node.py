"""One device of the fleet: its keys, and its latents of real images, made in advance."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from gateway.downlink import FIRST_ROOM, SINGLE_ROOM, SLICE_ROOM
from models.bundle import Bundle
from models.head import Head
from security import chain, seal
from security.keys import EdgeKeys, GatewayKeys, derive_edge, derive_gateway
from wire import eui64, latent, rans
from wire.latent import InnerHeader
from wire.message import Kind, octet0

GATEWAY = bytes.fromhex("0200000000000001")
SITE = "kill-lab"
PAN = 0x23F0
#: Images whose latents are made in advance.
_IMAGES = 64


@dataclass(eq=False)
class Node:
    """An enrolled device.

    Attributes:
        number: 1 and up.
        eui: its EUI-64. keys, edge_keys: of its one epoch, 0.
        sequence: of its next frame.
    """

    number: int
    eui: bytes = field(init=False)
    keys: GatewayKeys = field(init=False, repr=False)
    edge_keys: EdgeKeys = field(init=False, repr=False)
    sequence: int = 0

    def __post_init__(self) -> None:
        root = hashlib.sha256(b"kill lab %d" % self.number).digest()
        self.eui = bytes.fromhex("0200000000cd") + self.number.to_bytes(2, "big")
        self.keys = derive_gateway(root, self.eui, 0, SITE)
        self.edge_keys = derive_edge(root, self.eui, 0)

    def seal(self, counter: int, plaintext: bytes) -> bytes:
        """A message's sealed bytes."""
        return seal.seal_up(self.edge_keys, self.eui, octet0(Kind.DATA, 0), counter, plaintext)

    def open(self, counter: int, sealed: bytes) -> bytes:
        """An answer's plaintext. Raises SealError."""
        return seal.open_down(self.edge_keys, octet0(Kind.REPLY, 0), counter, sealed)

    def slices(self, counter: int, sealed: bytes) -> list[bytes]:
        """The slices of UDP payload, under the hop's chain."""
        return chain.make(
            self.keys.frag_up,
            self.eui,
            eui64.link_local(self.eui),
            eui64.link_local(GATEWAY),
            octet0=octet0(Kind.DATA, 0),
            counter=counter,
            sealed=sealed,
            single_room=SINGLE_ROOM,
            first_room=FIRST_ROOM,
            slice_room=SLICE_ROOM,
        )


def latents(bundle: Bundle, seed: int) -> list[bytes]:
    """Plaintexts of latents of the bundle's own images, over all widths, in an order that `seed` decides."""
    images = bundle.camera()[0]
    rng = np.random.default_rng(seed)
    head = Head(bundle.headfile)
    made = []
    for n, index in enumerate(rng.integers(len(images), size=_IMAGES)):
        width = n % len(bundle.headfile.widths)
        symbols = head.run(images[index : index + 1], width)[0]
        coded = rans.encode(symbols, bundle.headfile.widths[width].tables)
        made.append(latent.emit(InnerHeader(bundle.headfile.model_tag, width), coded))
    return made
