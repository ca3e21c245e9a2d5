"""802.15.4 data frames that carry 6LoWPAN fragments of one UDP datagram between two EUI-64s, both ways.

    802.15.4   frame control, sequence number, PAN, destination, source (both EUI-64, little endian), FCS left to the link
    FRAG1      11000 size(11) tag(16)               RFC 4944 section 5.3; size and offset count the uncompressed
    FRAGN      11100 size(11) tag(16) offset(8)     datagram, offset in units of 8 bytes
    IPHC, NHC  7e 33 f3 00 checksum(16)             RFC 6282: 48 bytes of IPv6 and UDP in 6, addresses from the EUI-64s

The device takes what a Slimwire gateway sends and nothing else: other header forms are refused as `bad-header`.
"""

from .compat import const

PORT = 0xF0B0
FRAME_MAX = const(125)  # bytes of a frame without its FCS
_MAC_HEADER = const(21)
_HEADERS = const(48)  # IPv6 and UDP, uncompressed
_DATAGRAM_MAX = const(1280)

FIRST_ROOM = const(88)  # UDP payload bytes in the first of several frames
SLICE_ROOM = const(96)  # and in each after it
WHOLE_ROOM = const(98)  # in a single frame
PAYLOAD_MAX = const(1232)


def link_local(eui64):
    """The 16 bytes of fe80::/64 with the interface identifier of an EUI-64 (RFC 4944 section 6)."""
    return b"\xfe\x80\0\0\0\0\0\0" + bytes((eui64[0] ^ 2,)) + eui64[1:]


def _add_words(total, data):
    """`total` plus the data's big-endian words; an odd last byte counts as the high one (RFC 1071)."""
    even = len(data) & ~1
    for i in range(0, even, 2):
        total += data[i] << 8 | data[i + 1]
    if even < len(data):
        total += data[even] << 8
    return total


def _reversed(data):
    return bytes([data[len(data) - 1 - i] for i in range(len(data))])


class Path:
    """The headers between this device and its gateway.

    me, peer: EUI-64s in the order people write them; pan: the PAN both are in.
    """

    def __init__(self, me, peer, pan):
        source, target = link_local(me), link_local(peer)
        ports = PORT.to_bytes(2, "big") * 2
        self.up = source + target + ports  # what the MAC of a message covers of the headers
        self.down = target + source + ports
        self._words = _add_words(17, self.up)  # 17: UDP
        pan = bytes((pan & 0xFF, pan >> 8))
        # Frame control: data, acknowledge, PAN compression, both addresses EUI-64, frame version 2006.
        self._header = b"\x61\xdc\0" + pan + _reversed(peer) + _reversed(me)
        self._addresses = pan + _reversed(me) + _reversed(peer)
        self._any_pan = b"\xff\xff" + _reversed(me) + _reversed(peer)
        self._sequence = 0

    def frame(self, out, tag, payload, first, offset):
        """Write the frame of one slice of a datagram's UDP payload to `out`; its length.

        out: FRAME_MAX bytes or more; payload: the whole UDP payload; first: length of the first slice, all of the payload
        where one frame carries it; offset: where in the payload this slice begins, 0 or first + k * SLICE_ROOM.
        """
        n = len(payload)
        size = n + _HEADERS
        out[:_MAC_HEADER] = self._header
        out[2] = self._sequence = self._sequence + 1 & 0xFF
        at = _MAC_HEADER
        if first < n:
            out[at] = (0xE0 if offset else 0xC0) | size >> 8
            out[at + 1] = size & 0xFF
            out[at + 2] = tag >> 8
            out[at + 3] = tag & 0xFF
            at += 4
        if offset:
            out[at] = offset + _HEADERS >> 3
            at += 1
            end = min(offset + SLICE_ROOM, n)
        else:
            out[at] = 0x7E
            out[at + 1] = 0x33
            out[at + 2] = 0xF3
            out[at + 3] = 0
            checksum = self._checksum(payload)
            out[at + 4] = checksum >> 8
            out[at + 5] = checksum & 0xFF
            at += 6
            end = first
        out[at : at + end - offset] = payload[offset:end]
        return at + end - offset

    def _checksum(self, payload):
        """The UDP checksum with its IPv6 pseudo-header (RFC 8200 section 8.1), never 0."""
        length = len(payload) + 8
        total = _add_words(self._words + 2 * length, payload)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return total ^ 0xFFFF or 0xFFFF

    def check(self, frame):
        """None where the frame is 6LoWPAN data from the gateway to this device, else the reason to refuse it."""
        if len(frame) < _MAC_HEADER + 1:
            return "truncated"
        if len(frame) > FRAME_MAX:
            return "oversized"
        if frame[0] & 7 != 1:
            return "not-data"
        # Security, or anything but two EUI-64s in one PAN, in a frame of version 2003 or 2006.
        if frame[0] & 0x48 != 0x40 or frame[1] & 0xEC != 0xCC:
            return "foreign"
        addresses = frame[3:_MAC_HEADER]
        if addresses != self._addresses and addresses != self._any_pan:
            return "foreign"
        return None


def parse(frame):
    """(size, tag, offset, slice) of a frame that `Path.check` took, or the reason to refuse it.

    size is that of the uncompressed datagram; offset counts bytes of UDP payload and is 0 in a first slice; an
    unfragmented datagram has tag None. slice: a memoryview of the UDP payload bytes in this frame.
    """
    end = len(frame)
    at = _MAC_HEADER
    size = tag = None
    dispatch = frame[at] >> 3
    if dispatch in (0x18, 0x1C):  # FRAG1, FRAGN
        head = 4 if dispatch == 0x18 else 5
        if end - at <= head:
            return "truncated"
        size = (frame[at] & 7) << 8 | frame[at + 1]
        tag = frame[at + 2] << 8 | frame[at + 3]
        if size > _DATAGRAM_MAX:
            return "oversized"
        if size <= _HEADERS:
            return "bad-size"
        if head == 5:
            offset = (frame[at + 4] << 3) - _HEADERS
            length = end - at - 5
            if offset <= 0 or offset + length > size - _HEADERS:
                return "bad-offset"
            return size, tag, offset, frame[at + 5 :]
        at += 4
    if end - at < 7:
        return "truncated"
    # Hop limit 1, 64 or 255 in the header; ports F0B0; the checksum carried, yet not looked at: MAC, tags and seal cover
    # every bit that it covers, and unlike them it can be changed by anyone to spoil a genuine datagram.
    if frame[at] & 0xFC != 0x7C or not frame[at] & 3 or frame[at + 1 : at + 4] != b"\x33\xf3\0":
        return "bad-header"
    at += 6
    if size is None:
        size = end - at + _HEADERS
    elif end - at >= size - _HEADERS or (end - at) & 7:
        return "bad-size"
    return size, tag, 0, frame[at:]
