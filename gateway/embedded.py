"""The embedded broker: amqtt in the gateway's own process, for one box. MQTT 3.1.1, memory only, no accounts.

What devices publish is authenticated by their own keys either way; a broker that others can reach wants TLS
and an access list, which mosquitto has (`gateway.broker`).
"""

import logging

from gateway.errors import LinkError


class EmbeddedBroker:
    """One TCP listener.

    Args:
        host, port: where to listen.
        connections: clients at most.
    """

    def __init__(self, host: str, port: int, *, connections: int = 1024) -> None:
        try:
            from amqtt.broker import Broker  # noqa: PLC0415  (an extra)
        except ModuleNotFoundError as error:
            raise LinkError(
                "the embedded broker needs amqtt, which is not installed",
                remedy="pip install 'slimwire[broker]', or name a broker with [mqtt] broker = \"HOST:PORT\"",
            ) from error
        # It logs each packet and each connection.
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._where = f"{host}:{port}"
        shown = f"[{host}]" if ":" in host else host
        self._broker = Broker(
            {
                "listeners": {
                    "default": {"type": "tcp", "bind": f"{shown}:{port}", "max_connections": connections}
                },
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
                },
            }
        )

    async def start(self) -> None:
        """Listen. Raises LinkError: the address cannot be bound; says why and what to do."""
        from amqtt.errors import BrokerError  # noqa: PLC0415

        try:
            await self._broker.start()
        except (BrokerError, OSError) as error:
            raise LinkError(
                f"the embedded broker cannot listen on TCP {self._where}: {error.__cause__ or error}",
                remedy="stop what uses that port (another broker?), or name another with [mqtt] listen",
            ) from error

    async def stop(self) -> None:
        """End every connection and stop listening."""
        await self._broker.shutdown()
