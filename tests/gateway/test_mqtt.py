"""The MQTT leg against real brokers: fragments in, replies out, acknowledgements held until custody."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.broker import Files, access_text, config_text, probe
from gateway.downlink import Reply, reply_frames
from gateway.errors import LinkError
from gateway.events import Rejected, Revoked
from gateway.links.mqtt import Broker, MqttLink
from gateway.reasons import Reason
from security import chain
from security.chain import KeyedChain
from tests.gateway.brokers import Authority, Server, broker, connections_of, free_port, until
from tests.gateway.kit import GATEWAY, SITE, Node, accepted, reasons, receiver, sealed_bytes
from wire import eui64, mqtt
from wire.message import PORT, FirstSlice, Kind, octet0

NODE, OTHER = Node(1), Node(2)
BROKERS = ["amqtt", pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto"))]


@pytest.fixture(params=BROKERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with broker(request.param, tmp_path) as running:
        yield running


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Server]:
    with broker("mosquitto", tmp_path) as running:
        yield running


def fragments(node: Node, counter: int, sealed: bytes, room: int = 1232) -> list[bytes]:
    """A message of the node over MQTT, its slices of `room` bytes."""
    slices = chain.make(
        node.keys.frag_up,
        node.eui,
        eui64.link_local(node.eui),
        eui64.link_local(GATEWAY),
        octet0=octet0(Kind.DATA, node.epoch),
        counter=counter,
        sealed=sealed,
        single_room=room,
        first_room=room & ~7,
        slice_room=room & ~7,
    )
    return mqtt.fragments(counter, slices)


class Device:
    """A Wi-Fi device as the broker sees one: another client, another implementation (paho's own thread)."""

    def __init__(self, port: int, node: Node = NODE) -> None:
        self.node = node
        self.heard: list[bytes] = []
        self.state: list[bytes] = []
        self._there = False
        self._client = client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        client.on_connect = lambda *_: client.subscribe(
            [(mqtt.topic(SITE, node.eui, mqtt.DOWN), 0), (mqtt.topic(SITE, GATEWAY, mqtt.STATE), 0)]
        )
        client.on_subscribe = lambda *_: setattr(self, "_there", True)
        client.on_message = self._message
        client.connect("127.0.0.1", port)
        client.loop_start()

    def _message(self, _client: Client, _data: object, message: Any) -> None:
        (self.state if message.topic.endswith("state") else self.heard).append(message.payload)

    async def ready(self) -> "Device":
        await until(lambda: self._there)
        return self

    def publish(self, *packets: bytes, topic: str | None = None) -> None:
        for packet in packets:
            self._client.publish(topic or mqtt.topic(SITE, self.node.eui, mqtt.UP), packet, qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.asynccontextmanager
async def linked(server: Server) -> AsyncIterator[MqttLink]:
    embedded = server.command[0] != "mosquitto"
    link = await MqttLink.open(Broker("127.0.0.1", server.port, embedded=embedded), SITE, GATEWAY)
    try:
        await until(lambda: link.connected)
        yield link
    finally:
        link.close()


@contextlib.asynccontextmanager
async def device(port: int, node: Node = NODE) -> AsyncIterator[Device]:
    made = Device(port, node)
    try:
        yield await made.ready()
    finally:
        made.close()


def reply(counter: int, length: int) -> list[bytes]:
    return reply_frames(
        GATEWAY,
        Reply(NODE.eui, NODE.epoch, counter, sealed_bytes(length), 0xFFFF, NODE.keys.frag_dn),
        0,
    )


# Fragments, pure.


@pytest.mark.parametrize("room", [1232, 400, 96])
def test_a_message_over_mqtt_is_verified_as_one_over_the_air_is(room: int) -> None:
    target = receiver(NODE)
    packets = fragments(NODE, 1, sealed_bytes(700), room)
    assert len(packets) == {1232: 1, 400: 2, 96: 8}[room]
    events = [event for packet in packets for event in target.on_fragment(NODE.eui, packet, 0.0)]
    (message,) = accepted(events)
    assert (message.device, message.counter, message.sealed) == (NODE.eui, 1, sealed_bytes(700))


def changed(packet: bytes, at: int) -> bytes:
    return packet[: at % len(packet)] + bytes([packet[at] ^ 1]) + packet[at % len(packet) + 1 :]


@pytest.mark.parametrize(
    ("packet", "source", "reason"),
    [
        (b"", NODE.eui, "malformed-fragment"),
        (fragments(NODE, 1, sealed_bytes(50))[0], bytes(8), "stranger"),
        (fragments(NODE, 1, sealed_bytes(50))[0], OTHER.eui, "bad-mac"),
        (changed(fragments(NODE, 1, sealed_bytes(50))[0], -1), NODE.eui, "bad-mac"),
        (fragments(NODE, 1, sealed_bytes(500), 400)[1], NODE.eui, "no-first"),
    ],
)
def test_what_is_not_genuine_has_a_reason(packet: bytes, source: bytes, reason: str) -> None:
    target = receiver(NODE, OTHER)
    assert reasons(target.on_fragment(source, packet, 0.0)) == [reason]
    assert target.memory_used == 0


def test_a_wrong_later_fragment_is_refused_alone() -> None:
    target = receiver(NODE)
    first, second, third = fragments(NODE, 1, sealed_bytes(1000), 400)
    target.on_fragment(NODE.eui, first, 0.0)
    assert reasons(target.on_fragment(NODE.eui, changed(second, -1), 0.0)) == ["bad-tag"]
    assert reasons(target.on_fragment(NODE.eui, bytes([3]) + second[1:], 0.0)) == ["bad-offset"]
    assert reasons(target.on_fragment(NODE.eui, second[:-8], 0.0)) == ["bad-length"]
    target.on_fragment(NODE.eui, third, 0.0)
    (message,) = accepted(target.on_fragment(NODE.eui, second, 0.0))
    assert message.sealed == sealed_bytes(1000)
    assert reasons(target.on_fragment(NODE.eui, second, 0.0)) == ["already-complete"]


def test_a_revoked_device_is_refused() -> None:
    target = receiver(revoked=(NODE,))
    first, second = fragments(NODE, 1, sealed_bytes(300), 200)
    assert target.on_fragment(NODE.eui, first, 0.0) == [
        Rejected(Reason.REVOKED, NODE.eui),
        Revoked(NODE.eui, 0, 1, None),
    ]
    assert reasons(target.on_fragment(NODE.eui, second, 0.0)) == ["revoked"]


# Against brokers.


async def test_fragments_come_in_and_replies_go_out(server: Server) -> None:
    async with linked(server) as link, device(server.port) as there:
        packets = fragments(NODE, 7, sealed_bytes(500), 400)
        there.publish(*packets)
        received = [await link.receive() for _ in packets]
        assert [(one.source, one.frame) for one in received] == [(NODE.eui, packet) for packet in packets]
        for frame in reply(7, 250):  # three frames of the radio's size
            await link.send(frame)
        await until(lambda: len(there.heard) == 3)
        parts = [mqtt.Fragment.parse(packet) for packet in there.heard]
        first = FirstSlice.parse(parts[0].data, parts[0].payload_length)
        assert KeyedChain().verify_first(
            NODE.keys.frag_dn,
            (eui64.link_local(GATEWAY), eui64.link_local(NODE.eui)),
            (PORT, PORT),
            parts[0].payload_length,
            first,
        )
        for i in (1, 2):
            assert KeyedChain().verify_slice(NODE.keys.frag_dn, NODE.eui, first, i, parts[i].data)
        assert max(map(len, there.heard)) <= 105
        (leg,) = link.legs()
        assert (leg.name, leg.up, leg.received, leg.sent) == ("mqtt", True, 2, 3)


async def test_birth_and_last_will_are_retained(server: Server) -> None:
    async with device(server.port, OTHER) as there:
        async with linked(server):
            await until(lambda: there.state[-1:] == [b"online"])
            async with device(server.port) as late:
                await until(lambda: late.state[:1] == [b"online"])
        await until(lambda: there.state[-1:] == [b"offline"])


async def test_the_broker_may_be_absent_at_the_start_and_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    link = await MqttLink.open(Broker("127.0.0.1", port, embedded=True), SITE, GATEWAY)
    try:
        await until(lambda: "no broker answers" in link.problem)
        assert "correct `broker` in [mqtt]" in link.problem
        assert link.problem in link.description
        for frame in reply(1, 20):
            await link.send(frame)
        assert link.counters == {"link-unsent": 1}
        with broker("amqtt", tmp_path, port=port) as server:
            await until(lambda: link.connected)
            server.kill()
            await until(lambda: not link.connected)
            server.start()
            await until(lambda: link.connected)
            async with device(port) as there:
                there.publish(*fragments(NODE, 1, sealed_bytes(40)))
                assert (await link.receive()).source == NODE.eui
        assert link.connections == 2
        said = [record.levelname for record in caplog.records if record.name == "gateway.mqtt"]
        assert said.count("WARNING") <= 3  # once an absence, however often it is tried
    finally:
        link.close()


@pytest.mark.needs("mosquitto")
async def test_what_was_not_committed_comes_again_and_what_was_does_not(mosquitto: Server) -> None:
    """The gateway dies with one message answered, one refused, and one neither."""
    async with device(mosquitto.port) as there:
        link = await MqttLink.open(Broker("127.0.0.1", mosquitto.port), SITE, GATEWAY)
        await until(lambda: link.connected)
        assert link.protocol == "5"
        messages = [fragments(NODE, counter, sealed_bytes(40, counter))[0] for counter in (1, 2, 3)]
        there.publish(*messages)
        received = [await link.receive() for _ in messages]
        for frame in reply(1, 20):
            await link.send(frame)
        link.refuse(received[1])
        await until(lambda: len(there.heard) == 1)  # written after the acknowledgements, on one connection
        sock = link.socket
        assert sock is not None
        link._task.cancel()
        sock.shutdown(socket.SHUT_RDWR)  # no goodbye
        async with linked(mosquitto) as again:
            assert (await again.receive()).frame == messages[2]
            there.publish(fragments(NODE, 4, sealed_bytes(40, 4))[0])
            assert mqtt.Fragment.parse((await again.receive()).frame).counter == 4


async def test_a_broker_without_mqtt_5_is_spoken_to_in_its_own_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.links.mqtt._ANSWER_WITHIN", 1.0)
    with broker("amqtt", tmp_path) as server:
        link = await MqttLink.open(Broker("127.0.0.1", server.port), SITE, GATEWAY)
        try:
            assert link.protocol == "5"
            await until(lambda: link.connected)
            assert link.protocol == "3.1.1"
        finally:
            link.close()


async def test_a_topic_that_names_no_device_and_an_overrun_are_counted(server: Server) -> None:
    link = await MqttLink.open(Broker("127.0.0.1", server.port, embedded=True), SITE, GATEWAY, queue=2)
    try:
        await until(lambda: link.connected)
        async with device(server.port) as there:
            there.publish(b"x", topic=f"slimwire/v1/{SITE}/nobody/up")
            there.publish(*[fragments(NODE, counter, sealed_bytes(40))[0] for counter in range(1, 6)])
            await until(lambda: link.counters["link-overrun"] == 3)
        assert link.counters["bad-topic"] == 1
    finally:
        link.close()


async def test_what_is_larger_than_any_fragment_takes_no_room_in_the_queue(server: Server) -> None:
    """The broker of one box lets anybody publish anything."""
    async with linked(server) as link, device(server.port) as there:
        there.publish(bytes(mqtt.MAX_PACKET + 1))
        await until(lambda: link.counters["malformed-fragment"] == 1)
        there.publish(bytes(mqtt.MAX_PACKET))
        assert len((await link.receive()).frame) == mqtt.MAX_PACKET


async def test_a_site_that_is_no_level_of_a_topic_is_refused() -> None:
    with pytest.raises(LinkError, match="enrol under a site with another name"):
        await MqttLink.open(Broker("127.0.0.1", 1), "a/b", GATEWAY)


# Socket options.


async def test_neither_end_delays_small_packets(server: Server) -> None:
    async with linked(server) as link:
        assert link.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert server.process is not None
        assert connections_of(server.process.pid, server.port) == [True]


# Certificates and rights at mosquitto, with the files Slimwire writes.


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Server, Authority]]:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("broker")
    bad, _ = authority.issue("revoked")
    authority.revoke(bad)
    access = tmp_path / "slimwire.acl"
    access.write_text(access_text(SITE, GATEWAY))
    port = free_port()
    files = Files(authority.ca, certificate, key, authority.crl)
    config = config_text("127.0.0.1", port, files, access, tmp_path)
    # mosquitto leaves root for its own user, which must read all this.
    with broker("mosquitto", tmp_path, f"user root\n{config}", port) as running:
        yield running, authority


