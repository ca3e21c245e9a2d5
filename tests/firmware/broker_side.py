"""A gateway and an edge server behind a real broker, for Wi-Fi devices under test: paho, the formats of
`wire`, the keys of `security`.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from security import chain, seal
from security.keys import derive_edge, derive_gateway
from tests.firmware.loopback import DEVICE, EPOCH, GATEWAY, ROOT, SITE
from wire import latent, mqtt
from wire.eui64 import link_local
from wire.message import FirstSlice, Kind, octet0
from wire.reply import Answer


@dataclass
class Far:
    """Checks every message of one device, and publishes what `reply` makes of it.

    reply: from counter to MQTT messages, in order; by default a plain answer.
    """

    port: int
    reply: Callable[[Far, int], list[bytes]] = lambda far, counter: far.answer(counter)
    arrived: list[tuple[FirstSlice, bytes]] = field(default_factory=list)
    states: list[bytes] = field(default_factory=list)
    tls: tuple[Path, Path, Path] | None = None  # authority, certificate, key

    def __post_init__(self) -> None:
        self._gateway_keys = derive_gateway(ROOT, DEVICE, EPOCH, SITE)
        self._edge_keys = derive_edge(ROOT, DEVICE, EPOCH)
        self.wrong: list[str] = []
        self._client = client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        client.reconnect_delay_set(1, 1)
        if self.tls is not None:
            client.tls_set(*map(str, self.tls))
        client.on_connect = self._connected
        client.on_message = self._message
        client.connect("127.0.0.1", self.port)
        client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, packet: bytes) -> None:
        self._client.publish(mqtt.topic(SITE, DEVICE, mqtt.DOWN), packet, qos=0)

    def answer(self, counter: int, room: int = 98, answer: Answer | None = None) -> list[bytes]:
        octet = octet0(Kind.REPLY, EPOCH)
        text = (answer or Answer(1, cls=7, confidence=65535)).emit()
        slices = chain.make(
            self._gateway_keys.frag_dn,
            DEVICE,
            link_local(GATEWAY),
            link_local(DEVICE),
            octet0=octet,
            counter=counter,
            sealed=seal.seal_down(self._edge_keys, octet, counter, text),
            single_room=room,
            first_room=room & ~7,
            slice_room=room & ~7,
        )
        return mqtt.fragments(counter, slices)

    def serve(self, process: subprocess.Popen[str], done: Callable[[], bool], timeout: float = 60) -> str:
        """Until `done`, then Ctrl-C; or until the device ends by itself. What it printed."""
        end = time.monotonic() + timeout
        try:
            while process.poll() is None and not done():
                assert time.monotonic() < end, "it did not happen"
                time.sleep(0.02)
            while process.poll() is None:
                assert time.monotonic() < end, "the device did not end"
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(2)
        finally:
            process.kill()
            output, _ = process.communicate()
        # Its last word is on its way through the broker still.
        end = time.monotonic() + 5
        while self.states and self.states[-1] != mqtt.OFFLINE and time.monotonic() < end:
            time.sleep(0.02)
        assert self.wrong == []
        return output

    def _connected(self, client: Client, *_: object) -> None:
        client.subscribe([(mqtt.topic(SITE, DEVICE, mqtt.UP), 1), (mqtt.topic(SITE, DEVICE, mqtt.STATE), 0)])

    def _message(self, _client: Client, _data: object, message: object) -> None:
        payload = bytes(message.payload)
        if message.topic.endswith(mqtt.STATE):
            self.states.append(payload)
            return
        try:
            self._take(payload)
        except (ValueError, AssertionError) as error:
            self.wrong.append(repr(error))

    def _take(self, payload: bytes) -> None:
        fragment = mqtt.Fragment.parse(payload)
        assert fragment.i == 0
        first = FirstSlice.parse(fragment.data, fragment.payload_length)
        assert chain.KeyedChain().verify_first(
            self._gateway_keys.frag_up,
            (link_local(DEVICE), link_local(GATEWAY)),
            (0xF0B0, 0xF0B0),
            fragment.payload_length,
            first,
        )
        latent.parse(seal.open_up(self._edge_keys, DEVICE, first.octet0, first.counter, first.sealed))
        self.arrived.append((first, payload))
        for packet in self.reply(self, first.counter):
            self.publish(packet)
