"""Home Assistant: every enrolled device announced over MQTT discovery, and what the gateway knows of it.

What a device saw is sealed for the edge server, so the gateway cannot show it: trust, messages, refusals,
when it was heard, and whether it is online are what there is.

    PREFIX/COMPONENT/slimwire_EUI64/KEY/config   retained; empty once the device is no longer enrolled
    slimwire/v1/SITE/EUI64/gateway               a JSON object, retained, when it changed
"""

import asyncio
import json
import time
from typing import Any, NamedTuple

from gateway.links.mqtt import MqttLink
from gateway.service import Service
from slimwire import __version__
from wire import mqtt

_EVERY = 10.0
_LEAF = "gateway"


class _Entity(NamedTuple):
    """One entity of each device. `more`: what its configuration says besides."""

    component: str
    key: str
    name: str
    more: dict[str, Any]


_ENTITIES = (
    _Entity("sensor", "trust", "Trust", {"state_class": "measurement", "suggested_display_precision": 2}),
    _Entity("sensor", "messages", "Messages", {"state_class": "total_increasing"}),
    _Entity("sensor", "rejected", "Refused fragments", {"state_class": "total_increasing"}),
    _Entity("sensor", "heard", "Last heard", {"device_class": "timestamp"}),
    _Entity("sensor", "standing", "Standing", {"entity_category": "diagnostic"}),
)


class Discovery:
    """Announces the devices of a service through its MQTT leg.

    Args:
        service: whose devices.
        link: its MQTT leg.
        prefix: Home Assistant's discovery prefix.
    """

    def __init__(self, service: Service, link: MqttLink, prefix: str) -> None:
        self._service = service
        self._link = link
        self._prefix = prefix
        self._connection = 0
        self._announced: dict[bytes, str] = {}
        self._told: dict[bytes, str] = {}

    async def run(self) -> None:
        """Keep what is announced and told up to date until cancelled."""
        while True:
            self.refresh()
            await asyncio.sleep(_EVERY)

    def refresh(self) -> None:
        """Publish what changed since the last time; everything after a new connection."""
        if not self._link.connected:
            return
        if self._link.connections != self._connection:
            self._connection = self._link.connections
            self._told.clear()
            self._announced = dict.fromkeys(self._announced, "")
        peers = self._service.receiver.peers
        present = {eui: peer.device.name for eui, peer in peers.items() if not peer.device.revoked}
        for eui in self._announced.keys() - present.keys():
            for entity in _ENTITIES:
                self._link.publish(self._topic(eui, entity), b"", retain=True)
            topic = mqtt.topic(self._service.enrolment.registry.site, eui, _LEAF)
            self._link.publish(topic, b"", retain=True)
            del self._announced[eui]
            self._told.pop(eui, None)
        for eui, name in present.items():
            if self._announced.get(eui) != name:
                for entity in _ENTITIES:
                    self._link.publish(self._topic(eui, entity), self._config(eui, name, entity), retain=True)
                self._announced[eui] = name
            state = self._state(eui)
            if self._told.get(eui) != state:
                topic = mqtt.topic(self._service.enrolment.registry.site, eui, _LEAF)
                self._link.publish(topic, state, retain=True)
                self._told[eui] = state

    def _topic(self, eui: bytes, entity: _Entity) -> str:
        return f"{self._prefix}/{entity.component}/slimwire_{eui.hex()}/{entity.key}/config"

    def _config(self, eui: bytes, name: str, entity: _Entity) -> str:
        site = self._service.enrolment.registry.site
        return json.dumps(
            {
                "name": entity.name,
                "unique_id": f"slimwire_{eui.hex()}_{entity.key}",
                "state_topic": mqtt.topic(site, eui, _LEAF),
                "value_template": f"{{{{ value_json.{entity.key} }}}}",
                # The gateway's own birth and last will: without it nothing here is news.
                "availability_topic": mqtt.topic(site, self._service.receiver.gateway, mqtt.STATE),
                "device": {
                    "identifiers": [f"slimwire_{eui.hex()}"],
                    "name": name or eui.hex(),
                    "manufacturer": "Slimwire",
                    "serial_number": eui.hex(),
                },
                "origin": {"name": "Slimwire gateway", "sw_version": __version__},
                **entity.more,
            }
        )

    def _state(self, eui: bytes) -> str:
        service, now = self._service, time.monotonic()
        peer = service.receiver.peers[eui]
        heard = None
        if peer.last_heard is not None:
            at = time.time() - (now - peer.last_heard)
            heard = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))
        return json.dumps(
            {
                "trust": round(service.trust.level(eui), 3),
                "messages": peer.messages,
                "rejected": peer.rejected,
                "heard": heard,
                "standing": service.receiver.standing(eui, now).value,
            }
        )
