"""The device's key epochs: what it keeps and believes at a start; what an order, an answer, a loss does."""

from __future__ import annotations

from binascii import crc32
from pathlib import Path
from struct import pack
from types import SimpleNamespace
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware import setup
from firmware.agent import Agent
from firmware.ccm import block_cipher
from firmware.counter import Counter
from firmware.hmac import pad
from firmware.hop import downlink, uplink
from firmware.keys import derive
from firmware.message import AROUND, Message
from firmware.receiver import Receiver
from tests.firmware.loopback import DEVICE, EPOCH, PAN, ROOT, SITE, write_device

SHAPE = (2, 2, 1)


@pytest.fixture(scope="module", autouse=True)
def _modules_stay():
    """What a start drops to make room is dropped elsewhere; here it would be read again hundreds of times."""
    kept, setup.forget = setup.forget, lambda *_: None
    yield
    setup.forget = kept


def record(use: int, by: int, mark: int, root: bytes = ROOT) -> bytes:
    data = pack(">IIi", use, by, mark)
    return data + pack(">I", crc32(data + pad(derive(root, DEVICE, by, SITE)[1])[0]))


def epoch_at_start(root: Path) -> tuple[int, int, int]:
    """(present epoch, the one before, mark)."""
    loaded, keys = setup._load(f"{root}/")
    assert keys[:4] == derive(ROOT, DEVICE, loaded["epoch"], SITE)
    return loaded["epoch"], keys[5][1], keys[6]


def test_what_was_kept_is_used_and_anything_else_is_none(tmp_path: Path) -> None:
    write_device(tmp_path, b"", SHAPE, 17754)
    assert epoch_at_start(tmp_path) == (EPOCH, EPOCH, 0)
    file = tmp_path / "epoch"
    file.write_bytes(record(1, 0, 1))
    assert epoch_at_start(tmp_path) == (1, 0, 1)
    file.write_bytes(record(1, 1, 0))
    assert epoch_at_start(tmp_path) == (1, 1, 0)
    good = record(5, 1, 0)
    for bad in (good[:-1], good + b"\0", b"", record(5, 1, 0, bytes(32)), good[:3] + b"\6" + good[4:]):
        file.write_bytes(bad)
        assert epoch_at_start(tmp_path) == (EPOCH, EPOCH, 0)


class Device:
    """What turns of a device: its agent with message, receiver and counters, started from its files, with or
    without room for a switch while it runs.
    """

    def __init__(self, directory: Path, *, roomy: bool) -> None:
        self.directory, self.roomy = directory, roomy
        self.start()

    def start(self) -> None:
        loaded, keys = setup._load(f"{self.directory}/")
        ends = loaded["eui64"], loaded["gateway"], PAN
        epoch = loaded["epoch"]
        up, down = (pad(keys[0]), block_cipher(keys[2])), (pad(keys[1]), block_cipher(keys[3]))
        message = Message(DEVICE, epoch, *up, uplink(*ends), bytearray(AROUND + 64))
        receiver = Receiver(DEVICE, ends[1], epoch, *down, downlink(*ends))
        receiver.epochs, receiver.trial = keys[5:]
        if self.roomy:
            message.secret = keys[4]
        made = Counter.__init__, Counter._read
        counters = setup._storage(loaded, f"{self.directory}/")[2]
        Counter.__init__, Counter._read = made  # a device drops what it needs once; here it starts again
        link = SimpleNamespace(reject=None)
        self.lines: list[str] = []
        parts = (None, None, link, message, receiver, None, counters, None)
        self.agent = Agent(*parts, loaded, self.lines.append)

    def event(self, event: int) -> None:
        """An order (> 0), an answer without one (0) or a lost message (-1), as the agent meets it."""
        receiver = self.agent._receiver
        if event < 0:
            self.agent._turn(-1)
        elif event or receiver.trial:
            self.agent._turn(event)
        if self.agent.again:
            self.start()

    @property
    def epoch(self) -> int:
        octet = self.agent._message._octet0
        epoch = self.agent._receiver.epochs[0]
        assert (octet >> 2 & 3) == epoch & 3 == self.agent._receiver._octet0 >> 2 & 3
        keys = derive(ROOT, DEVICE, epoch, SITE)
        assert self.agent._message._key == pad(keys[0])
        assert self.agent._receiver._key == pad(keys[1])
        return epoch


@pytest.mark.parametrize("roomy", [True, False])
def test_an_epoch_is_tried_kept_and_survives_a_start(tmp_path: Path, roomy: bool) -> None:
    write_device(tmp_path, b"", SHAPE, 17754)
    device = Device(tmp_path, roomy=roomy)
    device.event(3)
    assert (device.epoch, device.agent._receiver.trial) == (3, 1)
    device.event(0)
    assert (device.epoch, device.agent._receiver.trial) == (3, 0)
    device.start()
    assert (device.epoch, device.agent._receiver.trial) == (3, 0)


