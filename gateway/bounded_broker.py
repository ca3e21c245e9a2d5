"""amqtt's broker with an end to everything that a client can make it hold. Needs amqtt (an extra).

amqtt 0.12 reads as fast as clients send, into queues without an end; keeps sessions, retained messages and
subscriptions for ever; waits for whoever does not read; and walks through all of them for each message. Here

- each connection is read one whole packet at a time, and none while too much waits to be delivered: what is
  not read fills the sender's TCP window, not our memory;
- packets, connections, subscriptions and retained topics have bounds, and what all clients cost together has
  a rate, in order of arrival;
- who does not read what it subscribed to is cut off; who is silent for longer than it said, too;
- a session ends with its connection, QoS 2 is refused, and only the owner, the gateway itself, is given
  anything at QoS 1.

The owner is known by a client identifier that nobody else can guess, so that nobody takes its session over.
"""

import asyncio
import hmac
import ipaddress
import logging
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.broker import Broker
from amqtt.session import Session

_log = logging.getLogger("gateway.broker")

_CONNECT, _PUBLISH, _SUBSCRIBE, _UNSUBSCRIBE = 1, 3, 8, 10
_PREFIX = b"\0\4MQTT\4"
_CLEAN = 0x02
_LISTENER = "default"
#: s between two looks whether what waits was delivered, while nothing is read.
_LOOK = 0.01
#: Messages of one connection that amqtt has not looked at yet.
_AHEAD = 8
#: A list of subscriptions may be so many times as long as another packet: Home Assistant sends 500 in one.
_LISTS = 8
#: Bytes that the owner has not read, and that count as one message.
_AS_ONE = 256
#: Bytes of a topic, and of a filter.
_LONGEST = 256
#: What a packet costs: a connection makes and ends a session, a wildcard looks at every retained topic.
_COST_CONNECT, _COST_WILDCARD = 10, 50


@dataclass(frozen=True)
class Bounds:
    """Of the broker. Times in s, sizes in bytes."""

    #: Connections at once; half of them from one address.
    connections: int = 512
    #: One packet, of anybody but the owner.
    packet: int = 4096
    #: A new connection says who it is within so long.
    introduction: float = 5.0
    #: The longest silence, whatever keep-alive a client names.
    silence: float = 300.0
    #: Subscriptions of one client, of all, of all with wildcards, and clients of one filter.
    subscriptions: int = 1024
    all_subscriptions: int = 4096
    wildcards: int = 16
    audience: int = 16
    #: Topics retained for others than the owner.
    retained: int = 1024
    #: Messages on their way through: while there are more, nobody but the owner is read.
    waiting: int = 1024
    #: What one client, or all together, may have been sent and not read.
    unread: int = 1024 * 1024
    all_unread: int = 16 * 1024 * 1024
    #: Packets a second of all clients together, and at once.
    rate: float = 1000.0
    burst: float = 2000.0


class RefusedError(Exception):
    """A client did what it may not: its connection ends."""


