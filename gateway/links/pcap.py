"""Capture of every frame of any link, both directions, as pcap of link type 195 (802.15.4 with FCS).

Fragments that came over MQTT are no frames and are not captured.
"""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gateway.errors import LinkError
from gateway.links.base import Leg, Link, Received
from wire.pcap import IEEE802154_WITH_FCS, Writer


class PcapLink:
    """Writes what passes through `link` to `path`, which is written anew.

    Raises:
        LinkError: the file cannot be written.
    """

    def __init__(self, link: Link, path: Path) -> None:
        self._link = link
        self._writer = Writer(IEEE802154_WITH_FCS)
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise LinkError(
                f"the capture file {path} cannot be written: {error.strerror}",
                remedy="name a file in a directory that exists and is writable with --pcap",
            ) from error
        self._file.write(self._writer.header())

    @property
    def counters(self) -> Counter[str]:
        """Those of the wrapped link."""
        return self._link.counters

    @property
    def description(self) -> str:
        """That of the wrapped link."""
        return self._link.description

    def legs(self) -> Sequence[Leg]:
        """Those of the wrapped link."""
        return self._link.legs()

    async def receive(self) -> Received:
        """The wrapped link's next frame, recorded."""
        received = await self._link.receive()
        if received.source is None:
            self._record(received.frame)
        return received

    async def send(self, frame: bytes) -> None:
        """Record and send."""
        self._record(frame)
        await self._link.send(frame)

    def learn(self, source: bytes, origin: object) -> None:
        """Passed on."""
        self._link.learn(source, origin)

    def refuse(self, received: Received) -> None:
        """Passed on."""
        self._link.refuse(received)

    def close(self) -> None:
        """Close the wrapped link and the file."""
        self._link.close()
        self._file.close()

    def _record(self, frame: bytes) -> None:
        self._file.write(self._writer.record(time.time_ns(), frame))
