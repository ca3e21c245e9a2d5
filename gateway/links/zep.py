"""802.15.4 frames in UDP datagrams: ZEP version 2 (`wire.zep`), the form emulated radios and sniffers speak.

With a fixed `peer` (an emulated medium) every frame goes there. Without one, a frame goes to the UDP address
its destination was last *verified* from, so that a forged source cannot draw a device's answers to itself.
"""

import asyncio
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence

from gateway.errors import LinkError
from gateway.links.arrivals import Arrivals
from gateway.links.base import Leg, Received
from gateway.reasons import Reason
from wire.errors import WireError
from wire.ieee802154 import MacFrame
from wire.zep import PORT, ZepFrame

#: Datagrams read from the socket per wake-up, so that other tasks get their turn.
_READS = 64
_LARGEST_ZEP = 512
#: With a fixed peer, an empty datagram says we are there: at the start, and this often, s.
_HELLO_EVERY = 2.0


def parse_endpoint(text: str, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`. Raises ValueError, saying what was expected."""
    host, colon, port = text.rpartition(":")
    if not colon and default_port is not None:
        host, port = text, str(default_port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not port.isdigit() or not 0 <= int(port) <= 0xFFFF:
        raise ValueError("HOST:PORT, such as 127.0.0.1:17754")
    return host, int(port)


class ZepLink:
    """A UDP socket that speaks ZEP. Made by `ZepLink.open`.

    Args:
        sock: bound, non-blocking.
        peer: where every frame goes; None learns.
        channel: 802.15.4 channel that outgoing frames name.
        queue: received frames waiting at most; what comes on top is dropped as `link-overrun`.
        routes: devices whose UDP address is remembered at most; the one verified longest ago is forgotten.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: tuple[str, int] | None,
        *,
        channel: int = 26,
        queue: int = 4096,
        routes: int = 65536,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._sock = sock
        self._peer = peer
        self._channel = channel
        self._arrivals = Arrivals(queue)
        self._routes: OrderedDict[bytes, tuple[str, int]] = OrderedDict()
        self._route_bound = routes
        self._seq = 0
        self._received = self._sent = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)
        self._hello: asyncio.TimerHandle | None = None
        if peer is not None:
            self._say_hello()

    @classmethod
    async def open(
        cls, listen: str, peer: str | None = None, *, channel: int = 26, queue: int = 4096
    ) -> "ZepLink":
        """Bind `listen` (HOST:PORT) and resolve `peer`.

        Raises:
            LinkError: the address cannot be parsed, resolved or bound; says which and what to do.
        """
        loop = asyncio.get_running_loop()

        async def resolve(text: str) -> tuple[int, tuple[str, int]]:
            try:
                host, port = parse_endpoint(text, PORT)
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            except ValueError as error:
                raise LinkError(f"{text!r} is no address of a link", expected=str(error)) from error
            except OSError as error:
                raise LinkError(
                    f"the link's address {text!r} cannot be resolved: {error.strerror}",
                    remedy="correct the host's name, or give its number",
                ) from error
            family, _, _, _, address = found[0]
            return int(family), (str(address[0]), int(address[1]))

        family, address = await resolve(listen)
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.bind(address)
        except OSError as error:
            sock.close()
            raise LinkError(
                f"the link cannot listen on UDP {listen}: {error.strerror}",
                remedy="stop what uses that port (another gateway?), or name another with --listen HOST:PORT",
            ) from error
        try:
            return cls(sock, (await resolve(peer))[1] if peer else None, channel=channel, queue=queue)
        except LinkError:
            sock.close()
            raise

    @property
    def address(self) -> tuple[str, int]:
        """Host and port the link is bound to."""
        name = self._sock.getsockname()
        return str(name[0]), int(name[1])

    @property
    def description(self) -> str:
        """What the link is and where it listens."""
        host, port = self.address
        return f"ZEP on UDP {host}:{port}"

    def legs(self) -> Sequence[Leg]:
        """This one; a UDP socket is always up."""
        return (Leg("zep", self.description, True, self._received, self._sent),)

    async def receive(self) -> Received:
        """The next frame; waits for one."""
        return await self._arrivals.get()

    async def send(self, frame: bytes) -> None:
        """Send one frame to the peer, or to where its destination was verified."""
        address = self._peer
        if address is None:
            try:
                destination = MacFrame.parse(frame).dst
            except WireError:
                destination = None
            address = self._routes.get(destination) if destination is not None else None
            if address is None:
                self.counters[Reason.DOWNLINK_UNROUTABLE] += 1
                return
        self._seq += 1
        packet = ZepFrame(self._channel, 0, 255, self._seq, frame, timestamp_us=time.time_ns() // 1000).emit()
        for _ in range(50):
            try:
                self._sock.sendto(packet, address)
            except BlockingIOError:
                await asyncio.sleep(0.002)
            except OSError:
                break  # unreachable: the frame is lost, as on any radio
            else:
                self._sent += 1
                return
        self.counters[Reason.LINK_UNSENT] += 1

    def learn(self, source: bytes, origin: object) -> None:
        """Frames for `source` go to UDP address `origin` from now on."""
        if not isinstance(origin, tuple):
            return  # not a frame of this link
        self._routes[source] = origin
        self._routes.move_to_end(source)
        if len(self._routes) > self._route_bound:
            self._routes.popitem(last=False)

    def refuse(self, received: Received) -> None:
        """Nothing to do: UDP keeps nothing."""

    def close(self) -> None:
        """Close the socket; closing it again does nothing."""
        if self._sock.fileno() < 0:
            return
        if self._hello is not None:
            self._hello.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _readable(self) -> None:
        for _ in range(_READS):
            try:
                data, origin = self._sock.recvfrom(_LARGEST_ZEP)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error of an earlier send
            if not data:
                continue  # a peer that says it is there
            if self._arrivals.full:
                self.counters[Reason.LINK_OVERRUN] += 1
                continue
            try:
                packet = ZepFrame.parse(data)
            except WireError:
                self.counters[Reason.BAD_ZEP] += 1
                continue
            self._received += 1
            self._arrivals.put(Received(packet.frame, origin, packet.lqi, time.monotonic()))

    def _say_hello(self) -> None:
        assert self._peer is not None
        # A medium learns its nodes by their datagrams; it may start, or start again, after us.
        try:
            self._sock.sendto(b"", self._peer)
        except OSError:
            self.counters[Reason.LINK_UNSENT] += 1
        self._hello = self._loop.call_later(_HELLO_EVERY, self._say_hello)
