"""The device's receiver, on real MicroPython with a board's heap, under the gateway's fuzz corpus and more.

Every input is a frame as the link hands it over, or a 6LoWPAN payload in a frame from the gateway to this
device; some are mutated from genuine answers, so that they get far. No input raises, nothing forged is
accepted, a genuine answer gets through all the same, and the heap is what it was.
"""

from __future__ import annotations

import json
from itertools import islice

import pytest

from tests.firmware.loopback import DEVICE, GATEWAY, PAN, Hub
from tests.firmware.test_recovery import LONG, recoverable
from tests.fuzz.mutator import mutations
from tests.fuzz.targets import TARGETS, frames
from wire.ieee802154 import FrameKind, MacFrame
from wire.reply import Answer
from wire.rfrag import Rfrag, RfragAck

#: Fuzz targets whose corpus is frames, or what is in them.
PARSERS = ("receiver", "rfrag", "lowpan", "iphc", "frag", "ieee802154", "dissect")
HUB = Hub()
HUB.close()

_ON_DEVICE = """
import gc, sys
sys.path.append(".frozen")
from firmware.ccm import block_cipher
from firmware.hmac import pad
from firmware.hop import downlink
from firmware.receiver import ANSWER, Receiver
RECOVERY = sys.argv[1] == "1"
if RECOVERY:
    from firmware.recoverable import Recoverable
of = bytes.fromhex
receiver = Receiver(of(sys.argv[2]), of(sys.argv[3]), 0, pad(of(sys.argv[4])), block_cipher(of(sys.argv[5])),
                    downlink(of(sys.argv[2]), of(sys.argv[3]), int(sys.argv[6])))

class Message:
    def header(self):
        return bytearray(21)

message = Message()
if RECOVERY:
    receiver.recovery = Recoverable(True, 100)
buffer = bytearray(512)
view = memoryview(buffer)
n = forged = 0
details = ("a long remark " * 19, "x" * 90)

def once(file):
    # One pass over the file: length u16, frame.
    global n, forged
    while True:
        if file.readinto(buffer, 2) != 2:
            return
        length = buffer[0] << 8 | buffer[1]
        if length > 512:
            file.readinto(buffer, 512)
            file.seek(length - 512, 1)
            length = 512
        elif length:
            file.readinto(buffer, length)
        # A link's buffer is its own: a frame that is kept is copied.
        event = receiver.on_frame(bytes(view[:length]))
        if event:
            # Genuine octets behind a changed sequence number, hop limit or checksum are genuine.
            forged += event != ANSWER or receiver.answer[5] not in details
            receiver.expect(9)
        if RECOVERY:
            receiver.recovery.ack(message, receiver)
        n += 1

def answered(name):
    # The genuine answer to 9 through all that was heard before.
    with open(name, "rb") as file:
        while True:
            head = file.read(2)
            if len(head) < 2:
                return False
            if receiver.on_frame(file.read(head[0] << 8 | head[1])) == ANSWER:
                return True

genuine = 0
free = []
for turn in range(3):
    receiver.expect(9)
    with open("inputs.bin", "rb") as file:
        once(file)
    genuine += answered("answer.bin")
    gc.collect()
    free.append(gc.mem_free())
import json
print(json.dumps({"n": n, "forged": forged, "genuine": genuine, "free": free, "rejected": receiver.rejected,
                  "accepted": receiver.accepted}))
"""


def to_device(payload: bytes) -> bytes:
    frame = MacFrame(FrameKind.DATA, 0, PAN, DEVICE, GATEWAY, payload[:104], True, version=1)
    return frame.emit(fcs=False)