class Turns:
    """A rate that many share, in order of arrival."""

    def __init__(self, rate: float, burst: float) -> None:
        self._each = 1.0 / rate
        self._ahead = burst / rate
        self._next = 0.0

    async def take(self, cost: float) -> None:
        """Wait until it is our turn."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - self._ahead) + cost * self._each
        if self._next > now:
            await asyncio.sleep(self._next - now)


class _Reader(ReaderAdapter):  # type: ignore[misc]
    """Whole packets of one connection, looked at, and handed to amqtt in the parts that it asks for."""

    def __init__(self, broker: "BoundedBroker", stream: asyncio.StreamReader) -> None:
        self._broker = broker
        self._stream = stream
        self._packet, self._at = b"", 0
        self._silence = broker.bounds.introduction
        self._connected = False
        self.ended = False
        self.writer: _Writer | None = None
        self.owner = False
        #: Set once amqtt handles the connection.
        self.session: Session | None = None
        self.handled = asyncio.Event()

    async def read(self, n: int = -1) -> bytes:
        """The next `n` bytes of a packet; b"" at the end."""
        if self._at == len(self._packet) and n:
            self._packet, self._at = await self._next(), 0
        part = self._packet[self._at : self._at + n]
        self._at += len(part)
        if len(part) < n:  # something in it is longer than itself
            self.feed_eof()
        return part

    def feed_eof(self) -> None:
        """Give nothing more."""
        self._packet, self._at, self.ended = b"", 0, True

    async def _next(self) -> bytes:
        if self._connected:
            await self.handled.wait()  # an end that comes before would leave amqtt waiting for it for ever
        if self.ended:
            return b""
        try:
            async with asyncio.timeout(self._silence):
                head, body = await self._take()
            packet = head + self._admitted(head[0], body)
            await self._turn(head[0] >> 4, body)
        except (RefusedError, TimeoutError):
            self._broker.refused()
            self.ended = True
            return b""
        except (OSError, asyncio.IncompleteReadError):
            self.ended = True
            return b""
        return packet

    async def _take(self) -> tuple[bytes, bytes]:
        head = await self._stream.readexactly(2)
        if (head[0] >> 4 == _CONNECT) is self._connected:
            raise RefusedError
        while head[-1] & 0x80:
            if len(head) == 5:
                raise RefusedError
            head += await self._stream.readexactly(1)
        length = sum((octet & 0x7F) << 7 * i for i, octet in enumerate(head[1:]))
        longest = self._broker.bounds.packet
        if head[0] >> 4 in (_SUBSCRIBE, _UNSUBSCRIBE):
            longest *= _LISTS
        if length > longest and not self.owner:
            raise RefusedError
        return head, await self._stream.readexactly(length)

    def _admitted(self, first: int, body: bytes) -> bytes:
        """The packet's body as amqtt is to see it. Raises RefusedError."""
        kind = first >> 4
        if kind == _CONNECT:
            return self._introduced(body)
        if kind == _PUBLISH and (first & 6 > 2 or not _is_topic(_text(body, 0))):
            raise RefusedError
        if kind in (_SUBSCRIBE, _UNSUBSCRIBE):
            names = list(_filters(kind, body))
            if len(set(names)) < len(names) or max(map(len, names), default=0) > _LONGEST:
                raise RefusedError
        return body

    def _introduced(self, body: bytes) -> bytes:
        """CONNECT: no session outlives its connection, and keep-alive is our matter."""
        self._connected = True
        if not body.startswith(_PREFIX) or len(body) < 12:
            return body  # amqtt knows what to say
        keep_alive, longest = int.from_bytes(body[8:10], "big"), self._broker.bounds.silence
        self._silence = min(1.5 * keep_alive, longest) if keep_alive else longest
        self.owner = hmac.compare_digest(_text(body, 10), self._broker.owner.encode())
        return body[:7] + bytes([body[7] | _CLEAN]) + b"\0\0" + body[10:]

    async def _turn(self, kind: int, body: bytes) -> None:
        """Wait until there is time and room for it."""
        if self.owner:
            return
        cost = 1
        if kind == _CONNECT:
            cost = _COST_CONNECT
        elif kind in (_SUBSCRIBE, _UNSUBSCRIBE):
            cost = self._cost(kind, body)
        if cost > 1:  # who connects and subscribes over and over does not hold up who publishes
            await self._broker.dear.take(cost)
        await self._broker.turns.take(1)
        if kind == _CONNECT:
            return
        await self._broker.room()
        await asyncio.sleep(0)  # amqtt makes a task of each packet: this one's turn first
        while self.session is not None and self.session.delivered_message_queue.qsize() > _AHEAD:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)

    def _cost(self, kind: int, body: bytes) -> int:
        """Of a list of filters: what goes beyond the bounds is refused, and costs next to nothing."""
        wild = [_is_wild(name) for name in _filters(kind, body)]
        dear, bounds = sum(wild), self._broker.bounds
        return _COST_WILDCARD * min(dear, bounds.wildcards) + min(len(wild) - dear, bounds.subscriptions)


