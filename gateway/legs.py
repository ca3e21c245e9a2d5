"""Opens the legs that the settings name, as one link."""

import logging
import secrets
from dataclasses import replace
from pathlib import Path

from gateway.embedded import EmbeddedBroker
from gateway.errors import LinkError
from gateway.links.base import Link
from gateway.links.mqtt import Broker, MqttLink
from gateway.links.pcap import PcapLink
from gateway.links.several import SeveralLinks
from gateway.links.uart import UartLink
from gateway.links.zep import ZepLink, parse_endpoint
from gateway.settings import EMBEDDED, MqttSettings, Settings
from slimwire.transport import TransportError, read_secret

_log = logging.getLogger("gateway")

#: Bytes (MQTT 3.1.1, section 3.1.3.5).
_LONGEST_PASSWORD = 65535


def broker_of(settings: MqttSettings) -> Broker:
    """Where the broker is that `[mqtt]` names, and who we are there.

    Raises:
        LinkError: the password's file cannot be read, or others can read it.
    """
    embedded = settings.broker == EMBEDDED
    host, port = parse_endpoint(settings.listen if embedded else str(settings.broker), settings.default_port)
    password = None
    if settings.password_file is not None:
        try:
            password = read_secret(settings.password_file, _LONGEST_PASSWORD).decode().strip()
        except (TransportError, UnicodeDecodeError) as error:
            what = error.what if isinstance(error, TransportError) else f"{settings.password_file} is no text"
            remedy = error.remedy if isinstance(error, TransportError) else "write the password as UTF-8"
            raise LinkError(f"the broker's password: {what}", remedy=remedy) from error
    return Broker(
        "127.0.0.1" if embedded and host in ("0.0.0.0", "::") else host,
        port,
        settings.ca,
        settings.certificate,
        settings.key,
        settings.username,
        password,
        settings.session,
        embedded,
    )


class Legs:
    """The open link, and the embedded broker behind it if there is one. Made by `Legs.open`."""

    def __init__(self, link: Link, mqtt: MqttLink | None, broker: EmbeddedBroker | None) -> None:
        self.link = link
        #: The MQTT leg in it, for what is published beside replies.
        self.mqtt = mqtt
        self._broker = broker

    @classmethod
    async def open(cls, settings: Settings, site: str, gateway: bytes) -> "Legs":
        """Open what `settings` name.

        Raises:
            LinkError: a leg cannot be opened, or there is none; says which, and what to do.
        """
        links: list[Link] = []
        mqtt, broker = None, None
        try:
            if settings.listen:
                links.append(await ZepLink.open(settings.listen, settings.peer, channel=settings.channel))
            if settings.uart.port is not None:
                links.append(await UartLink.open(settings.uart.port, settings.uart.baud))
            if settings.mqtt.broker:
                where = broker_of(settings.mqtt)
                if settings.mqtt.broker == EMBEDDED:
                    where = replace(where, client=f"slimwire-gateway-{secrets.token_hex(16)}")
                    starting = EmbeddedBroker(*parse_endpoint(settings.mqtt.listen), where.client)
                    await starting.start()
                    broker = starting
                mqtt = await MqttLink.open(where, site, gateway, queue=settings.mqtt.queue)
                links.append(mqtt)
                if broker is not None:
                    broker.count(mqtt.counters)
            if not links:
                raise LinkError(
                    "the gateway has no leg to hear devices by",
                    expected="at least one of `listen`, [uart] port and [mqtt] broker",
                    remedy='set one, such as listen = "127.0.0.1:17754"',
                )
            return cls(_recorded(SeveralLinks(links) if links[1:] else links[0], settings.pcap), mqtt, broker)
        except BaseException:
            for link in links:
                link.close()
            if broker is not None:
                await broker.stop()
            raise

    async def close(self) -> None:
        """Close the link, then the broker behind it."""
        self.link.close()
        if self._broker is not None:
            await self._broker.stop()


def _recorded(link: Link, capture: Path | None) -> Link:
    return link if capture is None else PcapLink(link, capture)
