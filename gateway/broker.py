"""mosquitto for Slimwire: its configuration and access list, and a probe of what a broker really allows.

Names come from TLS client certificates: the common name is the EUI-64, as in the topics, so that a device may
publish on its own topics and read its own `down`, and nothing else. What a broker allows is tried, not
believed: mosquitto's dynamic-security plugin, for one, does not substitute `%u` in publish rules and lets a
disabled client act when it shows a certificate (mosquitto 2.0).
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from gateway.links.mqtt import Broker
from wire import mqtt

CONFIG_FILE = "mosquitto.conf"
ACCESS_FILE = "slimwire.acl"

_ACCESS = """\
# Who may do what at the broker of site {site}: written by `slimwire gateway broker config`.
# %u is the common name of the client's certificate: a device's EUI-64.
pattern write {root}/{site}/%u/up
pattern write {root}/{site}/%u/state
pattern read {root}/{site}/%u/down

user {gateway}
topic readwrite {root}/{site}/#
topic write {discovery}/#
"""

_CONFIG = """\
# mosquitto for a Slimwire site: written by `slimwire gateway broker config`.
listener {port} {host}
cafile {ca}
certfile {certificate}
keyfile {key}
{crl}require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {access}

# Nagle's algorithm would add up to 40 ms to each exchange.
set_tcp_nodelay true
# The gateway acknowledges after its commit: more than the 20 of the default may be under way meanwhile.
max_inflight_messages 0
max_queued_messages 100000
max_packet_size 16384
persistence true
persistence_location {state}
autosave_interval 60
log_type error
log_type warning
log_type notice
"""

#: How long one step of the probe may take, s.
_PATIENCE = 5.0


@dataclass(frozen=True)
class Files:
    """PEM files the broker uses, by their absolute paths on its machine. `crl`: revoked certificates."""

    ca: Path
    certificate: Path
    key: Path
    crl: Path | None = None


def access_text(site: str, gateway: bytes, *, discovery: str = "homeassistant") -> str:
    """The access list of a site. Raises ValueError: the site's name is no level of a topic."""
    mqtt.topic(site, gateway, mqtt.UP)
    return _ACCESS.format(root=mqtt.ROOT, site=site, gateway=gateway.hex(), discovery=discovery)


def config_text(host: str, port: int, files: Files, access: Path, state: Path) -> str:
    """mosquitto's configuration. `state` is a directory that mosquitto's user can write."""
    return _CONFIG.format(
        host=host,
        port=port,
        ca=files.ca,
        certificate=files.certificate,
        key=files.key,
        crl=f"crlfile {files.crl}\n" if files.crl else "",
        access=access,
        state=f"{state}/",
    )


class Finding(NamedTuple):
    """One thing that was tried: what, whether the broker did as it must, and what it said."""

    tried: str
    as_it_must: bool
    said: str


def probe(
    gateway: Broker, broker: Broker, site: str, device: bytes, other: bytes, revoked: Broker | None = None
) -> list[Finding]:
    """Try, as `device`, what must be allowed and what must not.

    Args:
        gateway: the broker, with the gateway's certificate: it writes what `device` tries to read.
        broker: the same with the certificate of `device`.
        site: the site.
        device: EUI-64 of the certificate.
        other: the EUI-64 of any other device.
        revoked: the same broker with a revoked certificate; None: not tried.
    """
    findings = []
    with contextlib.closing(_Guest(broker)) as guest, contextlib.closing(_Guest(gateway)) as writer:
        findings.append(Finding("connect as the device", guest.connected, guest.said))
        findings.append(Finding("connect as the gateway", writer.connected, writer.said))
        if guest.connected and writer.connected:
            for who, name, leaf, allowed in (
                ("its own", device, mqtt.UP, True),
                ("another's", other, mqtt.UP, False),
                ("another's", other, mqtt.STATE, False),
                ("its own", device, mqtt.DOWN, False),
            ):
                said = guest.publish(mqtt.topic(site, name, leaf))
                findings.append(Finding(f"write {who} {leaf}", (said == "") is allowed, said or "accepted"))
            own, foreign = mqtt.topic(site, device, mqtt.DOWN), mqtt.topic(site, other, mqtt.DOWN)
            refused = {path: guest.subscribe(path) for path in (foreign, own)}
            for path in (foreign, own):  # in this order: once its own came, another's would have come too
                writer.publish(path)
            heard = guest.hear(own)
            for who, path, allowed in (("its own", own, True), ("another's", foreign, False)):
                said = refused[path] or ("read" if path in heard else "nothing comes")
                findings.append(Finding(f"read {who} down", (path in heard) is allowed, said))
    if revoked is not None:
        with contextlib.closing(_Guest(revoked)) as guest:
            findings.append(Finding("connect with the revoked certificate", not guest.connected, guest.said))
    return findings


class _Guest:
    """One MQTT 5 connection, whose acknowledgements say what the broker thinks of a request."""

    def __init__(self, broker: Broker) -> None:
        self.connected = False
        self.said = ""
        self._codes: dict[int, str] = {}
        self._heard: set[str] = set()
        self._client = client = Client(
            CallbackAPIVersion.VERSION2, client_id="", protocol=MQTTProtocolVersion.MQTTv5
        )
        context = broker.context()
        if context is not None:
            client.tls_set_context(context)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = lambda _client, _data, message: self._heard.add(message.topic)
        try:
            client.connect(broker.host, broker.port, 10)
        except OSError as error:  # ssl.SSLError is one
            self.said = str(error)
            return
        self._until(lambda: bool(self.said))
        self.said = self.said or "the broker closed the connection"

    def publish(self, topic: str) -> str:
        """Why the broker refuses an empty message there; "" if it does not."""
        return self._verdict(self._client.publish(topic, b"", qos=1).mid)

    def subscribe(self, topic: str) -> str:
        """Why the broker says that it may not be read; "" if it does not say so."""
        return self._verdict(self._client.subscribe(topic, qos=0)[1])

    def hear(self, topic: str) -> set[str]:
        """Topics of all that came until something came on `topic`."""
        self._until(lambda: topic in self._heard)
        return self._heard

    def close(self) -> None:
        """End the connection."""
        self._client.disconnect()

    def _verdict(self, mid: int | None) -> str:
        if mid is None:
            return "not connected"
        self._until(lambda: mid in self._codes)
        return self._codes.get(mid, "no acknowledgement came")

    def _until(self, done: Any) -> None:
        end = time.monotonic() + _PATIENCE
        while not done() and time.monotonic() < end:
            if self._client.loop(0.1) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return

    def _on_connect(self, _client: Client, _data: object, _flags: object, code: Any, _more: object) -> None:
        self.connected = not code.is_failure
        self.said = str(code)

    def _on_publish(self, _client: Client, _data: object, mid: int, code: Any, _more: object) -> None:
        self._codes[mid] = str(code) if code.is_failure else ""

    def _on_subscribe(self, _client: Client, _data: object, mid: int, codes: Any, _more: object) -> None:
        self._codes[mid] = str(codes[0]) if codes[0].is_failure else ""
