"""How a fleet's slices reach the gateway, and replies the fleet: ZEP over UDP, or a broker."""

import selectors
import socket
from collections import deque
from typing import Any, Protocol

from gateway.downlink import SLICE_ROOM
from lab.experiments.kill.node import GATEWAY, PAN, SITE, Node
from wire import lowpan, mqtt
from wire.errors import WireError
from wire.ieee802154 import MacFrame
from wire.message import PORT, FirstSlice, datagram_tag
from wire.zep import ZepFrame

#: Whom a reply is for, and its UDP payload.
Heard = tuple[bytes, bytes]


class Air(Protocol):
    """Carries messages up and replies down; both may get lost at any time."""

    def transmit(self, node: Node, counter: int, slices: list[bytes]) -> None:
        """Send the slices of one message, once."""

    def receive(self, seconds: float) -> list[Heard]:
        """Replies that came, waiting for one for so long at most."""

    def close(self) -> None:
        """Let go of it."""


class ZepAir:
    """One UDP socket for the whole fleet.

    Args:
        gateway: where the gateway listens.
    """

    def __init__(self, gateway: tuple[str, int]) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.setblocking(False)
        self._gateway = gateway
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._sock, selectors.EVENT_READ)
        self._zep = 0

    def transmit(self, node: Node, counter: int, slices: list[bytes]) -> None:
        """See `Air`."""
        for frame in frames(node, counter, slices):
            self._zep += 1
            try:
                self._sock.sendto(ZepFrame(26, 1, 255, self._zep, frame).emit(), self._gateway)
            except OSError:
                return  # nobody listens, or the queue is full: lost, as on any radio

    def receive(self, seconds: float) -> list[Heard]:
        """See `Air`."""
        if not self._selector.select(seconds):
            return []
        heard: list[Heard] = []
        while True:
            try:
                packet = self._sock.recv(512)
            except BlockingIOError:
                return heard
            except OSError:
                continue  # an ICMP error of an earlier send
            mac = MacFrame.parse(ZepFrame.parse(packet).frame)
            content = lowpan.parse(mac.payload, mac.src, mac.dst)
            if isinstance(content, lowpan.Unfragmented) and mac.dst is not None:
                heard.append((mac.dst, content.payload))

    def close(self) -> None:
        """See `Air`."""
        self._selector.close()
        self._sock.close()


def frames(node: Node, counter: int, slices: list[bytes]) -> list[bytes]:
    """The 802.15.4 frames, with FCS, that carry these slices to the gateway; their numbers go on counting."""
    payload = b"".join(slices)
    first_slice = step = None
    if len(slices) > 1:
        first_slice = len(slices[0])
        step = 8 * FirstSlice.parse(slices[0], len(payload)).step or SLICE_ROOM
    made = lowpan.udp_frames(
        node.eui,
        GATEWAY,
        PORT,
        PORT,
        payload,
        datagram_tag(counter),
        node.sequence,
        PAN,
        first_slice=first_slice,
        step=step,
        ack_request=True,
    )
    node.sequence = node.sequence + len(made) & 0xFF
    return [frame.emit() for frame in made]


class MqttAir:
    """One connection to a broker for the whole fleet; it comes back by itself.

    Args:
        broker: host and port.
    """

    def __init__(self, broker: tuple[str, int]) -> None:
        from paho.mqtt.client import Client  # noqa: PLC0415  (of the gateway's extra)
        from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415

        self._heard: deque[Heard] = deque()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="slimwire-fleet", clean_session=True)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_socket_open = _no_delay
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        self._client.connect_async(*broker)
        self._client.loop_start()
        self._selector = selectors.DefaultSelector()
        self._wake, self._bell = socket.socketpair()
        self._wake.setblocking(False)
        self._bell.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def transmit(self, node: Node, counter: int, slices: list[bytes]) -> None:
        """See `Air`."""
        if not self._client.is_connected():
            return
        topic = mqtt.topic(SITE, node.eui, mqtt.UP)
        for fragment in mqtt.fragments(counter, slices):
            self._client.publish(topic, fragment, qos=1)

    def receive(self, seconds: float) -> list[Heard]:
        """See `Air`."""
        if not self._heard and self._selector.select(seconds):
            self._wake.recv(4096)
        heard = []
        while self._heard:
            heard.append(self._heard.popleft())
        return heard

    def close(self) -> None:
        """See `Air`."""
        self._client.disconnect()
        self._client.loop_stop()
        self._selector.close()
        self._wake.close()
        self._bell.close()

    def _connected(self, client: Any, _data: object, _flags: object, _code: object, _props: object) -> None:
        client.subscribe(mqtt.topic(SITE, None, mqtt.DOWN), qos=0)

    def _message(self, _client: Any, _data: object, message: Any) -> None:
        device = mqtt.device_of(message.topic)
        try:
            part = mqtt.Fragment.parse(bytes(message.payload))
        except WireError:
            return
        if device is not None and not part.i and len(part.data) == part.payload_length:
            self._heard.append((device, part.data))
            try:
                self._bell.send(b"!")
            except BlockingIOError:
                return  # it has been rung


def _no_delay(_client: object, _data: object, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
