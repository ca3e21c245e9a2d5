"""Home Assistant's view, through a real broker."""

import asyncio
import json
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.discovery import Discovery
from gateway.enrolment import Enrolment
from gateway.links.mqtt import Broker, MqttLink
from gateway.service import Service
from gateway.settings import load
from security.chain import KeyedChain
from security.trust import PaperTrust
from tests.gateway.brokers import broker, until
from tests.gateway.kit import GATEWAY, SITE, Node, registry, save_registry, sealed_bytes
from tests.gateway.test_mqtt import fragments

NODES = Node(1), Node(2)


class HomeAssistant:
    """What is retained and told on its topics."""

    def __init__(self, port: int) -> None:
        self.topics: dict[str, Any] = {}
        self.there = False
        self._client = client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        client.on_message = self._message
        client.on_subscribe = lambda *_: setattr(self, "there", True)
        client.connect("127.0.0.1", port)
        client.subscribe([("homeassistant/#", 1), (f"slimwire/v1/{SITE}/+/gateway", 1)])
        client.loop_start()

    def _message(self, _client: Client, _data: object, message: Any) -> None:
        if message.payload:
            self.topics[message.topic] = json.loads(message.payload)
        else:
            self.topics.pop(message.topic, None)

    def entities(self, node: Node) -> dict[str, Any]:
        mark = f"/slimwire_{node.eui.hex()}/"
        return {topic.split("/")[3]: config for topic, config in self.topics.items() if mark in topic}

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


async def test_devices_appear_with_what_the_gateway_knows_and_go_when_they_are_revoked(
    tmp_path: Path,
) -> None:
    path = save_registry(tmp_path / "registry.json", *NODES)
    with broker("amqtt", tmp_path) as server:
        link = await MqttLink.open(Broker("127.0.0.1", server.port, embedded=True), SITE, GATEWAY)
        service = Service(load(), KeyedChain(), PaperTrust(), link, Enrolment(path, create=False))
        home = HomeAssistant(server.port)
        try:
            discovery = Discovery(service, link, "homeassistant")
            discovery.refresh()  # not connected yet: nothing happens
            await until(lambda: link.connected and home.there)
            discovery.refresh()
            await until(lambda: all(len(home.entities(node)) == 5 for node in NODES))
            trust = home.entities(NODES[0])["trust"]
            assert trust["unique_id"] == f"slimwire_{NODES[0].eui.hex()}_trust"
            assert trust["device"]["name"] == "node 1"
            assert trust["availability_topic"] == f"slimwire/v1/{SITE}/{GATEWAY.hex()}/state"
            assert home.topics[trust["state_topic"]]["heard"] is None

            loop = asyncio.get_running_loop()
            service.receiver.on_fragment(
                NODES[0].eui, fragments(NODES[0], 1, sealed_bytes(50))[0], loop.time()
            )
            discovery.refresh()
            await until(lambda: home.topics[trust["state_topic"]]["messages"] == 1)
            assert home.topics[trust["state_topic"]]["heard"].endswith("+00:00")

            service.receiver.update(registry(NODES[0], revoked=(NODES[1],)))
            discovery.refresh()
            await until(lambda: home.entities(NODES[1]) == {})
            assert len(home.entities(NODES[0])) == 5
        finally:
            home.close()
            link.close()
