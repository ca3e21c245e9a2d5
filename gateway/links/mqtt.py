"""The MQTT leg: fragments of Wi-Fi devices, through a broker (`wire.mqtt`).

What is published to SITE/+/up comes in; replies go to the device's `down`. The broker keeps each fragment
(QoS 1, a session that outlives us) until we acknowledge it, and that happens

- when a reply to its message goes out: custody, which follows the commit, or the answer;
- when nothing of it was taken;
- after a minute, when neither came: the device sends it again.

So a gateway that is killed finds again at the broker whatever it had not committed.

The socket belongs to the event loop: paho's own thread is not used. Replies come cut for the radio's frames
and stay so: a device never has to take more than 105 bytes in one piece.
"""

import asyncio
import logging
import random
import socket
import ssl
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import LinkError
from gateway.links.arrivals import Arrivals
from gateway.links.base import Leg, Received
from gateway.reasons import Reason
from wire import lowpan, mqtt
from wire.errors import WireError
from wire.ieee802154 import MacFrame
from wire.message import FirstSlice

_log = logging.getLogger("gateway.mqtt")

_KEEPALIVE = 30
_ANSWER_WITHIN = 5.0
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
#: Packets read per wake-up, so that other tasks get their turn.
_READS = 64
#: s after which a fragment that led to nothing is acknowledged all the same: a datagram lives as long.
_HOLD = 60.0
#: Largest topic, plus a whole datagram: nothing larger is ours.
_LARGEST = 4096
#: Devices whose last first slice is remembered, to number the later ones of a reply.
_REPLIES = 1024


@dataclass(frozen=True)
class Broker:
    """Where the broker is, and who we are there.

    Args:
        host, port: TCP.
        ca: PEM file of the authority that signed the broker's certificate; with it the connection is TLS.
        certificate, key: PEM files of our own certificate; its common name is our user name there.
        username, password: for a broker that asks for them.
        session: s for which the broker keeps what comes while we are away.
        embedded: the broker is our own (MQTT 3.1.1).
        client: our client identifier; "": made of our EUI-64.
    """

    host: str
    port: int
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str | None = None
    password: str | None = None
    session: int = 3600
    embedded: bool = False
    client: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """How to speak TLS; None: not at all.

        Raises:
            LinkError: a file cannot be read, or holds something else; says which, and what to do.
        """
        if self.ca is None:
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
        except (OSError, ssl.SSLError) as error:
            raise LinkError(
                f"the broker's certificate authority {self.ca} cannot be used: {error}",
                expected="a PEM file of certificates that this user may read",
                remedy="correct `ca` in [mqtt]",
            ) from error
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except (OSError, ssl.SSLError) as error:
                raise LinkError(
                    f"our certificate {self.certificate} with key {self.key} cannot be used: {error}",
                    expected="a PEM certificate and the private key that belongs to it",
                    remedy="correct `certificate` and `key` in [mqtt]",
                ) from error
        return context


class _Origin(NamedTuple):
    """Which PUBLISH of which connection."""

    connection: int
    mid: int
    qos: int


@dataclass(slots=True)
class _Held:
    """Fragments of one message that the broker still keeps for us."""

    since: float
    origins: list[_Origin]


