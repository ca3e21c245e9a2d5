"""The firmware against golden vectors. Runs on a MicroPython device as it is (JSON files as arguments) and
imports on CPython.

Each check takes one case and raises AssertionError.
"""

import gc
import json
import sys

sys.path.append(".frozen")  # MicroPython's asyncio
import asyncio
from struct import pack, unpack_from

from firmware import recovery, setup
from firmware.agent import Agent
from firmware.ccm import TAG, block_cipher, ccm
from firmware.hmac import digest, pad
from firmware.hop import downlink, uplink
from firmware.keys import derive
from firmware.lowpan import FIRST_ROOM, FRAME_MAX, SLICE_ROOM, WHOLE_ROOM, frame
from firmware.message import AROUND, Message, link_report, tag_input
from firmware.rans import encode_into
from firmware.receiver import ANSWER, CUSTODY, Receiver

PAN = 0x23F0


def of(text):
    return bytes.fromhex(text)


def frames_of(addresses, counter, slices):
    """802.15.4 frames (without FCS) that carry these slices of one datagram to a device."""
    size = sum([len(piece) for piece in slices]) + 48
    offset = 0
    out = []
    for piece in slices:
        header = b"\x61\xdc\0" + addresses
        if len(slices) > 1:
            header += bytes(((0xE0 if offset else 0xC0) | size >> 8, size & 0xFF)) + pack(
                ">H", counter & 0xFFFF
            )
        header += bytes(((offset + 48) >> 3,)) if offset else b"\x7e\x33\xf3\0\0\0"
        out.append(header + piece)
        offset += len(piece)
    return out


def check_keys(case):
    keys = derive(of(case["root"]), of(case["device"]), case["epoch"], case["site"])
    expected = tuple([of(case[name]) for name in ("frag_up", "frag_dn", "msg_up", "msg_dn")])
    assert keys == expected


def check_seal(case):
    sealed = of(case["sealed"])
    nonce, aad, plain = of(case["nonce"]), of(case["aad"]), of(case["plaintext"])
    if case["direction"] == "down":
        sealed = sealed[8:]
    text = bytearray(plain)
    tag = ccm(block_cipher(of(case["key"])), nonce, aad, memoryview(text), False)
    assert bytes(text) + bytes(tag[:TAG]) == sealed
    again = ccm(block_cipher(of(case["key"])), nonce, aad, memoryview(text), True)
    assert bytes(text) == plain
    assert again == tag


def check_chain(case):
    """Tags and MAC; and the chain's verifier, which is the downlink's, takes the slices in any order after
    the first.
    """
    device, counter, key = of(case["device"]), case["counter"], pad(of(case["k_frag"]))
    slices = [of(text) for text in case["slices"]]
    assert digest(key, of(case["mac_input"]))[:8] == of(case["mac"])
    offset, previous = len(slices[0]), bytes(4)
    for i, covered in enumerate(case["tag_inputs"]):
        piece = slices[i + 1]
        assert tag_input(device, counter, i + 1, offset, len(piece), previous) + piece == of(covered)
        previous = digest(key, of(covered))[:4]
        assert previous == of(case["tags"][i])
        offset += len(piece)
    if case["single_room"] > WHOLE_ROOM:
        return  # cut for short addresses: not a frame between EUI-64s, the only ones a device has
    addresses = bytes(18)
    ports = pack(">HH", case["src_port"], case["dst_port"])
    hop = addresses, of(case["src"]) + of(case["dst"]) + ports
    frames = frames_of(addresses, counter, slices)
    for order in (frames, frames[:1] + frames[:0:-1]):
        receiver = Receiver(device, bytes(8), 0, key, block_cipher(bytes(16)), hop)
        receiver._octet0 = case["octet0"]
        receiver.expect(counter)
        for data in order:
            receiver.on_frame(data)
        assert receiver.accepted == len(slices)
        assert sum(receiver.rejected.values()) == 1  # the seal is not one that opens
        assert "bad-seal" in receiver.rejected or "bad-answer" in receiver.rejected
        last = bytearray(frames[-1])
        last[-1] ^= 1
        receiver.on_frame(frames[0])
        receiver.on_frame(last)
        assert receiver.accepted == len(slices) + 1
        assert "bad-mac" in receiver.rejected or "bad-tag" in receiver.rejected