def as_client(guarded: tuple[Server, Authority], name: str, **options: Any) -> Broker:
    server, authority = guarded
    certificate, key = authority.issue(name, **options)
    return Broker("127.0.0.1", server.port, authority.ca, certificate, key)


@pytest.mark.needs("mosquitto")
async def test_each_device_has_its_own_topics_and_a_revoked_one_none(
    guarded: tuple[Server, Authority], tmp_path: Path
) -> None:
    server, authority = guarded
    revoked = Broker(
        "127.0.0.1", server.port, authority.ca, tmp_path / "revoked.pem", tmp_path / "revoked.key"
    )
    us, mine = as_client(guarded, GATEWAY.hex()), as_client(guarded, NODE.eui.hex())
    findings = await asyncio.to_thread(probe, us, mine, SITE, NODE.eui, OTHER.eui, revoked)
    assert [finding for finding in findings if not finding.as_it_must] == []
    assert len(findings) == 9


@pytest.mark.needs("mosquitto")
def test_the_probe_finds_a_broker_that_lets_everybody_do_everything(mosquitto: Server) -> None:
    anybody = Broker("127.0.0.1", mosquitto.port)
    findings = probe(anybody, anybody, SITE, NODE.eui, OTHER.eui)
    assert {finding.tried for finding in findings if not finding.as_it_must} == {
        "write another's up",
        "write another's state",
        "write its own down",
        "read another's down",
    }


