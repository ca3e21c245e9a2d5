"""Key epochs at the gateway: the old one ends a day after the first message in the new one, not before."""

import dataclasses
from pathlib import Path

import pytest

from gateway.epochs import GRACE, Epochs, EpochsFile
from gateway.events import Accepted, Rejected
from gateway.receiver import Receiver
from security.chain import KeyedChain
from security.registry import Device, GatewayRegistry
from security.trust import PredictiveTrust
from tests.gateway.kit import GATEWAY, SITE, Node

OLD = Node(1)
NEW = dataclasses.replace(OLD, epoch=OLD.epoch + 1)
NEXT = dataclasses.replace(OLD, epoch=OLD.epoch + 2)


def receiver(*nodes: Node) -> Receiver:
    device = Device(OLD.eui, "pump", {node.epoch: node.keys for node in nodes})
    return Receiver(GatewayRegistry(GATEWAY, SITE, 1, {OLD.eui: device}), KeyedChain(), PredictiveTrust())


def send(made: Receiver, node: Node, counter: int, now: float) -> str:
    """`accepted`, or the reason for which the message's first frame was refused."""
    events = [event for frame in node.frames(counter, b"sealed" * 4) for event in made.on_frame(frame, now)]
    if any(type(event) is Accepted for event in events):
        return "accepted"
    return next(event.reason.value for event in events if type(event) is Rejected)


def test_the_old_epoch_ends_a_day_after_the_new_one_began() -> None:
    made = receiver(OLD, NEW)
    assert send(made, OLD, 1, 0.0) == "accepted"
    assert send(made, OLD, 2, 10 * GRACE) == "accepted"  # it never moved on: nothing ends
    assert send(made, NEW, 3, 10 * GRACE) == "accepted"
    assert send(made, OLD, 4, 11 * GRACE - 1) == "accepted"
    assert send(made, OLD, 5, 11 * GRACE) == "retired-epoch"
    assert send(made, NEW, 6, 11 * GRACE) == "accepted"


def test_forgeries_in_the_new_epoch_end_nothing() -> None:
    made = receiver(OLD, NEW)
    frame = bytearray(NEW.frames(3, b"sealed" * 4)[0])
    frame[-6] ^= 1
    made.on_frame(bytes(frame), 0.0)
    assert made.counters["malformed-frame"] == 1
    genuine = NEW.slices(3, b"sealed" * 4)
    made.on_frame(NEW.carry([genuine[0][:-1] + b"?"], 3)[0], 0.0)
    assert made.counters["bad-mac"] == 1
    assert made.epochs.newest(OLD.eui) is None
    assert send(made, OLD, 4, 2 * GRACE) == "accepted"


def test_a_counter_is_used_in_its_own_epoch_only() -> None:
    made = receiver(OLD, NEW)
    made.mark_used(OLD.eui, OLD.epoch, 7)
    assert send(made, OLD, 7, 0.0) == "replayed"
    assert send(made, NEW, 7, 0.0) == "accepted"


def test_what_the_registry_drops_is_forgotten() -> None:
    made = receiver(OLD, NEW)
    send(made, NEW, 1, 0.0)
    made.update(GatewayRegistry(GATEWAY, SITE, 2, {OLD.eui: Device(OLD.eui, "", {NEXT.epoch: NEXT.keys})}))
    assert made.epochs.newest(OLD.eui) is None
    assert send(made, OLD, 2, 1.0) == "unknown-epoch"


def test_a_restart_does_not_prolong_the_old_epoch(tmp_path: Path) -> None:
    first = Epochs()
    first.heard(OLD.eui, NEW.epoch, 500.0)
    EpochsFile(tmp_path / "epochs.json", first).write(600.0, 1_000_000.0)
    assert not first.changed
    again = Epochs()
    EpochsFile(tmp_path / "epochs.json", again).restore(50.0, 1_000_000.0 + GRACE - 101)
    assert not again.retired(OLD.eui, OLD.epoch, 50.0)
    assert again.retired(OLD.eui, OLD.epoch, 51.0)
    assert again.newest(OLD.eui) == NEW.epoch


def test_what_a_file_says_of_another_identity_retires_nothing(tmp_path: Path) -> None:
    """The EUI-64 was enrolled anew, under an epoch below those it had rotated to."""
    first = Epochs()
    first.heard(OLD.eui, NEXT.epoch, 0.0)
    EpochsFile(tmp_path / "epochs.json", first).write(0.0, 1_000_000.0)
    made = receiver(OLD)
    EpochsFile(tmp_path / "epochs.json", made.epochs).restore(0.0, 1_000_000.0 + 2 * GRACE)
    assert send(made, OLD, 1, 1.0) == "accepted"


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "saved": 0, "ages": [1]}'])
def test_a_damaged_file_costs_only_time(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "epochs.json").write_text(text)
    epochs = Epochs()
    EpochsFile(tmp_path / "epochs.json", epochs).restore(0.0, 0.0)
    assert epochs.newest(OLD.eui) is None
    assert "cannot be used" in caplog.text