class MqttLink:
    """Fragments through one broker. Made by `MqttLink.open`.

    Args:
        broker: where to connect; kept trying for ever, with growing pauses.
        site: the registry's site.
        gateway: our EUI-64.
        queue: fragments waiting at most.

    Attributes:
        counters: as of any link.
        connections: how often the broker took us.
        problem: why there is no connection at this moment; "" when there is.
    """

    def __init__(
        self,
        broker: Broker,
        site: str,
        gateway: bytes,
        *,
        queue: int = 4096,
    ) -> None:
        try:
            self._up = mqtt.topic(site, None, mqtt.UP)
        except ValueError as error:
            raise LinkError(
                f"the site {site!r} cannot be part of an MQTT topic",
                expected=str(error),
                remedy="enrol under a site with another name, or leave out [mqtt]",
            ) from error
        self.counters: Counter[str] = Counter()
        self.connections = 0
        self.problem = "not connected yet"
        self._broker = broker
        self._context = broker.context()
        self._site = site
        self._gateway = gateway
        self._bound = min(queue, 0xFFFF)
        self._arrivals = Arrivals(self._bound)
        self._held: OrderedDict[tuple[bytes, int], _Held] = OrderedDict()
        self._replies: OrderedDict[bytes, FirstSlice] = OrderedDict()
        self._received = self._sent = self._seen = 0
        self._loop = asyncio.get_running_loop()
        self._client: Client | None = None
        self._protocol = MQTTProtocolVersion.MQTTv311 if broker.embedded else MQTTProtocolVersion.MQTTv5
        self._fixed_protocol = broker.embedded
        self._changed = asyncio.Event()
        self._refused = self._alert = ""
        self._answered = self._older_tls = False
        self._told = ""
        self._closed = False
        self._task = self._loop.create_task(self._stay_connected())

    @classmethod
    async def open(
        cls,
        broker: Broker,
        site: str,
        gateway: bytes,
        *,
        queue: int = 4096,
    ) -> "MqttLink":
        """Start connecting; a broker that is not there yet is waited for.

        Raises:
            LinkError: a certificate cannot be used, or the site's name is no part of a topic.
        """
        return cls(broker, site, gateway, queue=queue)

    @property
    def description(self) -> str:
        """What the link is, and how it is."""
        kind = "embedded broker" if self._broker.embedded else "broker"
        return f"MQTT, {kind} {self._broker}" + (f" ({self.problem})" if self.problem else "")

    @property
    def connected(self) -> bool:
        """Whether the broker has us."""
        return not self.problem

    @property
    def socket(self) -> Any:
        """The connection's socket, None while there is none."""
        return self._client.socket() if self._client is not None else None

    @property
    def protocol(self) -> str:
        """The version of MQTT that is, or was last, spoken."""
        return "5" if self._protocol is MQTTProtocolVersion.MQTTv5 else "3.1.1"

    def legs(self) -> Sequence[Leg]:
        """This one; up while the broker has us."""
        return (Leg("mqtt", self.description, self.connected, self._received, self._sent),)

    async def receive(self) -> Received:
        """The next fragment; waits for one."""
        return await self._arrivals.get()

    async def send(self, frame: bytes) -> None:
        """Publish what a frame of a reply carries to the topic of the device it is addressed to."""
        try:
            mac = MacFrame.parse(frame)
            device = mac.dst
            if device is None or mac.src is None:
                raise WireError("not-ours", "a frame without addresses")
            fragment = self._fragment(device, lowpan.parse(mac.payload, mac.src, device))
        except WireError:
            self.counters[Reason.DOWNLINK_UNROUTABLE] += 1
            return
        self._settle(device, fragment.counter)
        if self.publish(mqtt.topic(self._site, device, mqtt.DOWN), fragment.emit()):
            self._sent += 1
        else:
            self.counters[Reason.LINK_UNSENT] += 1

    def publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> bool:
        """Publish at QoS 0, or at QoS 1 what is retained; False while there is no connection."""
        client = self._client
        if client is None or not self.connected:
            return False
        sent = client.publish(topic, payload, qos=1 if retain else 0, retain=retain)
        return sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def learn(self, source: bytes, origin: object) -> None:
        """Nothing to learn: a device's topic says where it is."""

    def refuse(self, received: Received) -> None:
        """Tell the broker that it may forget this fragment."""
        origin = received.origin
        if received.source is None or not isinstance(origin, _Origin):
            return
        name = _message_of(received.source, received.frame)
        held = self._held.get(name)
        if held is not None and origin in held.origins:
            held.origins.remove(origin)
            if not held.origins:
                del self._held[name]
            self._acknowledge(origin)

    def renew(self) -> None:
        """Read certificates again, and connect anew with them.

        Raises:
            LinkError: one cannot be used; the connection stays as it is.
        """
        if self._broker.ca is None:
            return
        self._context = self._broker.context()
        if self._client is not None:
            self._refused = "certificates were read again"
            self._client.disconnect()

    def close(self) -> None:
        """Say goodbye and close the connection; closing it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._task.cancel()
        if self._client is not None and self.connected:
            self.publish(mqtt.topic(self._site, self._gateway, mqtt.STATE), mqtt.OFFLINE, retain=True)
            self._client.disconnect()
        self._drop()

    # The connection.

    async def _stay_connected(self) -> None:
        delay = _FIRST_DELAY
        while True:
            client = self._make_client()
            connections = self.connections
            try:
                await self._connect(client)
                await self._serve(client)
            except (OSError, ValueError) as error:
                self._failed(self._explain(error))
            else:
                self._failed(self._refused or self._alert_text() or self._closed_early())
            finally:
                self._drop()
            delay = _FIRST_DELAY if self.connections > connections else min(2 * delay, _LONGEST_DELAY)
            await asyncio.sleep(delay * random.uniform(0.75, 1.25))

    async def _connect(self, client: Client) -> None:
        broker = self._broker
        options: dict[str, Any] = {}
        if self._protocol is MQTTProtocolVersion.MQTTv5:
            properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = broker.session
            properties.ReceiveMaximum = self._bound
            properties.MaximumPacketSize = _LARGEST
            options = {"clean_start": False, "properties": properties}
        await self._loop.run_in_executor(
            None, lambda: client.connect(broker.host, broker.port, _KEEPALIVE, **options)
        )
        self._client = client

    async def _serve(self, client: Client) -> None:
        """Until the connection ends."""
        sock = client.socket()
        if sock is None:
            return
        number = sock.fileno()
        self._changed.clear()

        def closing(_client: Client, _data: object, _sock: object) -> None:
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)
            self._changed.set()

        client.on_socket_close = closing

        def unblocked(_client: Client, _data: object, _sock: object) -> None:
            self._loop.remove_writer(number)

        def blocked(_client: Client, _data: object, _sock: object) -> None:
            self._loop.add_writer(number, client.loop_write)

        client.on_socket_register_write, client.on_socket_unregister_write = blocked, unblocked
        self._loop.add_reader(number, self._readable, client)
        if client.want_write():
            self._loop.add_writer(number, client.loop_write)
        began = self._loop.time()
        while client.socket() is not None and not self._changed.is_set():
            if self.problem and self._loop.time() - began > _ANSWER_WITHIN:
                if self._answered:
                    self._refused = self._forbidden()
                else:
                    self._refused = (
                        f"{self._broker} takes connections and does not answer as an MQTT broker; correct "
                        "`broker` in [mqtt]"
                    )
                    self._other_protocol()
                return
            client.loop_misc()
            self._expire(time.monotonic())
            try:
                await asyncio.wait_for(self._changed.wait(), 1.0)
            except TimeoutError:
                continue

    def _make_client(self) -> Client:
        v5 = self._protocol is MQTTProtocolVersion.MQTTv5
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._broker.client or f"slimwire-gateway-{self._gateway.hex()}",
            protocol=self._protocol,
            manual_ack=True,
            clean_session=None if v5 else False,
        )
        if self._context is not None:
            self._context.maximum_version = (
                ssl.TLSVersion.TLSv1_2 if self._older_tls else ssl.TLSVersion.MAXIMUM_SUPPORTED
            )
            client.tls_set_context(self._context)
        if self._broker.username is not None:
            client.username_pw_set(self._broker.username, self._broker.password)
        state = mqtt.topic(self._site, self._gateway, mqtt.STATE)
        client.will_set(state, mqtt.OFFLINE, qos=1, retain=True)
        client.on_socket_open = _no_delay
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._message
        client.on_log = self._logged
        self._refused = self._alert = ""
        self._answered = False
        return client

    def _connected(
        self, client: Client, _data: object, _flags: ConnectFlags, code: ReasonCode, _properties: object
    ) -> None:
        if code.is_failure:
            self._other_protocol()
            self._refused = (
                f"the broker {self._broker} refuses this gateway: {code}; correct who we are in [mqtt]"
            )
            return
        self._fixed_protocol = self._answered = True
        client.subscribe(self._up, qos=1)

    def _subscribed(
        self, client: Client, _data: object, _mid: int, codes: list[ReasonCode], _properties: object
    ) -> None:
        # mosquitto lets anyone subscribe and then withholds what its access list forbids, so what is
        # published on a topic of our own must come back.
        echo = mqtt.topic(self._site, self._gateway, mqtt.UP)
        if any(code.is_failure for code in codes) or client.publish(echo, b"", qos=1).rc:
            self._refused = self._forbidden()
            client.disconnect()

    def _forbidden(self) -> str:
        return (
            f"the broker {self._broker} does not let this gateway read {self._up}; its access list must: "
            "`slimwire gateway broker config` writes one"
        )

    def _welcome(self) -> None:
        """The broker does all it must."""
        self.problem = ""
        self._older_tls = False
        self.connections += 1
        self._told = ""
        self.publish(mqtt.topic(self._site, self._gateway, mqtt.STATE), mqtt.ONLINE, retain=True)
        _log.info("connected to the broker %s, MQTT %s, reading %s", self._broker, self.protocol, self._up)

    def _logged(self, _client: Client, _data: object, _level: int, text: str) -> None:
        # paho tells of a TLS alert, the broker's verdict on our certificate, here only.
        if "alert" in text.lower():
            self._alert = text

    def _alert_text(self) -> str:
        if not self._alert:
            return ""
        for sign, what in (
            ("REVOKED", "is revoked"),
            ("EXPIRED", "has expired"),
            ("UNKNOWN_CA", "is signed by an authority that the broker does not know"),
            ("CERTIFICATE_REQUIRED", "is missing: the broker asks for one"),
        ):
            if sign in self._alert.upper().replace(" ", "_"):
                return (
                    f"the broker {self._broker} says that our certificate {self._broker.certificate} {what}; "
                    "have a new one issued, and name it in [mqtt]"
                )
        return f"the broker {self._broker} ended TLS: {self._alert}"

    def _closed_early(self) -> str:
        """What a connection that ended without a word means."""
        if not self.problem:
            return f"the broker {self._broker} closed the connection"
        if self._answered:
            return self._forbidden()
        self._other_protocol()
        # In TLS 1.3 the verdict on our certificate follows the handshake, and a reset connection loses it; in
        # 1.2 it is part of the handshake. So every other attempt after such an end speaks 1.2.
        self._older_tls = not self._older_tls
        if self._broker.certificate is None:
            return f"the broker {self._broker} closed the connection before it answered"
        return (
            f"the broker {self._broker} closed the connection before it answered; its log says why: is our "
            f"certificate {self._broker.certificate} still good?"
        )

    def _other_protocol(self) -> None:
        """A broker of before MQTT 5 may refuse the version, close, or say nothing: try the other one next."""
        if not self._fixed_protocol:
            v5 = self._protocol is MQTTProtocolVersion.MQTTv5
            self._protocol = MQTTProtocolVersion.MQTTv311 if v5 else MQTTProtocolVersion.MQTTv5

    def _explain(self, error: Exception) -> str:
        broker = self._broker
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"the broker {broker} shows a certificate that {broker.ca} does not vouch for: "
                f"{error.verify_message}; correct `ca` or `broker` in [mqtt], or renew that certificate"
            )
        if isinstance(error, ssl.SSLError):
            self._alert = str(error)
            return self._alert_text()
        return f"no broker answers at {broker}: {error}; start it, or correct `broker` in [mqtt]"

    def _failed(self, problem: str) -> None:
        self.problem = problem
        # Said once; a broker that stays away is not news each time.
        _log.log(logging.DEBUG if self._told == problem else logging.WARNING, "%s; trying again", problem)
        self._told = problem

    def _drop(self) -> None:
        """Forget a connection and what only it could acknowledge."""
        client, self._client = self._client, None
        self._held.clear()
        sock = client.socket() if client is not None else None
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
            sock.close()

    # What comes.

    def _readable(self, client: Client) -> None:
        for _ in range(_READS):
            seen = self._seen
            client.loop_read()
            sock = client.socket()
            if sock is None:
                self._changed.set()
                return
            # TLS may hold decrypted bytes that no readiness tells of.
            if seen == self._seen and not (isinstance(sock, ssl.SSLSocket) and sock.pending()):
                break

    def _message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._seen += 1
        origin = _Origin(self.connections, message.mid, message.qos)
        device = mqtt.device_of(message.topic)
        if device == self._gateway:
            if self.problem:
                self._welcome()
            origin = origin._replace(connection=self.connections)
        elif device is None:
            self.counters[Reason.BAD_TOPIC] += 1
        elif len(message.payload) > mqtt.MAX_PACKET:
            self.counters[Reason.MALFORMED_FRAGMENT] += 1  # not kept: the queue's bound is one of pieces
        elif self._arrivals.full:
            self.counters[Reason.LINK_OVERRUN] += 1
        else:
            now = time.monotonic()
            self._received += 1
            fragment = bytes(message.payload)
            self._arrivals.put(Received(fragment, origin, 255, now, device))
            if origin.qos:
                self._held.setdefault(_message_of(device, fragment), _Held(now, [])).origins.append(origin)
            return
        self._acknowledge(origin)

    # Acknowledgements to the broker.

    def _settle(self, device: bytes, counter: int) -> None:
        held = self._held.pop((device, counter), None)
        if held is not None:
            for origin in held.origins:
                self._acknowledge(origin)

    def _expire(self, now: float) -> None:
        while self._held:
            name, held = next(iter(self._held.items()))
            if now - held.since < _HOLD:
                return
            self._settle(*name)

    def _acknowledge(self, origin: _Origin) -> None:
        """At most once each: the broker may use the packet identifier again after that."""
        if self._client is not None and origin.connection == self.connections and origin.qos:
            self._client.ack(origin.mid, origin.qos)

    # What goes.

    def _fragment(
        self, device: bytes, packet: lowpan.Unfragmented | lowpan.First | lowpan.Next
    ) -> mqtt.Fragment:
        """The fragment over MQTT that carries what this packet of a reply does."""
        if isinstance(packet, lowpan.Next):
            first = self._replies.get(device)
            i = None if first is None else first.index_of(packet.udp_payload_offset, len(packet.data))
            if first is None or i is None:
                raise WireError("slice-index", "a later fragment of a reply whose first one did not come")
            return mqtt.Fragment(i, first.counter, packet.data)
        data, length = (
            (packet.udp_payload_slice, packet.payload_length)
            if isinstance(packet, lowpan.First)
            else (packet.payload, len(packet.payload))
        )
        first = FirstSlice.parse(data, length)
        if first.n:
            self._replies[device] = first
            self._replies.move_to_end(device)
            if len(self._replies) > _REPLIES:
                self._replies.popitem(last=False)
        return mqtt.Fragment(0, first.counter, data, length)


def _message_of(device: bytes, fragment: bytes) -> tuple[bytes, int]:
    """Device and counter, as far as the fragment has one."""
    return device, int.from_bytes(fragment[1:5], "big")


def _no_delay(_client: Client, _data: object, sock: Any) -> None:
    """Nagle's algorithm and delayed acks make 20 ms of what takes 0.3; paho leaves it on."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
