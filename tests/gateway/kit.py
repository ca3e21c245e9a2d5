"""A device and a gateway on paper: genuine frames, made by `wire` and `security` as a device makes them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from gateway.admission import Limits
from gateway.downlink import FIRST_ROOM, SINGLE_ROOM, SLICE_ROOM
from gateway.events import Accepted, Acknowledge, Event, Rejected
from gateway.receiver import Receiver
from security import chain, custody
from security.chain import KeyedChain
from security.keys import derive_edge, derive_gateway
from security.registry import Device, EdgeRegistry, GatewayRegistry
from security.trust import PaperTrust
from wire import eui64, lowpan
from wire.ieee802154 import FrameKind, MacFrame
from wire.message import PORT, FirstSlice, Kind, datagram_tag, octet0
from wire.reply import Custody, is_custody

GATEWAY = bytes.fromhex("0200000000000001")
SITE = "lab"
PAN = 0x23F0


@dataclass
class Node:
    """An enrolled device with its keys."""

    number: int = 1
    epoch: int = 0
    root: bytes = field(init=False)
    eui: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.root = bytes([self.number]) * 32
        self.eui = bytes.fromhex("0200000000ab") + self.number.to_bytes(2, "big")
        self.keys = derive_gateway(self.root, self.eui, self.epoch, SITE)
        self.edge_keys = derive_edge(self.root, self.eui, self.epoch)

    def slices(self, counter: int, sealed: bytes, *, attempt: int = 0, kind: int = Kind.DATA) -> list[bytes]:
        """The message's slices of UDP payload."""
        return chain.make(
            self.keys.frag_up,
            self.eui,
            eui64.link_local(self.eui),
            eui64.link_local(GATEWAY),
            octet0=octet0(kind, self.epoch),
            counter=counter,
            sealed=sealed,
            single_room=SINGLE_ROOM,
            first_room=FIRST_ROOM,
            slice_room=SLICE_ROOM,
            attempt=attempt,
        )

    def frames(
        self, counter: int, sealed: bytes, *, attempt: int = 0, kind: int = Kind.DATA, seq: int = 0
    ) -> list[bytes]:
        """The frames, with FCS, of one message."""
        return self.carry(
            self.slices(counter, sealed, attempt=attempt, kind=kind), datagram_tag(counter), seq=seq
        )

    def carry(
        self,
        slices: list[bytes],
        tag: int,
        *,
        seq: int = 0,
        src: bytes | None = None,
        dst: bytes = GATEWAY,
        ports: tuple[int, int] = (PORT, PORT),
    ) -> list[bytes]:
        """The frames that carry these slices, genuine or not."""
        payload = b"".join(slices)
        first_slice = step = None
        if len(slices) > 1:
            first_slice = len(slices[0])
            step = 8 * FirstSlice.parse(slices[0], len(payload)).step or SLICE_ROOM
        made = lowpan.udp_frames(
            src or self.eui,
            dst,
            *ports,
            payload,
            tag,
            seq,
            PAN,
            first_slice=first_slice,
            step=step,
            ack_request=True,
        )
        return [frame.emit() for frame in made]

    def recoverable(
        self,
        counter: int,
        sealed: bytes,
        *,
        attempt: int = 0,
        ask: Collection[int] = (),
        tag: int | None = None,
    ) -> list[bytes]:
        """The frames of one message in recoverable fragments (RFC 8931).

        Args:
            ask: sequences that ask for an acknowledgement.
            tag: instead of the right one.
        """
        slices = self.slices(counter, sealed, attempt=attempt)
        payload = b"".join(slices)
        step = 8 * FirstSlice.parse(slices[0], len(payload)).step or SLICE_ROOM
        fragments = lowpan.recoverable(
            self.eui,
            GATEWAY,
            PORT,
            PORT,
            payload,
            datagram_tag(counter) if tag is None else tag,
            len(slices[0]),
            step,
        )
        for fragment in fragments:
            fragment.ack_request = fragment.sequence in ask
        return [self.mac(fragment.emit()) for fragment in fragments]

    def mac(self, payload: bytes, seq: int = 0) -> bytes:
        """A frame of this device around any MAC payload."""
        return MacFrame(FrameKind.DATA, seq, PAN, GATEWAY, self.eui, payload, True, version=1).emit()


def registry(*nodes: Node, revoked: tuple[Node, ...] = ()) -> GatewayRegistry:
    """The gateway's registry of these devices."""
    devices = {
        node.eui: Device(node.eui, f"node {node.number}", {node.epoch: node.keys}, node in revoked)
        for node in (*nodes, *revoked)
    }
    return GatewayRegistry(GATEWAY, SITE, devices=devices)


def edge_registry(*nodes: Node) -> EdgeRegistry:
    """The edge server's registry of these devices."""
    return EdgeRegistry(
        devices={
            node.eui: Device(node.eui, f"node {node.number}", {node.epoch: node.edge_keys}) for node in nodes
        }
    )


def save_registry(path: Path, *nodes: Node) -> Path:
    """Write the gateway's registry."""
    registry(*nodes).save(path)
    return path


def receiver(*nodes: Node, limits: Limits | None = None, revoked: tuple[Node, ...] = ()) -> Receiver:
    """A receiver with the real chain and the paper's trust."""
    return Receiver(registry(*nodes, revoked=revoked), KeyedChain(), PaperTrust(), limits)


def feed(target: Receiver, frames: list[bytes], now: float = 0.0) -> list[Event]:
    """All events of these frames."""
    return [event for frame in frames for event in target.on_frame(frame, now)]


def accepted(events: list[Event]) -> list[Accepted]:
    return [event for event in events if isinstance(event, Accepted)]


def acks(events: list[Event]) -> list[int]:
    """The bitmaps of the acknowledgements that are to be sent."""
    return [event.bitmap for event in events if isinstance(event, Acknowledge)]


def reasons(events: list[Event]) -> list[str]:
    return [str(event.reason) for event in events if isinstance(event, Rejected)]


def sealed_bytes(length: int, seed: int = 0) -> bytes:
    """Bytes that look like a seal."""
    import random

    return random.Random(f"{seed} {length}").randbytes(length)


def custody_ack(frame: bytes, node: Node) -> Custody | None:
    """The custody ack in a frame, verified as its device does it; None if it carries something else."""
    mac = MacFrame.parse(frame)
    packet = lowpan.parse(mac.payload, mac.src, mac.dst)
    if not isinstance(packet, lowpan.Unfragmented) or not is_custody(packet.payload):
        return None
    ack = Custody.parse(packet.payload)
    assert custody.verify(node.keys.frag_dn, GATEWAY, node.eui, ack)
    return ack