@pytest.mark.needs("mosquitto")
async def test_the_gateway_reads_every_device_with_its_certificate(guarded: tuple[Server, Authority]) -> None:
    link = await MqttLink.open(as_client(guarded, GATEWAY.hex()), SITE, GATEWAY)
    try:
        await until(lambda: link.connected)
    finally:
        link.close()


@pytest.mark.needs("mosquitto")
@pytest.mark.parametrize(
    ("name", "days", "said"),
    [
        (GATEWAY.hex(), -1, "has expired; have a new one issued, and name it in [mqtt]"),
        ("revoked", 0, "is revoked; have a new one issued, and name it in [mqtt]"),
        ("somebody", 30, "does not let this gateway read slimwire/v1/lab/+/up"),
    ],
)
async def test_a_certificate_that_the_broker_does_not_want_is_named_with_the_remedy(
    guarded: tuple[Server, Authority],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    days: int,
    said: str,
) -> None:
    monkeypatch.setattr("gateway.links.mqtt._ANSWER_WITHIN", 1.0)
    server, authority = guarded
    if name == "revoked":
        us = Broker(
            "127.0.0.1", server.port, authority.ca, tmp_path / "revoked.pem", tmp_path / "revoked.key"
        )
    else:
        us = as_client(guarded, name, days=days)
    link = await MqttLink.open(us, SITE, GATEWAY)
    try:
        await until(lambda: said in link.problem)
    finally:
        link.close()


@pytest.mark.needs("mosquitto")
async def test_a_broker_that_our_authority_does_not_vouch_for_is_not_spoken_to(
    guarded: tuple[Server, Authority], tmp_path: Path
) -> None:
    server, _ = guarded
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    link = await MqttLink.open(Broker("127.0.0.1", server.port, stranger.ca), SITE, GATEWAY)
    try:
        await until(lambda: "does not vouch for" in link.problem)
        assert "correct `ca`" in link.problem
    finally:
        link.close()


async def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(LinkError, match="correct `ca` in"):
        await MqttLink.open(Broker("127.0.0.1", 1, tmp_path / "ca.pem"), SITE, GATEWAY)
    authority = Authority(tmp_path)
    certificate, _ = authority.issue("one")
    _, key = authority.issue("two")
    with pytest.raises(LinkError, match="the private key that belongs to it"):
        await MqttLink.open(Broker("127.0.0.1", 1, authority.ca, certificate, key), SITE, GATEWAY)
