"""The channel of the attack lab: times, CSMA, acks, retries, loss, the attacker's share."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.experiments.attack import radio
from lab.experiments.attack.air import Plan, simulate
from lab.experiments.attack.attackers import ATTACKS
from lab.experiments.attack.clock import Clock
from lab.experiments.attack.energy import Meter
from lab.experiments.attack.formats import Manifest, Plain
from lab.experiments.attack.radio import Channel, HonestSender, Links, Receiver, Sent
from lab.sim.loss import GilbertElliott, LossModel

FRAME = Sent(bytes(127), b"", b"a" * 8)


def link(loss):
    return GilbertElliott(LossModel(good_loss=loss, bad_loss=loss), random.Random(1))


def sender(clock, channel, heard, *, up=0.0, down=0.0, seed=1, overheard=None):
    gateway = Receiver(clock, channel, lambda at, sent: heard.append((at, sent)))
    note = overheard.append if overheard is not None else lambda transmission: None
    return HonestSender(clock, channel, gateway, Links(link(up), link(down)), random.Random(seed), note)


def test_times_are_those_of_250_kbit_per_second():
    assert radio.airtime(bytes(127)) == pytest.approx(4.256e-3)
    assert pytest.approx(352e-6) == radio.ACK
    assert pytest.approx(864e-6) == radio.ACK_WAIT
    assert pytest.approx((320e-6, 192e-6, 640e-6)) == (radio.BACKOFF, radio.TURNAROUND, radio.LIFS)


def test_a_frame_on_a_clean_channel_takes_one_try_and_the_energy_of_its_parts():
    clock, heard = Clock(), []
    channel = Channel(clock)
    node = sender(clock, channel, heard)
    node.send([FRAME])
    clock.run(1.0)
    ((at, sent),) = heard
    assert sent is FRAME
    backoff = at - radio.CCA - radio.TURNAROUND - radio.airtime(FRAME.frame)
    assert backoff / radio.BACKOFF == pytest.approx(round(backoff / radio.BACKOFF))
    assert round(backoff / radio.BACKOFF) < 8
    listening = radio.CCA + radio.TURNAROUND + radio.TURNAROUND + radio.ACK
    expected = 3.0 * (4.256e-3 * 13.8 + listening * 11.8 + backoff * 0.3)
    assert node.meter.millijoules == pytest.approx(expected)
    assert Meter(tx=1.0).millijoules == pytest.approx(41.4)


@pytest.mark.parametrize(("up", "down", "receptions"), [(1.0, 0.0, 0), (0.0, 1.0, 4)])
def test_what_is_not_acknowledged_is_tried_four_times_and_then_the_datagram_is_given_up(up, down, receptions):
    clock, heard, overheard = Clock(), [], []
    node = sender(clock, Channel(clock), heard, up=up, down=down, overheard=overheard)
    other = Sent(bytes(50), b"", b"a" * 8)
    node.send([FRAME, other])
    clock.run(5.0)
    assert len(overheard) == 1 + radio.MAX_RETRIES
    assert len(heard) == receptions
    assert node.tally.given_up == 1
    assert all(transmission.sent is FRAME for transmission in overheard)


def test_a_channel_that_stays_busy_ends_the_frame_after_five_looks():
    clock, heard, overheard = Clock(), [], []
    channel = Channel(clock)
    channel.transmit(10.0, None, lambda transmission: None)
    node = sender(clock, channel, heard, overheard=overheard)
    node.send([FRAME])
    clock.run(9.0)
    assert node.tally.given_up == 1
    assert overheard == []
    assert node.meter.rx == pytest.approx((1 + radio.MAX_BACKOFFS) * radio.CCA)


def test_transmissions_that_overlap_are_both_lost():
    clock = Clock()
    channel, ended = Channel(clock), []
    channel.transmit(0.004, FRAME, ended.append)
    clock.after(0.003, channel.transmit, 0.004, FRAME, ended.append)
    clock.after(0.010, channel.transmit, 0.004, FRAME, ended.append)
    clock.run(1.0)
    assert [transmission.collided for transmission in ended] == [True, True, False]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_senders_that_keep_to_csma_collide_only_within_the_turnaround(seed, count):
    clock, heard, overheard = Clock(), [], []
    channel = Channel(clock)
    for n in range(count):
        sender(clock, channel, heard, seed=seed + n, overheard=overheard).send([FRAME] * 5)
    clock.run(10.0)
    by_start = sorted(overheard, key=lambda transmission: transmission.start)
    for one, two in pairwise(by_start):
        assert two.start >= one.end or two.start - one.start < radio.TURNAROUND + radio.CCA


@given(st.floats(0.01, 0.6), st.floats(0.001, 1.0))
def test_the_loss_model_has_the_mean_that_was_asked_for(mean, burst):
    assert radio.loss_model(mean, burst).mean == pytest.approx(mean)
    assert radio.loss_model(mean, 0).mean == pytest.approx(mean)


def test_loss_outside_the_model_is_refused():
    with pytest.raises(ValueError, match=r"0 to 0\.6"):
        radio.loss_model(0.7, 0.1)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attacker_keeps_to_its_share_of_airtime_and_its_frames_are_marked(name):
    plan = Plan(devices=8, rate=1.0, seconds=25.0, share=0.05)
    recording = simulate(plan, Manifest(), ATTACKS[name])
    assert 0 < recording.airtime_attack <= 0.05
    hostile = {member.eui for member in recording.insiders}
    assert any(reception.sent.forged for reception in recording.receptions)
    assert not any(r.sent.source in hostile and not r.sent.forged for r in recording.receptions)
    assert [r.at for r in recording.receptions] == sorted(r.at for r in recording.receptions)


def test_the_devices_say_the_same_in_every_format_and_under_every_attack():
    plan = Plan(devices=5, seconds=20.0)
    alone = simulate(plan, Plain(), None)
    attacked = simulate(plan, Manifest(), ATTACKS["flooding"])
    assert alone.messages == attacked.messages
    assert sum(map(len, alone.messages.values())) > 10
    assert simulate(plan, Plain(), None).receptions[-1].at == alone.receptions[-1].at