def known_shapes() -> list[bytes]:
    """6LoWPAN payloads of the shapes that broke other stacks (`tests/wire/test_known_shapes.py`).

    Beyond the buffer, shorter than their header, promises of bytes that are not there, chains of headers,
    empty, of impossible size.
    """
    size = 48 + 300
    fragn = [
        (size, 9, offset, bytes(length))
        for offset, length in ((0, 8), (1, 8), (6, 96), (6, 0), (255, 96), (40, 96), (17, 95), (17, 97))
    ]
    payloads = [
        (0xE000 | size).to_bytes(2, "big") + tag.to_bytes(2, "big") + bytes((offset,)) + data
        for size, tag, offset, data in fragn
    ]
    for size in (0, 39, 40, 47, 48, 49, 1280, 1281, 2047):
        payloads.append((0xC000 | size).to_bytes(2, "big") + b"\0\x09" + b"\x7e\x33\xf3\0\0\0" + bytes(88))
        payloads.append((0xE000 | size).to_bytes(2, "big") + b"\0\x09\x11" + bytes(96))
    payloads += [payload[:n] for payload in payloads[:2] for n in range(12)]
    payloads += [bytes.fromhex(text) for text in (
        "", "40", "41", "4160", "50", "60", "7e", "7e33", "7e33f3", "7e33f300", "7a333a80", "7f00", "e10600",
        "7e33e1063304" + "e1063304" * 20, "c0", "c000", "e0", "e000000000", "f0", "fb", "ff" * 104,
        "80" * 104,
        "b1000100027e33f3000000", "5001" + "7e33f3000000",
    )]  # fmt: skip
    payloads += [
        Rfrag(9, i, at, bytes(n)).emit()
        for i in (0, 1, 31)
        for at in (0, 1, 94, 1300, 65535)
        for n in (0, 1, 96)
    ]
    payloads += [RfragAck(9, bits).emit() for bits in (0, 1, 0x80000000, 0xFFFFFFFF)]
    return payloads


def inputs(count: int, seed: int) -> list[bytes]:
    """Frames without FCS, as a link hands them over."""
    out = [to_device(payload) for payload in known_shapes()]
    genuine = [
        *HUB.answer(9, LONG),
        *recoverable(9, LONG),
        *HUB.answer(9, Answer(2, detail="x" * 90)),
    ]
    near = []
    for frame in genuine:
        for at in range(len(frame)):
            near.append(frame[:at] + bytes((frame[at] ^ 1 << at % 8,)) + frame[at + 1 :])
        near.append(frame[:-1])
    out += near
    for number, name in enumerate(PARSERS):
        for data in islice(mutations(TARGETS[name].corpus, seed + number, 260), count):
            if name in ("receiver", "rfrag", "dissect"):
                parts = [part for _, part in frames(data)]
            else:
                parts = [data[name in ("lowpan", "iphc") :]]
            for part in parts:
                out += [part, to_device(part)]
    for data in islice(mutations(genuine, seed, 127), 4 * count):
        out.append(data)
    return out


def with_length(frames_: list[bytes]) -> bytes:
    return b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames_)


@pytest.mark.parametrize("recovery", ["0", "1"])
@pytest.mark.parametrize(
    "count", [400, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_no_frame_breaks_the_receiver(run_micropython, capsys, recovery: str, count: int):
    data = inputs(count, seed=1)
    answer = recoverable(9, LONG) if recovery == "1" else HUB.answer(9, LONG)
    printed = run_micropython(
        _ON_DEVICE,
        recovery,
        DEVICE.hex(),
        GATEWAY.hex(),
        HUB.gateway_keys.frag_dn.hex(),
        HUB.edge_keys.msg_dn.hex(),
        str(PAN),
        files={"inputs.bin": with_length(data), "answer.bin": with_length(answer)},
        heap="96k",
    )
    result = json.loads(printed)
    assert result["n"] == 3 * len(data)
    assert (result["forged"], result["genuine"]) == (0, 3)
    assert sum(result["rejected"].values()) > 2 * len(data)
    assert {"bad-mac", "bad-tag", "truncated", "foreign", "bad-header", "bad-offset", "bad-size"} <= set(
        result["rejected"]
    )
    # After the first turn nothing grows: reasons are counted in places that are there.
    assert result["free"][0] - result["free"][-1] <= 64
    if count > 400:
        with capsys.disabled():
            print(f"\n{result['n']} frames, heap {result['free']}, refused {result['rejected']}")
