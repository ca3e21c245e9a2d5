"""802.15.4 data frames that carry 6LoWPAN fragments of one UDP datagram between two EUI-64s, both ways.

    802.15.4   frame control, sequence number, PAN, destination, source; both addresses EUI-64, little endian
    FRAG1      11000 size(11) tag(16)              RFC 4944 section 5.3: size and offset count the
    FRAGN      11100 size(11) tag(16) offset(8)    uncompressed datagram, offset in units of 8 bytes
    IPHC, NHC  7e 33 f3 00 checksum(16)            RFC 6282: 6 bytes for the 48 of IPv6 and UDP

The frame check sequence is the link's.

The device takes what a Slimwire gateway sends and nothing else: other header forms are refused as
`bad-header`.
"""

from .compat import const, micropython, ptr8

FRAME_MAX = const(125)  # bytes of a frame without its FCS
PAYLOAD_MAX = const(1232)  # bytes of UDP payload in the largest datagram, of 1280 bytes
FIRST_ROOM = const(88)  # UDP payload bytes in the first of several frames
SLICE_ROOM = const(96)  # and in each after it
WHOLE_ROOM = const(98)  # in a single frame
_HEADERS = const(48)  # IPv6 and UDP, uncompressed
_MAC_HEADER = const(21)


@micropython.viper
def add_words(total: int, data: ptr8, n: int) -> int:
    """`total` plus n bytes as big-endian words; an odd last byte counts as the high one (RFC 1071)."""
    i = 0
    while i < n:
        total += data[i] if i & 1 else data[i] << 8
        i += 1
    return total


def frame(out, header, words, tag, payload, first, offset):
    """Write the frame of one slice of a datagram's UDP payload to `out`; its length.

    out: FRAME_MAX bytes; header, words: of `firmware.hop.uplink`; payload: the whole UDP payload; first:
    length of the first slice, all of the payload where one frame carries it; offset: where this slice
    begins, 0 or first + k * SLICE_ROOM.
    """
    n = len(payload)
    out[:_MAC_HEADER] = header
    at = _MAC_HEADER
    if first < n:
        size = n + _HEADERS
        out[at : at + 4] = bytes(((0xE0 if offset else 0xC0) | size >> 8, size & 0xFF, tag >> 8, tag & 0xFF))
        at += 4
    if offset:
        out[at] = offset + _HEADERS >> 3
        at += 1
        first = min(offset + SLICE_ROOM, n)
    else:
        # The UDP checksum with its IPv6 pseudo-header (RFC 8200 section 8.1): the length counts twice, 0 is
        # sent as ffff.
        total = add_words(words + 2 * (n + 8), payload, n)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total + (total >> 16)) & 0xFFFF ^ 0xFFFF or 0xFFFF
        out[at : at + 6] = bytes((0x7E, 0x33, 0xF3, 0, total >> 8, total & 0xFF))
        at += 6
    out[at : at + first - offset] = payload[offset:first]
    return at + first - offset


def parse(frame, addresses):
    """(size, tag, offset, slice) of a frame from the gateway to this device, or the reason to refuse it.

    frame: a memoryview, without FCS; addresses: the 18 bytes of PAN and EUI-64s expected, as on the air.
    size: bytes of UDP payload in the whole datagram; tag: None where the datagram is not fragmented;
    offset: of the slice in the payload, 0 in a first one; slice: a memoryview of the UDP payload bytes in
    this frame.
    """
    end = len(frame)
    at = _MAC_HEADER
    if end <= at:
        return "truncated"
    if end > FRAME_MAX:
        return "oversized"
    if frame[0] & 7 != 1:
        return "not-data"
    # Two EUI-64s in one PAN, no security, frame version 2003 or 2006.
    if frame[0] & 0x48 != 0x40 or frame[1] & 0xEC != 0xCC or frame[3:at] != addresses:
        return "foreign"
    size = tag = None
    offset = 0
    dispatch = frame[at] >> 3
    if dispatch & 0x1B == 0x18:  # FRAG1, FRAGN
        if end < at + 5:
            return "truncated"
        size = ((frame[at] & 7) << 8 | frame[at + 1]) - _HEADERS
        tag = frame[at + 2] << 8 | frame[at + 3]
        at += 4
        if not 0 < size <= PAYLOAD_MAX:
            return "bad-size"
        if dispatch & 4:
            offset = (frame[at] << 3) - _HEADERS
            at += 1
            if end == at:
                return "truncated"
            if offset <= 0 or offset + end - at > size:
                return "bad-offset"
    if not offset:
        if end < at + 7:
            return "truncated"
        # Hop limit 1, 64 or 255 in the header; ports F0B0; the checksum carried, yet not looked at: MAC,
        # tags and seal cover all that it covers, and anyone could change it to spoil a genuine datagram.
        if frame[at] & 0xFC != 0x7C or not frame[at] & 3 or frame[at + 1 : at + 4] != b"\x33\xf3\0":
            return "bad-header"
        at += 6
        if tag is None:
            size = end - at
        elif end - at >= size or (end - at) & 7:
            return "bad-size"
    return size, tag, offset, frame[at:]