class _Writer(WriterAdapter):  # type: ignore[misc]
    """What goes to one connection; never waits for it."""

    def __init__(self, broker: "BoundedBroker", stream: asyncio.StreamWriter) -> None:
        self._broker = broker
        self._stream = stream

    @property
    def unread(self) -> int:
        """Bytes that the system did not take yet."""
        return self._stream.transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send; who does not read is cut off."""
        if self._stream.is_closing():
            return
        if self._broker.overdue(self.unread):
            self._broker.refused()
            self._stream.transport.abort()
            return
        self._stream.write(data)

    async def drain(self) -> None:
        """Nothing: `write` has the bound."""

    def get_peer_info(self) -> tuple[str, int] | None:
        """Address and port."""
        found = self._stream.get_extra_info("peername")
        return (found[0], found[1]) if found else None

    def get_ssl_info(self) -> None:
        """No TLS."""

    async def close(self) -> None:
        """End the connection."""
        self._stream.close()


class _Unwritten(dict[str, list[tuple[Session, int]]]):
    """Subscriptions; amqtt makes a text of all of them at each new one, and throws it away."""

    __repr__ = object.__repr__


class BoundedBroker(Broker):  # type: ignore[misc]
    """A broker on one TCP address.

    Args:
        owner: client identifier of the gateway itself; nobody else must know it.
        bounds: of everybody else.

    Attributes:
        counters: `broker-refused` counts connections that were refused or cut off.
    """

    def __init__(self, owner: str, bounds: Bounds) -> None:
        super().__init__(
            {
                "listeners": {_LISTENER: {"type": "external"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        self._subscriptions = _Unwritten()
        self.owner = owner
        self.bounds = bounds
        self.counters: Counter[str] = Counter()
        self.turns = Turns(bounds.rate, bounds.burst)
        self.dear = Turns(bounds.rate, bounds.burst)
        self._writers: set[_Writer] = set()
        self._ours: _Writer | None = None
        self._addresses: Counter[str] = Counter()
        self._wild: set[str] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._looking: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Start. Raises OSError: the address cannot be bound."""
        await self.start()
        # The smallest buffer that takes a packet: beyond twice that the sender waits.
        self._server = await asyncio.start_server(self._came, host, port, limit=self.bounds.packet)

    async def end(self) -> None:
        """End every connection and stop listening."""
        if self._server is not None:
            self._server.close()
        if self._looking is not None:
            self._looking.cancel()
        for writer in list(self._writers):
            writer._stream.transport.abort()
        await self.shutdown()

    def refused(self) -> None:
        """A connection was refused or is cut off."""
        self.counters["broker-refused"] += 1

    def overdue(self, unread: int) -> bool:
        """Whether a client with so much unread is to be cut off."""
        share = self.bounds.unread // 16
        return unread > self.bounds.unread or (
            unread > share and sum(writer.unread for writer in self._writers) > self.bounds.all_unread
        )

    async def room(self) -> None:
        """Until more can be taken."""
        if self._room.is_set() and self._waits() >= self.bounds.waiting:
            self._room.clear()
            self._looking = asyncio.create_task(self._look())
        await self._room.wait()

    async def _look(self) -> None:
        try:
            while self._waits() >= self.bounds.waiting // 2:  # noqa: ASYNC110  (counts of amqtt's own)
                await asyncio.sleep(_LOOK)
        finally:
            self._room.set()

    def _waits(self) -> int:
        """Messages that are not delivered yet."""
        tasks: deque[asyncio.Task[Any]] = self._tasks_queue
        if len(tasks) > self.bounds.waiting // 4:
            # amqtt looks at the first one only, which may be the one that waits for its acknowledgement.
            under_way = [task for task in tasks if not task.done() or _failed(task)]
            tasks.clear()
            tasks.extend(under_way)
        ours = 0 if self._ours is None else self._ours.unread
        return int(self._broadcast_queue.qsize()) + len(tasks) + ours // _AS_ONE

    # Connections.

    async def _came(self, stream: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        reader, writer = _Reader(self, stream), _Writer(self, out)
        address = (writer.get_peer_info() or ("", 0))[0]
        most, local = self.bounds.connections, _is_local(address)
        # The gateway itself always gets in: it comes from here.
        if len(self._writers) >= most + 4 * local or (self._addresses[address] >= most // 2 and not local):
            self.refused()
            out.transport.abort()
            return
        self._addresses[address] += 1
        self._writers.add(writer)
        reader.writer = writer
        try:
            await self.external_connected(reader, writer, _LISTENER)
        except Exception as error:  # noqa: BLE001  (amqtt's, of any kind: this connection's end, and no more)
            _log.debug("a connection of %s ended: %r", address, error)
        finally:
            reader.feed_eof()
            out.transport.abort()
            self._writers.discard(writer)
            if self._ours is writer:
                self._ours = None
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
            await self._forget(reader)

    async def _forget(self, reader: _Reader) -> None:
        """A session that amqtt left as if connected."""
        session = reader.session
        if session is None or session.client_id is None:
            return
        own = self.sessions.get(session.client_id)
        if own is not None and own[0] is session:
            await self._cleanup_session(session.client_id)

    async def _client_message_loop(self, client_session: Session, handler: Any) -> None:
        reader = handler.reader
        if isinstance(reader, _Reader):
            reader.session = client_session
            reader.handled.set()
            if reader.owner:
                self._ours = reader.writer
        await super()._client_message_loop(client_session, handler)

    # Subscriptions and retained messages.

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """The QoS granted, or 0x80: refused."""
        name, qos = subscription
        if session.client_id != self.owner:
            self._wild &= self._subscriptions.keys()
            qos, there = 0, self._subscriptions.get(name, [])
            known = any(one.client_id == session.client_id for one, _ in there)
            if not known and (
                len(there) >= self.bounds.audience
                or (_is_wild(name) and len(self._wild) >= self.bounds.wildcards)
                or len(self._subscriptions) >= self.bounds.all_subscriptions
                or self._owned(session) >= self.bounds.subscriptions
            ):
                return 0x80
        granted: int = await super().add_subscription((name, qos), session)
        if granted != 0x80:
            session.attributes["slimwire.filters"] = self._owned(session) + 1
            if _is_wild(name):
                self._wild.add(name)
        return granted

    @staticmethod
    def _owned(session: Session) -> int:
        return int(session.attributes.get("slimwire.filters", 0))

    async def retain_message(
        self, source_session: Session | None, topic_name: str | None, data: Any, qos: int | None = None
    ) -> None:
        """Keep a message for whoever subscribes later, while there is room."""
        owner = source_session is not None and source_session.client_id == self.owner
        kept = self._retained_messages
        if owner or not data or topic_name in kept or len(kept) < self.bounds.retained:
            await super().retain_message(None, topic_name, data, qos)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        name, _ = subscription
        if all(one is not session for one, _ in self._subscriptions.get(name, ())):
            return  # amqtt asks this of each subscription there is, for every client that comes
        kept = self._retained_messages
        topics = [topic for topic in kept if self._matches(topic, name)] if _is_wild(name) else [name]
        handler = self._get_handler(session)
        for topic in topics:
            if topic in kept and handler is not None:
                await handler.mqtt_publish(topic, kept[topic].data, 0, retain=True)

    async def _run_broadcast(self, running_tasks: "deque[asyncio.Task[Any]]") -> None:
        """Give one message to its subscribers: one look for its topic, one at each wildcard."""
        message = await self._broadcast_queue.get()
        topic = message["topic"]
        for name in (topic, *(wild for wild in self._wild if self._matches(topic, wild))):
            for session, qos in list(self._subscriptions.get(name, ())):
                handler = self._get_handler(session)
                if handler is None or session.transitions.state != "connected":
                    continue
                if qos:
                    flow = handler.mqtt_publish(topic, message["data"], qos, retain=False)
                    running_tasks.append(asyncio.ensure_future(flow))
                else:
                    await handler.mqtt_publish(topic, message["data"], 0, retain=False)


def _failed(task: "asyncio.Task[Any]") -> bool:
    """Of one that is done, always False: looked at, so that nobody complains that nobody did."""
    if not task.cancelled():
        task.exception()
    return False


def _text(body: bytes, at: int) -> bytes:
    """The string that begins at `at`; what there is of it."""
    length = int.from_bytes(body[at : at + 2], "big")
    return body[at + 2 : at + 2 + length]


def _is_topic(name: bytes) -> bool:
    """Whether a message may be published there (MQTT 3.1.1, section 4.7)."""
    return 0 < len(name) <= _LONGEST and not name.startswith(b"$") and not set(name) & set(b"+#\0")


def _is_wild(name: str | bytes) -> bool:
    characters = name.encode() if isinstance(name, str) else name
    return b"+" in characters or b"#" in characters


def _filters(kind: int, body: bytes) -> Iterator[bytes]:
    """Those of a SUBSCRIBE or UNSUBSCRIBE."""
    at = 2
    while at + 2 <= len(body):
        name = _text(body, at)
        yield name
        at += 2 + len(name) + (kind == _SUBSCRIBE)


def _is_local(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
