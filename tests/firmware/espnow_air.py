"""ESP-NOW's API, and the air behind it, on real MicroPython without a radio: packets are UDP on loopback.

A MAC address ends in the UDP port of whoever has it. Packets to everybody reach all ports that `everybody`
lists. As on ESP32, sending to somebody who is no peer is an error, there are at most 20 peers, `irecv` fills
one buffer again and again, and what is lost on the air raises nothing.
"""

import io
import select
import socket
import sys

port = [0]  # of this board
everybody = []
channel = [None]
lose = [0]  # every so many packets that are sent, one is lost; 0: none
_sent = [0]


def mac(of):
    return b"\x02\x00\x00\x00" + of.to_bytes(2, "big")


class ESPNow(io.IOBase):
    def __init__(self):
        self._socket = None
        self._peers = set()
        self._buffer = bytearray(250)

    def active(self, on):
        if on and not self._socket:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind(socket.getaddrinfo("127.0.0.1", port[0])[0][-1])
            self._socket.setblocking(False)
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)
        elif not on and self._socket:
            self._socket.close()
            self._socket = None

    def add_peer(self, peer):
        if len(peer) != 6:
            raise ValueError("ESPNow: bytes or bytearray wrong length")
        if peer in self._peers:
            raise OSError(-12395, "ESP_ERR_ESPNOW_EXIST")
        if len(self._peers) == 20:
            raise OSError(-12392, "ESP_ERR_ESPNOW_FULL")
        self._peers.add(bytes(peer))

    def del_peer(self, peer):
        if peer not in self._peers:
            raise OSError(-12393, "ESP_ERR_ESPNOW_NOT_FOUND")
        self._peers.discard(bytes(peer))

    def send(self, peer, packet, sync=True):
        if peer not in self._peers:
            raise OSError(-12393, "ESP_ERR_ESPNOW_NOT_FOUND")
        assert len(packet) <= 250
        ports = everybody if peer == b"\xff" * 6 else [int.from_bytes(peer[4:], "big")]
        for to in ports:
            _sent[0] += 1
            if lose[0] and _sent[0] % lose[0] == 0:
                continue
            try:  # noqa: SIM105 (MicroPython has no contextlib)
                self._socket.sendto(bytes(packet), socket.getaddrinfo("127.0.0.1", to)[0][-1])
            except OSError:
                pass  # nobody there
        return True

    def irecv(self, timeout):
        try:
            data, address = self._socket.recvfrom(250)
        except OSError:
            return None, None
        self._buffer[:] = b"\xee" * 250
        self._buffer[: len(data)] = data
        # MicroPython's unix port gives an address as sockaddr: family, then the port in network order.
        return b"\x02\x00\x00\x00" + address[2:4], memoryview(self._buffer)[: len(data)]

    def ioctl(self, request, argument):
        if request != 3:  # MP_STREAM_POLL
            return -1
        return argument & 1 if self._poll.poll(0) else 0


class WLAN:
    def __init__(self, interface):
        self.interface = interface

    def active(self, on):
        pass

    def disconnect(self):
        raise OSError("Wifi Not Started")

    def config(self, **settings):
        if "channel" in settings:
            channel[0] = settings["channel"]


class Module:
    pass


def install(own, others=()):
    """Be `espnow` and `network` on the board whose port is `own`."""
    port[0] = own
    everybody[:] = others
    espnow, network = Module(), Module()
    espnow.ESPNow = ESPNow
    network.WLAN, network.STA_IF = WLAN, 0
    sys.modules["espnow"], sys.modules["network"] = espnow, network
