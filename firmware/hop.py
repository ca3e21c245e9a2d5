"""What all frames between this device and its gateway have in common. Used at start, then dropped."""

from .lowpan import add_words

PORT = 0xF0B0


def link_local(eui64):
    """The 16 bytes of fe80::/64 with the interface identifier of an EUI-64 (RFC 4944 section 6)."""
    return b"\xfe\x80\0\0\0\0\0\0" + bytes((eui64[0] ^ 2,)) + eui64[1:]


def _reversed(data):
    return bytes([data[len(data) - 1 - i] for i in range(len(data))])


def uplink(me, peer, pan):
    """(header, words, covered) of frames to the gateway.

    header: the 21 bytes of 802.15.4 header, sequence number 0: data, acknowledge, PAN compression, both
    addresses EUI-64, frame version 2006; words: the sum of the pseudo-header's and the UDP header's fixed
    words; covered: addresses and ports, as a message's MAC covers them.
    me, peer: EUI-64s as people write them; pan: the PAN of both.
    """
    covered = link_local(me) + link_local(peer) + PORT.to_bytes(2, "big") * 2
    header = b"\x61\xdc\0" + pan.to_bytes(2, "little") + _reversed(peer) + _reversed(me)
    return bytearray(header), add_words(17, covered, 36), covered


def downlink(me, peer, pan):
    """(addresses, covered) of frames from the gateway: as on the air, with the PAN; as a MAC covers them."""
    covered = link_local(peer) + link_local(me) + PORT.to_bytes(2, "big") * 2
    return pan.to_bytes(2, "little") + _reversed(me) + _reversed(peer), covered
