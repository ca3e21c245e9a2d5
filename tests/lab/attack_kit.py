"""Frames for the tests of the attack lab's defences, and what they make of them."""

import random

from lab.experiments.attack.defences import DEFENCES, Settings, memory_for
from lab.experiments.attack.formats import GATEWAY, PAN, Member, Message
from wire.frag import FragN
from wire.ieee802154 import FrameKind, MacFrame
from wire.ipv6 import UDP_OFFSET

RNG = random.Random(5)


class Bench:
    """One defence and devices that talk its format."""

    def __init__(self, name, devices=4, memory=None):
        self.members = [Member(number) for number in range(1, devices + 1)]
        kind = DEFENCES[name]
        self.fmt = kind.fmt()
        self.defence = kind.make(Settings(self.members, memory or memory_for(devices), 60.0), self.fmt)
        self.number = 0
        self.counter = 0

    def message(self, length=300):
        self.counter += 1
        return Message(self.counter, RNG.randbytes(length))

    def frames(self, message, who=0):
        member = self.members[who]
        return [self.fmt.frame(member, piece).frame for piece in self.fmt.pieces(member, message)]

    def give(self, frames, now=0.0):
        """The fate of each frame."""
        fates = []
        for frame in frames:
            fates.append(self.defence.receive(self.number, frame, now))
            self.number += 1
        return fates

    def delivered(self, frames, now=0.0):
        """Octets of all messages that these frames completed."""
        return [one.octets for fate in self.give(frames, now) for one in fate.delivered]

    def refusals(self, frames, now=0.0):
        return [fate.refused for fate in self.give(frames, now)]


def fragn(like, offset, data, *, source=None, tag=None, size=None, seq=99):
    """A later fragment for the datagram of the frame `like`, at `offset` octets of its UDP payload."""
    mac = MacFrame.parse(like)
    head = mac.payload
    old_size, old_tag = (head[0] & 7) << 8 | head[1], head[2] << 8 | head[3]
    part = FragN(size or old_size, old_tag if tag is None else tag, UDP_OFFSET + offset, data)
    return MacFrame(FrameKind.DATA, seq, PAN, GATEWAY, source or mac.src, part.emit(), version=1).emit()


def resequenced(frame, seq):
    """The frame under another sequence number."""
    mac = MacFrame.parse(frame)
    mac.seq = seq
    return mac.emit()


def beyond(like):
    """A FRAGN at the last offset there is, for the datagram of the first fragment `like`."""
    mac = MacFrame.parse(like)
    payload = bytes([0xE0 | mac.payload[0] & 7]) + mac.payload[1:4] + b"\xff" + b"z" * 8
    return MacFrame(FrameKind.DATA, 98, PAN, GATEWAY, mac.src, payload, version=1).emit()