def check_custody(case):
    device, gateway = of(case["device"]), of(case["gateway"])
    addresses, covered = downlink(device, gateway, PAN)
    receiver = Receiver(
        device,
        gateway,
        case["epoch"],
        pad(of(case["k_frag_dn"])),
        block_cipher(bytes(16)),
        (addresses, covered),
    )
    receiver.expect(case["counter"])
    (data,) = frames_of(addresses, case["counter"], [of(case["ack"])])
    assert receiver.on_frame(data) == CUSTODY
    assert receiver.custody == case["status"]


def check_answer(case):
    device, gateway = bytes(8), bytes((2,)) + bytes(7)
    addresses, covered = downlink(device, gateway, PAN)
    key, cipher = pad(bytes(32)), block_cipher(bytes(16))
    receiver = Receiver(device, gateway, 0, key, cipher, (addresses, covered))
    receiver.expect(9)
    head = b"\x50" + pack(">I", 9)
    text = bytearray(of(case["bytes"]))
    salt = b"saltsalt"
    tag = ccm(cipher, b"\1" + salt + head[1:], head, memoryview(text), False)
    sealed = salt + bytes(text) + bytes(tag[:TAG])
    pieces = []
    if len(sealed) + 13 > WHOLE_ROOM:
        n = 1
        while len(sealed) + 15 + 4 * n > FIRST_ROOM + n * SLICE_ROOM:
            n += 1
        at = FIRST_ROOM - 15 - 4 * n
        pieces = [sealed[at + i * SLICE_ROOM : at + (i + 1) * SLICE_ROOM] for i in range(n)]
        sealed = sealed[:at]
        head = b"\x52" + head[1:] + bytes((n, SLICE_ROOM // 8))
        tag = bytes(4)
        for i, piece in enumerate(pieces):
            offset = FIRST_ROOM + i * SLICE_ROOM
            tag = digest(key, tag_input(device, 9, i + 1, offset, len(piece), tag), piece)[:4]
            head += tag
    length = len(head) + 8 + len(sealed) + sum([len(piece) for piece in pieces])
    mac = digest(key, b"\1", covered, pack(">H", length), head, sealed)[:8]
    slices = [head + mac + sealed]
    slices.extend(pieces)
    assert [receiver.on_frame(data) for data in frames_of(addresses, 9, slices)][-1] == ANSWER
    names = ("next_width", "status", "cls", "confidence", "unix_time", "detail")
    assert receiver.answer == tuple([case[name] for name in names])
    assert receiver.order == case.get("next_epoch", 0)


def report_of(case):
    report = case["report"]
    return link_report(report["duration_ms"], report["retries"], report["queue"], report["battery"])


def check_latent(case):
    """The inner header, taken out of a sealed message again."""
    device = bytes(8)
    cipher = block_cipher(bytes(16))
    message = Message(
        device, 0, pad(bytes(32)), cipher, uplink(device, bytes(8), PAN), bytearray(AROUND + 100)
    )
    coded = of(case["coded"])
    message.body[: len(coded)] = coded
    message.seal(1, case["model_tag"], case["width"], report_of(case), len(coded))
    text = bytearray(message.sealed)[:-TAG]
    ccm(cipher, b"\0" + device + pack(">I", 1), b"\x40" + pack(">I", 1), memoryview(text), True)
    assert bytes(text) == of(case["bytes"])


def check_journey(case):
    device, gateway = of(case["device"]), of(case["gateway"])
    keys = derive(of(case["root"]), device, case["epoch"], case["site"])
    slices = [of(text) for text in case["slices"]]
    counter = case["counter"]
    if case["direction"] == "down":
        addresses, covered = downlink(device, gateway, PAN)
        receiver = Receiver(
            device, gateway, case["epoch"], pad(keys[1]), block_cipher(keys[3]), (addresses, covered)
        )
        receiver.expect(counter)
        done = [receiver.on_frame(data) for data in frames_of(addresses, counter, slices)]
        assert done == [0] * (len(slices) - 1) + [ANSWER]
        assert not receiver.rejected
        answer = case["answer"]
        names = ("next_width", "status", "cls", "confidence", "unix_time", "detail")
        assert receiver.answer == tuple([answer[name] for name in names])
        return
    coded = of(case["coded"])
    hop = uplink(device, gateway, PAN)
    memory = bytearray(AROUND + len(coded))
    message = Message(device, case["epoch"], pad(keys[0]), block_cipher(keys[2]), hop, memory)
    message.body[:] = coded
    message.seal(counter, case["model_tag"], case["width"], report_of(case), len(coded))
    assert bytes(message.sealed) == of(case["sealed"])
    assert message.frames == len(slices)
    out = bytearray(FRAME_MAX)
    for i in range(message.frames):
        n = message.frame(i, out)
        assert out[n - len(slices[i]) : n] == slices[i]


def check_frames(case):
    header, words, _ = uplink(of(case["src"]), of(case["dst"]), case["pan"])
    payload = of(case["payload"])
    first = len(payload) if len(case["frames"]) == 1 else 88
    out = bytearray(FRAME_MAX)
    for i, expected in enumerate(case["frames"]):
        header[2] = case["seq"] + i & 0xFF
        n = frame(out, header, words, case["tag"], payload, first, first + 96 * (i - 1) if i else 0)
        assert out[:n] == of(expected)


class Stored:
    """What recovery asks of a message: the frames of a payload, whatever is in it."""

    def __init__(self, case, n):
        self._case = case
        self._header, self._words, _ = uplink(of(case["src"]), of(case["dst"]), case["pan"])
        self._payload = of(case["payload"])
        self._sequence = case["seq"]
        self.counter = case["tag"]
        self.frames = n

    def frame(self, i, out):
        self._header[2] = self._sequence
        self._sequence = self._sequence + 1 & 0xFF
        offset = 88 + 96 * (i - 1) if i else 0
        return frame(out, self._header, self._words, self.counter, self._payload, 88, offset)


class Air:
    """Stands for asyncio in the module under test: while it waits, it hears what the vector says."""

    def __init__(self, case):
        self.steps = [dict(step, burst=list(step["burst"])) for step in case["steps"]]
        self.frames = []
        self.under_test = recovery.Recovery(True, 100)
        self.sent = []

    gap_ms = 0

    async def send(self, data):
        self.frames.append(bytes(data))
        word = unpack_from(">H", data, 23)[0]
        self.sent.append(word >> 10 & 31)
        if word >> 15:
            step = self.steps.pop(0)
            assert self.sent == step["burst"], (self.sent, step["burst"])
            self.sent = []
            self.hints = [int(text, 16) for text in step["hints"]]

    async def sleep(self, seconds):
        while seconds and self.hints:
            data = b"\x61\xdc\0" + bytes(18) + pack(">BBI", 0xEA, self.under_test._tag, self.hints.pop(0))
            assert self.under_test.fields(data, None, "truncated") == "hint"


def send_with_recovery(case, message, again):
    air = Air(case)
    recovery.asyncio = air
    try:
        done = asyncio.run(air.under_test.send(message, memoryview(bytearray(FRAME_MAX)), air, int(again)))
    finally:
        recovery.asyncio = asyncio
    assert not air.steps
    return done, air.frames


def check_recovery(case):
    n = case["fragments"]
    message = Stored(
        {"src": "00" * 8, "dst": "01" * 8, "pan": PAN, "seq": 0, "tag": 9, "payload": "00" * (96 * n - 16)}, n
    )
    done, frames = send_with_recovery(case, message, case["again"])
    assert done is (case["end"] == "done")
    assert [data[2] for data in frames] == list(range(len(frames)))


def check_recoverable(case):
    n = len(case["frames"])
    script = {"steps": [{"burst": range(n), "hints": ["ffffffff"]}]}
    done, frames = send_with_recovery(script, Stored(case, n), False)
    assert done
    assert frames == [of(text) for text in case["frames"]]


class Tables:
    """What the coder asks of a head."""

    def __init__(self, case):
        index = of(case["index"])
        self.n_symbols = len(index)
        self.levels = len(case["freqs"][0])
        packed = bytearray((len(index) + 3) // 4)
        for i in range(len(index)):
            packed[i >> 2] |= index[i] << 2 * (i & 3)
        self.section = bytearray((len(case["freqs"]),))
        for table in case["freqs"]:
            for frequency in table:
                self.section += pack("<H", frequency)
        self.section += packed
        self.tables_at = 0


def check_rans(case):
    head = Tables(case)
    symbols = of(case["symbols"])
    buffer = bytearray(2 * len(symbols) + 8)
    n = encode_into(symbols, len(symbols), head, buffer)
    assert buffer[:n] == of(case["coded"])


def check_mqtt(case):
    from firmware.links.mqtt import WideMessage, WideReceiver

    receiver = WideReceiver(bytes(8), bytes(8), 0, None, None, (b"", b""))
    if "reason" in case:
        assert isinstance(receiver.fields(memoryview(of(case["fragment"]))), str)
        return
    slices = [of(piece) for piece in case["slices"]]
    for i, fragment in enumerate(case["fragments"]):
        size, tag, offset, piece = receiver.fields(memoryview(of(fragment)))
        assert (tag, bytes(piece)) == (case["counter"] & 0xFFFF, slices[i])
        assert (size, offset) == (sum([len(piece) for piece in slices]), sum([len(p) for p in slices[:i]]))
        if not i:
            receiver._size, receiver._first = size, len(piece)
            receiver._stride = len(slices[1]) if slices[1:] else 0
    if not slices[1:]:
        message = WideMessage(bytes(8), 0, None, None, (bytearray(21), 0, b""), bytearray(100))
        message.counter, message._payload = case["counter"], slices[0]
        out = bytearray(7 + len(slices[0]))
        assert message.frame(0, out) == len(out)
        assert [bytes(out)] == [of(fragment) for fragment in case["fragments"]]


class Nothing:
    """In place of the parts of an agent that a change of epoch has nothing to do with."""

    trial = 0
    reject = None


def check_epoch(case):
    """What a start makes of the file, and which file a turn writes. In the working directory."""
    settings = {
        "format": 1,
        "eui64": case["device"],
        "epoch": case["enrolled"],
        "site": case["site"],
        "gateway": "02000000000000fe",
        "root": case["root"],
        "link": {"type": "zep", "host": "127.0.0.1"},
        "source": {"type": "file", "path": "camera.bin"},
    }
    with open("device.json", "w") as file:
        file.write(json.dumps(settings))
    with open("epoch", "wb") as file:
        file.write(of(case["bytes"]))
    kept, setup.forget = setup.forget, lambda *names: None
    try:
        loaded, keys = setup._load("./")
    finally:
        setup.forget = kept
    root, device, site = of(case["root"]), of(case["device"]), case["site"]
    enrolled = case["enrolled"]
    use, by, mark = case.get("use", enrolled), case.get("written_in", enrolled), case.get("mark", 0)
    assert loaded["epoch"] == use
    assert keys[:4] == derive(root, device, use, site)
    assert keys[5:] == ((use, by), mark)
    after = case.get("after_a_start")
    assert loaded.get("pause") == (after and of(after))
    if "use" not in case or mark not in (1, 0, -16):
        return
    # The turn that wrote it: an order, an answer or a loss, in the epoch that it was written in.
    receiver, message, counters = Nothing(), Nothing(), Nothing()
    receiver._key = pad(derive(root, device, by, site)[1])
    receiver.trial = {1: 0, 0: int(use == by), -16: 1}[mark]
    receiver.epochs = (by, use)
    message.secret = None
    counters._names = ("./counter.a",)
    counters._flush = lambda file: file.flush()
    if mark == 0 and use != by:
        return  # no turn writes that: what a start made of a mark of -1
    agent = Agent(None, None, receiver, message, receiver, None, counters, None, TIMES, lambda line: None)
    agent._turn({1: use, 0: 0, -16: -1}[mark])
    with open("epoch", "rb") as file:
        assert file.read() == of(case["bytes"])


TIMES = {"period_ms": 1, "deadline_ms": 1, "retries": 0}
CHECKS = {
    "answer": check_answer,
    "chain": check_chain,
    "custody": check_custody,
    "epoch": check_epoch,
    "frames": check_frames,
    "journey": check_journey,
    "keys": check_keys,
    "latent": check_latent,
    "mqtt": check_mqtt,
    "rans": check_rans,
    "recoverable": check_recoverable,
    "recovery": check_recovery,
    "seal": check_seal,
}

if __name__ == "__main__":
    for path in sys.argv[1:]:
        gc.collect()
        with open(path) as file:
            cases = json.load(file)["cases"]
        for case in cases:
            try:
                CHECKS[path.rpartition("/")[2][:-5]](case)
                print("met", case["name"])
            except AssertionError as error:
                print("not met", case["name"])
                sys.print_exception(error)
