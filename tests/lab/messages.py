"""Genuine messages for the lab's tests: what a device and a gateway put on the air."""

from security import chain
from wire import eui64, lowpan
from wire.message import PORT, Kind, octet0

DEVICE, GATEWAY = bytes.fromhex("0200000000000001"), bytes.fromhex("02000000000000ff")
KEY = bytes(range(32))


def frames_of(sealed, *, down=False, counter=7, seq=0):
    """The genuine frames of one message."""
    src, dst = (GATEWAY, DEVICE) if down else (DEVICE, GATEWAY)
    src16, dst16 = eui64.link_local(src), eui64.link_local(dst)
    slices = chain.make(
        KEY, DEVICE, src16, dst16, octet0=octet0(Kind.REPLY if down else Kind.DATA, 0), counter=counter,
        sealed=sealed, single_room=98, first_room=88, slice_room=96,
    )  # fmt: skip
    first = len(slices[0]) if len(slices) > 1 else None
    macs = lowpan.udp_frames(
        src,
        dst,
        PORT,
        PORT,
        b"".join(slices),
        counter & 0xFFFF,
        seq,
        0x23F0,
        first,
        96 if first else None,
        True,
    )
    return [mac.emit() for mac in macs]
