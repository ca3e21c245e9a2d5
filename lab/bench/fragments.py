"""Frames into datagrams: the gateway's receiver, which verifies each one, against scapy, which does not.

Both get 1280-octet datagrams in 802.15.4 frames, in one process. The receiver parses, checks MAC and
tags, admits and reassembles; scapy parses 802.15.4 and 6LoWPAN and defragments. They take turns, so
that a busy machine slows both alike; CPU time is counted, and the median round printed.
"""

import random
import statistics
import time
from typing import Any

from gateway.admission import LARGEST_DATAGRAM, Limits
from gateway.events import Accepted
from gateway.receiver import Receiver
from lab.experiments.attack.formats import GATEWAY, SITE, Manifest, Member, Message
from security.chain import KeyedChain
from security.registry import Device, GatewayRegistry
from security.trust import PredictiveTrust
from slimwire.errors import SlimwireError
from wire.ipv6 import UDP_OFFSET
from wire.message import header_length

ROUNDS = 15
DEVICES = 16
DATAGRAMS = 64  # for the receiver, in a round
SCAPY_DATAGRAMS = 4
_FRAMES = 13


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Medians over `rounds` rounds.

    Returns:
        `frames_per_s` and `us_per_frame` of the receiver, `scapy_frames_per_s`, `ratio` of the two rates.

    Raises:
        SlimwireError: scapy is missing, or one of the two did not get the datagrams out.
    """
    scapy = _scapy()
    members = [Member(number) for number in range(1, DEVICES + 1)]
    own, other, ratios = [], [], []
    counter = 0
    for _ in range(rounds):
        batches = []
        for count in (DATAGRAMS, SCAPY_DATAGRAMS):
            batches.append([frames_of(members[i % DEVICES], counter + 1 + i) for i in range(count)])
            counter += count
        mine = _receive(members, batches[0])
        theirs = _defragment(scapy, batches[1])
        own.append(mine)
        other.append(theirs)
        ratios.append(theirs / mine)
    seconds, scapy_seconds = statistics.median(own), statistics.median(other)
    return {
        "frames_per_s": round(1 / seconds),
        "scapy_frames_per_s": round(1 / scapy_seconds),
        "ratio": round(statistics.median(ratios), 1),
        "us_per_frame": round(seconds * 1e6, 2),
    }


def frames_of(member: Member, counter: int) -> list[bytes]:
    """The frames, with FCS, of a genuine datagram of 1280 octets."""
    sealed = LARGEST_DATAGRAM - UDP_OFFSET - header_length(_FRAMES - 1) - 8
    fmt = Manifest()
    pieces = fmt.pieces(member, Message(counter, random.Random(counter).randbytes(sealed)))
    assert len(pieces) == _FRAMES
    return [fmt.frame(member, piece).frame for piece in pieces]


def _receive(members: list[Member], datagrams: list[list[bytes]]) -> float:
    """CPU seconds a frame."""
    devices = {m.eui: Device(m.eui, str(m.number), {0: m.keys}) for m in members}
    registry = GatewayRegistry(GATEWAY, SITE, devices=devices)
    receiver = Receiver(registry, KeyedChain(), PredictiveTrust(), Limits())
    frames = [frame for datagram in datagrams for frame in datagram]
    began = time.process_time()
    events = [receiver.on_frame(frame, 0.0)[-1] for frame in frames]
    spent = time.process_time() - began
    whole = sum(isinstance(event, Accepted) for event in events)
    if whole != len(datagrams):
        raise SlimwireError(f"the receiver completed {whole} datagrams", expected=str(len(datagrams)))
    return spent / len(frames)


def _defragment(scapy: Any, datagrams: list[list[bytes]]) -> float:
    """CPU seconds a frame. One datagram at a time: scapy tells datagrams apart by their tag alone."""
    began = time.process_time()
    done = [scapy.defragment([scapy.frame(frame) for frame in frames]) for frames in datagrams]
    spent = time.process_time() - began
    if any(len(datagram) != 1 for datagram in done):
        raise SlimwireError("scapy did not defragment", expected="one datagram of each list of frames")
    return spent / sum(map(len, datagrams))


class _Scapy:
    def __init__(self) -> None:
        from scapy.config import conf  # noqa: PLC0415
        from scapy.layers.dot15d4 import Dot15d4FCS  # noqa: PLC0415
        from scapy.layers.sixlowpan import sixlowpan_defragment  # noqa: PLC0415

        conf.dot15d4_protocol = "sixlowpan"
        self.frame = Dot15d4FCS
        self.defragment = sixlowpan_defragment


def _scapy() -> _Scapy:
    try:
        return _Scapy()
    except ImportError as error:
        raise SlimwireError(
            "scapy, which this is measured against, is not installed", remedy="pip install 'slimwire[dev]'"
        ) from error