@pytest.mark.parametrize("roomy", [True, False])
def test_a_message_lost_on_trial_sends_it_back_for_a_while(tmp_path: Path, roomy: bool) -> None:
    write_device(tmp_path, b"", SHAPE, 17754)
    device = Device(tmp_path, roomy=roomy)
    device.event(1)
    device.event(-1)
    assert device.epoch == 0
    for _ in range(16):
        device.event(1)
        assert device.epoch == 0
    device.event(1)
    assert device.epoch == 1
    device.event(2)  # an answer under the keys on trial, that orders the next epoch already
    device.event(-1)
    assert device.epoch == 1


@pytest.mark.parametrize("roomy", [True, False])
def test_where_the_old_keys_are_answered_no_more_the_new_ones_are_tried_again(
    tmp_path: Path, roomy: bool
) -> None:
    """The gateway heard the message on trial, its answer was lost: a day later it refuses the old epoch, and
    no order comes through any more.
    """
    write_device(tmp_path, b"", SHAPE, 17754)
    device = Device(tmp_path, roomy=roomy)
    device.event(-1)  # a loss with no other epoch known changes nothing
    assert (device.epoch, device.agent._receiver.epochs) == (0, (0, 0))
    device.event(1)
    device.event(-1)
    for _ in range(2):
        for _ in range(16):
            device.event(-1)
            assert device.epoch == 0
        device.event(-1)
        assert (device.epoch, device.agent._receiver.trial) == (1, 1)
        device.event(-1)
        assert device.epoch == 0
    for _ in range(17):
        device.event(-1)
    device.event(0)
    assert (device.epoch, device.agent._receiver.trial) == (1, 0)
    for _ in range(20):  # kept: losses are the link's
        device.event(-1)
        assert device.epoch == 1


@pytest.mark.parametrize("event", [1, -1])
@pytest.mark.parametrize("roomy", [True, False])
def test_a_device_that_starts_anew_for_each_message_gets_to_its_next_trial(
    tmp_path: Path, roomy: bool, event: int
) -> None:
    """It sleeps, or crashes: what it counts in memory is gone, and a day later its old epoch would be."""
    write_device(tmp_path, b"", SHAPE, 17754)
    device = Device(tmp_path, roomy=roomy)
    device.event(1)
    device.event(-1)
    marks = []
    for _ in range(6):
        device.start()
        assert device.epoch == 0
        marks.append(device.agent._receiver.trial)
        if marks[-1] == 0:
            break
        device.event(event)
    # Where there is no room to switch, going back to the old keys was a start already.
    assert marks == [-16, -8, -4, -2, -1, 0][not roomy :]
    assert sorted(file.name for file in tmp_path.glob("epoch*")) == ["epoch"]
    device.event(event)
    assert (device.epoch, device.agent._receiver.trial) == (1, 1)


def test_a_start_that_cannot_write_down_a_shorter_pause_starts_all_the_same(tmp_path: Path) -> None:
    write_device(tmp_path, b"", SHAPE, 17754)
    (tmp_path / "epoch").write_bytes(record(0, 1, -16))
    (tmp_path / "epoch.new").mkdir()
    device = Device(tmp_path, roomy=True)
    assert (device.epoch, device.agent._receiver.trial) == (0, -16)
    assert (tmp_path / "epoch").read_bytes() == record(0, 1, -16)


@pytest.mark.parametrize("roomy", [True, False])
def test_a_power_cut_at_a_turn_leaves_an_epoch_that_is_still_accepted(tmp_path: Path, roomy: bool) -> None:
    """Not the one of device.json, which the gateway may have retired long ago."""
    write_device(tmp_path, b"", SHAPE, 17754)
    device = Device(tmp_path, roomy=roomy)
    for event in (1, 0, 2, 0):
        device.event(event)

    def cut(file: BinaryIO) -> None:
        file.flush()
        file.truncate(5)
        raise OSError("no power")

    device.agent._counters._flush = cut
    with pytest.raises(OSError, match="no power"):
        device.event(3)
    device.start()
    assert device.epoch == 2


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([-1, 0, 1, 2, 3, 4, 5]), max_size=8), st.booleans())
def test_whatever_happens_it_is_in_an_epoch_that_it_was_ordered_to(tmp_path_factory, events, roomy) -> None:
    """And its keys are those of that epoch; a start at any moment agrees with what ran."""
    directory = tmp_path_factory.mktemp("device")
    write_device(directory, b"", SHAPE, 17754)
    device = Device(directory, roomy=roomy)
    ordered = {EPOCH}
    for event in events:
        ordered.add(max(event, 0))
        device.event(event)
        epoch = device.epoch
        assert epoch in ordered
        device.start()
        assert device.epoch == epoch
