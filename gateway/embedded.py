"""The embedded broker: amqtt in the gateway's own process, for one box. MQTT 3.1.1, memory only, no accounts.

What devices publish is authenticated by their own keys either way. `gateway.bounded_broker` bounds what
clients can make it hold; it cannot tell a device from a stranger, so strangers can take what there is of
connections, subscriptions and rate. A broker that others can reach wants TLS and an access list, which
mosquitto has (`gateway.broker`).
"""

import logging
from collections import Counter

from gateway.errors import LinkError


class EmbeddedBroker:
    """One TCP listener.

    Args:
        host, port: where to listen.
        owner: the client identifier of the gateway's own link; a secret.
    """

    def __init__(self, host: str, port: int, owner: str) -> None:
        try:
            from gateway.bounded_broker import BoundedBroker, Bounds  # noqa: PLC0415  (an extra)
        except ModuleNotFoundError as error:
            raise LinkError(
                "the embedded broker needs amqtt, which is not installed",
                remedy="pip install 'slimwire[broker]', or name a broker with [mqtt] broker = \"HOST:PORT\"",
            ) from error
        # It logs each packet and each connection.
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._address = host, port
        self._broker = BoundedBroker(owner, Bounds())

    async def start(self) -> None:
        """Listen. Raises LinkError: the address cannot be bound; says why and what to do."""
        try:
            await self._broker.listen(*self._address)
        except OSError as error:
            await self._broker.end()
            host, port = self._address
            raise LinkError(
                f"the embedded broker cannot listen on TCP {host}:{port}: {error.strerror or error}",
                remedy="stop what uses that port (another broker?), or name another with [mqtt] listen",
            ) from error

    def count(self, counters: Counter[str]) -> None:
        """Count what is refused there from now on."""
        self._broker.counters = counters

    async def stop(self) -> None:
        """End every connection and stop listening."""
        await self._broker.end()
