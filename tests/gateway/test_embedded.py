"""The broker in the gateway's process under clients that want it all: memory ends, devices are served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from amqtt.broker import Broker as Amqtt

from gateway.bounded_broker import BoundedBroker, Bounds, Turns
from security import custody
from tests.gateway.brokers import free_port, until
from tests.gateway.kit import GATEWAY, Node, sealed_bytes
from tests.gateway.test_mqtt import Device, fragments
from tests.gateway.test_running import Gateway
from wire import mqtt
from wire.reply import Custody, CustodyStatus

NODE = Node(1)
OWNER = "only-the-gateway-knows-this"


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packet(first: int, body: bytes) -> bytes:
    length, head = len(body), bytes([first])
    while length >= 128:
        head, length = head + bytes([length & 0x7F | 0x80]), length >> 7
    return head + bytes([length]) + body


def connect(client: str, *, flags: int = 0, keep_alive: int = 0, more: bytes = b"") -> bytes:
    body = text("MQTT") + bytes([4, flags]) + keep_alive.to_bytes(2, "big") + text(client) + more
    return packet(0x10, body)


def publish(topic: str, data: bytes, *, qos: int = 0, retain: int = 0) -> bytes:
    return packet(0x30 | qos << 1 | retain, text(topic) + (b"\0\1" if qos else b"") + data)


def subscribe(*names: str, qos: int = 0) -> bytes:
    return packet(0x82, b"\0\7" + b"".join(text(name) + bytes([qos]) for name in names))


class Client:
    """Bytes to a broker and back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def say(self, *packets: bytes) -> None:
        self.writer.write(b"".join(packets))
        await self.writer.drain()

    async def hear(self) -> bytes:
        """The next packet; b"" at the end of the connection."""
        async with asyncio.timeout(20):
            try:
                head = await self.reader.readexactly(2)
                while head[-1] & 0x80:
                    head += await self.reader.readexactly(1)
                length = sum((octet & 0x7F) << 7 * i for i, octet in enumerate(head[1:]))
                return head[:1] + await self.reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return b""

    async def there(self, client: str, **options: int) -> "Client":
        await self.say(connect(client, **options))
        assert await self.hear() == b"\x20\0\0"
        return self

    def close(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def broker(**bounds: float) -> AsyncIterator[tuple[BoundedBroker, int]]:
    made, port = BoundedBroker(OWNER, Bounds(**bounds)), free_port()
    await made.listen("127.0.0.1", port)
    try:
        yield made, port
    finally:
        await made.end()


def test_what_is_overridden_is_there() -> None:
    for name in (
        "external_connected",
        "add_subscription",
        "retain_message",
        "_client_message_loop",
        "_publish_retained_messages_for_subscription",
        "_run_broadcast",
        "_cleanup_session",
        "_matches",
    ):
        assert name in vars(Amqtt)


@pytest.mark.parametrize(
    "packets",
    [
        [connect("x") * 2],
        [publish("a", b"before it said who it is")],
        [connect("x"), packet(0x30, bytes(5000))],
        [connect("x"), packet(0x82, bytes(40000))],
        [connect("x"), publish("a", b"", qos=2)],
        [connect("x"), publish("a/#", b"")],
        [connect("x"), publish("$SYS/a", b"")],
        [connect("x"), publish("", b"")],
        [connect("x"), b"\x30\xff\xff\xff\xff\x7f"],
        [b"GET / HTTP/1.1\r\n\r\n"],
        [connect("x"), subscribe("a" * 257)],
        [connect("x"), subscribe("a", "#", "#")],
    ],
    ids=range(12),
)
async def test_what_no_client_may_do_ends_its_connection_and_is_counted(packets: list[bytes]) -> None:
    async with broker() as (made, port):
        client = await Client.open(port)
        await client.say(*packets)
        while await client.hear():
            pass
        assert made.counters["broker-refused"] == 1
        await until(lambda: not made.sessions and not made._writers and not made._addresses)


async def test_who_does_not_introduce_itself_or_is_silent_is_cut_off() -> None:
    async with broker(introduction=0.1, silence=0.2) as (made, port):
        mute, idle = await Client.open(port), await (await Client.open(port)).there("idle", keep_alive=60)
        assert await mute.hear() == await idle.hear() == b""
        await until(lambda: not made.sessions)


async def test_connections_have_a_bound_and_the_gateway_gets_in_all_the_same() -> None:
    async with broker(connections=3) as (made, port):
        clients = [await (await Client.open(port)).there(f"c{n}") for n in range(3)]
        clients += [
            await Client.open(port) for _ in range(4)
        ]  # more, from here: as many as the gateway needs
        late = await Client.open(port)
        assert await late.hear() == b""
        clients[0].close()
        await until(lambda: len(made._writers) == 6)
        await (await Client.open(port)).there(OWNER)
        assert made.counters["broker-refused"] == 1


async def test_no_session_outlives_its_connection_but_what_is_retained_does_within_bounds() -> None:
    async with broker(retained=3) as (made, port):
        for n in range(5):
            client = await (await Client.open(port)).there(f"c{n}")  # asks for a session that stays
            await client.say(subscribe(f"t{n}", qos=1), publish(f"state{n}", b"here", qos=1, retain=1))
            assert {(await client.hear())[:1] for _ in range(2)} == {b"\x90", b"\x40"}
            client.close()
        await until(lambda: not made.sessions)
        assert sorted(made.retained_messages) == ["state0", "state1", "state2"]
        assert made.subscriptions == {}
        gateway = await (await Client.open(port)).there(OWNER)
        await gateway.say(publish("state9", b"ours", qos=1, retain=1))
        await until(lambda: "state9" in made.retained_messages)


async def test_subscriptions_have_bounds_and_qos_1_is_the_gateways() -> None:
    bounds = {"subscriptions": 3, "all_subscriptions": 5, "wildcards": 1, "audience": 2}
    async with broker(**bounds) as (_, port):
        one = await (await Client.open(port)).there("one")
        await one.say(subscribe("a", "b", "c/#", "d", qos=1))
        assert await one.hear() == b"\x90\0\7\0\0\0\x80"
        two, three = (
            await (await Client.open(port)).there("two"),
            await (await Client.open(port)).there("three"),
        )
        await two.say(subscribe("a", "+", "e", "f"))
        assert await two.hear() == b"\x90\0\7\0\x80\0\0"
        await three.say(subscribe("a", "g"))
        assert await three.hear() == b"\x90\0\7\x80\x80"
        gateway = await (await Client.open(port)).there(OWNER)
        await gateway.say(subscribe("a", "z/+", qos=1))
        assert await gateway.hear() == b"\x90\0\7\1\1"
        await gateway.say(publish("a", b"to all"))
        assert {await client.hear() for client in (one, two, gateway)} >= {b"\x30" + text("a") + b"to all"}


async def test_a_long_list_of_subscriptions_is_taken() -> None:
    """Home Assistant's has 500 entries."""
    async with broker() as (made, port):
        client = await (await Client.open(port)).there("homeassistant")
        await client.say(
            subscribe("homeassistant/#", *(f"slimwire/v1/lab/{n:016x}/state" for n in range(499)))
        )
        assert await client.hear() == b"\x90\0\7" + bytes(500)
        assert made.counters == {}


async def test_a_list_of_subscriptions_costs_what_is_granted_of_it_and_no_more() -> None:
    """The longest list there is, of wildcards, put every other connection off for minutes."""
    async with broker() as (made, port):
        client = await (await Client.open(port)).there("greedy")
        await client.say(subscribe(*(f"{n}/#" for n in range(3000))))
        assert (await client.hear()).count(0x80) == 3000 - made.bounds.wildcards
        assert made.dear._next - asyncio.get_running_loop().time() < 1.0
        await (await Client.open(port)).there("other")


async def test_a_subscription_costs_the_same_however_many_there_are() -> None:
    """amqtt writes all of them out for its log at each one, whether it logs or not."""
    async with broker() as (made, port):
        client = await (await Client.open(port)).there("client")
        await client.say(subscribe("a"))
        await client.hear()
        assert "client" not in repr(made._subscriptions)
        assert list(made._subscriptions) == ["a"]


async def test_who_does_not_read_is_cut_off_and_the_others_hear_all() -> None:
    async with broker(unread=65536) as (made, port):
        deaf, good = (
            await (await Client.open(port)).there("deaf"),
            await (await Client.open(port)).there("good"),
        )
        for client in (deaf, good):
            await client.say(subscribe("t"))
            assert await client.hear() == b"\x90\0\7\0"
        sender = await (await Client.open(port)).there("sender")
        heard, sent = 0, 0
        while not made.counters["broker-refused"]:
            await sender.say(publish("t", bytes(4000)))
            sent += 1
            while heard < sent:
                assert len(await good.hear()) == 4004
                heard += 1
        await until(lambda: "deaf" not in made.sessions)
        assert heard == sent


async def test_a_rate_is_shared_in_order_of_arrival() -> None:
    turns, order = Turns(1000.0, 10.0), list[int]()

    async def take(number: int) -> None:
        await turns.take(10)
        order.append(number)

    start = asyncio.get_running_loop().time()
    await asyncio.gather(*map(take, range(6)))
    assert order == list(range(6))
    assert asyncio.get_running_loop().time() - start >= 0.04


# The gateway's process.


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    made.start()
    made.until(made.ready)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()


def resident(gateway: Gateway) -> int:
    """MiB."""
    assert gateway.process is not None
    for line in Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    raise AssertionError


async def flood(port: int, number: int) -> None:
    """As much as the broker takes: into the gateway's own topic, to be retained, to whoever does not read."""
    up = mqtt.topic("lab", NODE.eui, mqtt.UP)
    for n in range(1_000_000):
        with contextlib.suppress(OSError, AssertionError):
            client = await (await Client.open(port)).there(f"flood{number}")
            await client.say(subscribe("flood/#", qos=1))
            while True:
                await client.say(
                    publish(up, bytes(1200), qos=1),
                    publish(f"flood/{number}", bytes(4000), qos=1),
                    publish(f"flood/{number}/{n}", bytes(4000), retain=1),
                )


async def test_a_flood_of_the_gateways_own_broker_ends_in_refusals_and_not_in_memory(
    gateway: Gateway,
) -> None:
    before = resident(gateway)
    floods = [asyncio.create_task(flood(gateway.broker, number)) for number in range(40)]
    await asyncio.sleep(2.0)
    with contextlib.closing(Device(gateway.broker, NODE)) as device:
        await until(lambda: device._there)
        for counter in range(1, 4):
            device.publish(*fragments(NODE, counter, sealed_bytes(300), 200))
            await until(lambda want=counter: len(device.heard) >= want)
        acks = [Custody.parse(mqtt.Fragment.parse(heard).data) for heard in device.heard]
        assert [(ack.counter, ack.status) for ack in acks] == [
            (n, CustodyStatus.COMMITTED) for n in range(1, 4)
        ]
        assert all(custody.verify(NODE.keys.frag_dn, GATEWAY, NODE.eui, ack) for ack in acks)
    grown = resident(gateway) - before
    for task in floods:
        task.cancel()
    await asyncio.gather(*floods, return_exceptions=True)
    assert grown < 64, f"{grown} MiB"
    await asyncio.to_thread(gateway.until, gateway.ready)
    assert gateway.ask("/v1/status").json()["fragments"]["rejected"]["broker-refused"] > 0
