"""Fragments of a message over MQTT: one a PUBLISH, on topics that name the device.

    slimwire/v1/SITE/EUI64/up      device -> gateway
    slimwire/v1/SITE/EUI64/down    gateway -> device
    slimwire/v1/SITE/EUI64/state   "online" or "offline", retained: birth and last will

    0  1  i: 0 the first slice of the UDP payload, or all of it; 1..31 slice i of its manifest
    1  4  counter
    i = 0:   5  2  payload length
    ..    the slice

The IPv6 addresses are link-local, made from the EUI-64s, and both UDP ports are 61616: nothing of a header
is sent that the topic and the gateway's own identity already say. Who published on a topic proves nothing;
the MAC and the tags do.

Reasons: `truncated`, `slice-index`, `payload-length`, `counter`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from wire import eui64
from wire.errors import WireError
from wire.message import MAX_PAYLOAD, MAX_SLICES_AFTER_FIRST

_LATER = struct.Struct(">BI")
_FIRST = struct.Struct(">BIH")
_COUNTER_IN_MESSAGE = slice(1, 5)

#: Bytes of the largest fragment: a whole message.
MAX_PACKET = _FIRST.size + MAX_PAYLOAD

#: What every topic of protocol version 1 starts with.
ROOT = "slimwire/v1"
UP, DOWN, STATE = "up", "down", "state"
ONLINE, OFFLINE = b"online", b"offline"
#: Characters that mean something else in a topic or a filter (MQTT 5, section 4.7), and so no site's name
#: may have.
RESERVED = frozenset("/+#\0")


def topic(site: str, device: bytes | None, leaf: str) -> str:
    """The topic of a device (EUI-64), or for None the filter of every device of the site.

    Raises:
        ValueError: the site's name cannot be one level of a topic.
    """
    if not site or RESERVED & set(site):
        raise ValueError(f"a site without any of / + #, as {site!r} has")
    return f"{ROOT}/{site}/{'+' if device is None else device.hex()}/{leaf}"


def device_of(name: str) -> bytes | None:
    """The EUI-64 that a topic names, as `topic` writes it; None where it names none."""
    parts = name.split("/")
    if len(parts) != 5:
        return None
    try:
        device = eui64.parse(parts[3])
    except WireError:
        return None
    return device if parts[3] == device.hex() else None


@dataclass(slots=True)
class Fragment:
    """One fragment.

    Args:
        i: 0..31.
        counter: the message's, 32 bits.
        data: the slice, at least one byte.
        payload_length: of the whole UDP payload; 0 where i is not 0.
    """

    i: int
    counter: int
    data: bytes
    payload_length: int = 0

    @classmethod
    def parse(cls, packet: bytes) -> "Fragment":
        """Take apart an MQTT message.

        Raises:
            WireError: `truncated`; `slice-index` above 31; `payload-length` above 1232, or shorter than the
                slice; `counter` that the message in a first slice contradicts.
        """
        if len(packet) <= _LATER.size:
            raise WireError("truncated", f"an MQTT fragment has {len(packet)} bytes, expected 6 or more")
        i, counter = _LATER.unpack_from(packet)
        if i > MAX_SLICES_AFTER_FIRST:
            raise WireError(
                "slice-index", f"slice {i} of a message that has {MAX_SLICES_AFTER_FIRST} at most"
            )
        if i:
            return cls(i, counter, packet[_LATER.size :])
        if len(packet) <= _FIRST.size:
            raise WireError("truncated", f"a first fragment has {len(packet)} bytes, expected 8 or more")
        length: int = _FIRST.unpack_from(packet)[2]
        data = packet[_FIRST.size :]
        if not len(data) <= length <= MAX_PAYLOAD:
            raise WireError(
                "payload-length", f"{length} bytes of payload, expected {len(data)} to {MAX_PAYLOAD}"
            )
        if data[_COUNTER_IN_MESSAGE] != packet[_COUNTER_IN_MESSAGE]:
            raise WireError("counter", f"the fragment says {counter}, the message in it another one")
        return cls(0, counter, data, length)

    def emit(self) -> bytes:
        """The MQTT message."""
        if self.i:
            return _LATER.pack(self.i, self.counter) + self.data
        return _FIRST.pack(0, self.counter, self.payload_length) + self.data


def fragments(counter: int, slices: Sequence[bytes]) -> list[bytes]:
    """The MQTT messages that carry these slices of one message."""
    whole = sum(map(len, slices))
    return [Fragment(i, counter, piece, 0 if i else whole).emit() for i, piece in enumerate(slices)]
