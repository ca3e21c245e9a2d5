"""The defences that authenticate something: what each catches, and what gets past it."""

import random

import pytest

from lab.experiments.attack.attackers.base import Scene
from lab.experiments.attack.attackers.injection import EarlyInjection
from lab.experiments.attack.attackers.insider import Compromised, OnOff
from lab.experiments.attack.defences import DEFENCES
from lab.experiments.attack.defences.paper import THRESHOLD
from lab.experiments.attack.defences.split_buffer import SLOT, SLOTS
from lab.experiments.attack.formats import GATEWAY, Member, Secured
from tests.lab.attack_kit import RNG, Bench, fragn, resequenced
from wire import lowpan
from wire.ieee802154 import MacFrame

#: What drops a forged fragment alone. The paper's validator does too, but its trust then drops the victim.
SELECTIVE = ["split-buffer", "link-mic", "link-mic-pairwise", "slimwire"]


@pytest.mark.parametrize("name", DEFENCES)
@pytest.mark.parametrize("length", [190, 256, 257, 300, 349])
def test_a_genuine_message_arrives_as_it_was_sent_in_three_frames_or_more(name, length):
    bench = Bench(name)
    message = bench.message(length)
    frames = bench.frames(message)
    assert 3 <= len(frames) <= 5
    assert max(map(len, frames)) <= 127
    assert bench.delivered(frames) == [message.octets]
    assert bench.defence.used == 0


@pytest.mark.parametrize("name", DEFENCES)
def test_interleaved_messages_of_two_devices_under_one_tag_arrive(name):
    bench = Bench(name)
    message = bench.message()
    one, two = bench.frames(message, 0), bench.frames(message, 1)
    together = [frame for pair in zip(one, two, strict=True) for frame in pair]
    assert bench.delivered(together) == [message.octets] * 2


@pytest.mark.parametrize("name", SELECTIVE)
def test_a_forged_later_fragment_is_refused_and_the_datagram_completes(name):
    bench = Bench(name)
    message = bench.message()
    frames = bench.frames(message)
    forged = fragn(frames[0], 88, RNG.randbytes(bench.fmt.step))
    if isinstance(bench.fmt, Secured):
        mac = MacFrame.parse(frames[1])
        mac.payload = RNG.randbytes(len(mac.payload))
        forged = mac.emit()
    bench.give(frames[:1])
    assert bench.refusals([forged])[0] is not None
    assert bench.delivered(frames[1:]) == [message.octets]


# Split buffer.


def test_split_buffer_follows_two_first_fragments_under_one_name():
    bench = Bench("split-buffer")
    genuine = bench.message()
    frames = bench.frames(genuine)
    source = bench.members[0].eui
    forged = bench.fmt.counterfeit(source, genuine.counter, len(genuine.octets), RNG)
    others = [bench.fmt.frame_of_stranger(source, piece, RNG).frame for piece in forged]
    mixed = [others[0], frames[0], others[1], *frames[1:]]
    assert bench.delivered(mixed) == [genuine.octets]


def test_split_buffer_delivers_whatever_brings_its_own_chain():
    bench = Bench("split-buffer")
    source = bench.members[0].eui
    pieces = bench.fmt.counterfeit(source, 7, 300, RNG)
    assert len(bench.delivered([bench.fmt.frame_of_stranger(source, p, RNG).frame for p in pieces])) == 1


def test_split_buffer_has_slots_for_one_datagram_of_the_largest_size():
    bench = Bench("split-buffer", devices=20)
    assert bench.defence.bound == SLOTS * SLOT
    firsts = [bench.frames(bench.message(), who)[0] for who in range(SLOTS)]
    assert bench.refusals(firsts) == [None] * SLOTS
    assert bench.defence.used == bench.defence.bound
    assert Bench("split-buffer-large", devices=20).defence.bound > 30 * SLOTS * SLOT


def test_split_buffer_evicts_the_datagram_that_keeps_it_waiting():
    bench = Bench("split-buffer", devices=8)
    slow = bench.frames(bench.message(349), 0)
    steady = [bench.frames(bench.message(349), who) for who in range(1, 5)]
    for n in range(2):
        bench.give([slow[n]], now=0.02 * n)
    for n in range(4):
        bench.give([frames[n] for frames in steady], now=1.0 + 0.02 * n)
    # All slots are taken; the slow one has been silent for many of its usual gaps.
    assert bench.defence.used == bench.defence.bound
    assert bench.refusals([steady[0][4]], now=1.08) == [None]
    assert bench.defence.counters["evicted"] == 1
    assert bench.refusals([slow[2]], now=1.09) == ["no-datagram"]


def test_split_buffer_does_not_evict_who_keeps_pace_for_a_newcomer():
    bench = Bench("split-buffer", devices=8)
    steady = [bench.frames(bench.message(349), who) for who in range(6)]
    for n in range(3):
        bench.give([frames[n] for frames in steady], now=0.02 * n)
    assert bench.defence.used == bench.defence.bound
    assert bench.refusals([bench.frames(bench.message(), 6)[0]], now=0.07) == ["no-slot"]
    # One first fragment has no behaviour to speak of: the next newcomer takes its place.
    bench = Bench("split-buffer", devices=20)
    firsts = [bench.frames(bench.message(), who)[0] for who in range(SLOTS + 1)]
    assert bench.refusals(firsts) == [None] * (SLOTS + 1)
    assert bench.defence.counters["evicted"] == 1


# The paper.


def test_the_paper_refuses_an_address_after_one_failure_from_the_start_and_forgives_as_fast():
    bench = Bench("paper")
    source = bench.members[0].eui
    frames = bench.frames(bench.message())
    garbage = fragn(frames[0], 88, b"g" * 96)
    assert bench.refusals([garbage]) == ["no-chain"]
    assert bench.defence.trust(source) == pytest.approx(0.4)
    assert bench.defence.trust(source) < THRESHOLD
    assert bench.refusals(frames[:2]) == ["untrusted", "no-datagram"]
    assert bench.defence.trust(source) == pytest.approx(0.616)


def test_the_papers_chain_is_anybodys_to_go_on_with():
    bench = Bench("paper")
    message = bench.message(349)
    frames = bench.frames(message)
    member = bench.members[0]
    scene = Scene(bench.fmt, random.Random(1), [member.eui], [])
    first = lowpan.parse(MacFrame.parse(frames[0]).payload, member.eui, GATEWAY)
    attack = EarlyInjection(scene)
    forged = [sent.frame for sent in attack.fragments(member.eui, first, attack.rest(first))]
    assert bench.refusals([frames[0], *forged[:1]]) == [None, None]
    assert bench.refusals(frames[1:2]) == ["bad-hash"]
    assert bench.delivered(frames[2:]) == []


def test_framing_ruins_a_victims_trust_in_the_paper_and_not_in_slimwire():
    for name, ruined in (("paper", True), ("slimwire", False)):
        bench = Bench(name)
        source = bench.members[0].eui
        before = bench.defence.trust(source)
        frames = bench.frames(bench.message())
        for n in range(30):
            bench.give([fragn(frames[0], 88, RNG.randbytes(96), seq=n)])
        assert (bench.defence.trust(source) < before) is ruined
        assert (bench.delivered(frames) == []) is ruined


def test_the_paper_counts_an_unfinished_datagram_as_a_failure():
    bench = Bench("paper")
    bench.give(bench.frames(bench.message())[:2])
    before = bench.defence.trust(bench.members[0].eui)
    bench.defence.tick(100.0)
    assert bench.defence.trust(bench.members[0].eui) == pytest.approx(0.8 * before)


# Link-layer security.


@pytest.mark.parametrize("name", ["link-mic", "link-mic-pairwise"])
def test_link_security_takes_a_frame_once_and_in_order(name):
    bench = Bench(name)
    frames = bench.frames(bench.message())
    bench.give(frames[:2])
    assert bench.refusals(frames[1:2]) == ["duplicate"]
    assert bench.refusals(frames[:1]) == ["frame-counter"]


@pytest.mark.parametrize(("name", "passes"), [("link-mic", True), ("link-mic-pairwise", False)])
def test_an_insider_speaks_for_others_with_the_networks_key_only(name, passes):
    bench = Bench(name)
    insider = bench.members[3]
    victim = bench.members[0]
    pieces = bench.fmt.counterfeit(victim.eui, 9, 300, RNG)
    frames = [bench.fmt.frame(insider, piece, victim.eui).frame for piece in pieces[:1]]
    assert (bench.refusals(frames) == [None]) is passes
    if passes:
        # Its frame counter is now the victim's: the victim's next frame looks like a copy.
        assert bench.refusals(bench.frames(bench.message())[:1]) == ["duplicate"]


def test_a_stranger_cannot_make_a_mic():
    bench = Bench("link-mic")
    piece = bench.fmt.counterfeit(bench.members[0].eui, 9, 300, RNG)[0]
    assert bench.refusals([bench.fmt.frame_of_stranger(bench.members[0].eui, piece, RNG).frame]) == [
        "bad-mic"
    ]


# Slimwire.


def test_slimwire_takes_the_insiders_word_for_nothing_but_itself():
    bench = Bench("slimwire")
    insider = bench.members[3]
    scene = Scene(bench.fmt, random.Random(1), [m.eui for m in bench.members[:3]], [insider])
    message = bench.message()
    frames = bench.frames(message)
    bench.give(frames[:1])
    for attack in (Compromised(scene), OnOff(scene)):
        for n in range(400):
            for sent in attack.idle(n * 0.05):
                bench.give([resequenced(sent.frame, n & 0xFF)], now=n * 0.05)
                assert bench.defence.used <= bench.defence.bound
    assert bench.defence.counters["bad-manifest"] > 0
    assert bench.delivered(frames[1:], now=20.0) == [message.octets]


def test_slimwire_does_not_deliver_an_old_datagram_again():
    bench = Bench("slimwire")
    message = bench.message()
    frames = bench.frames(message)
    (delivered,) = (one for fate in bench.give(frames) for one in fate.delivered)
    bench.defence.answered(delivered, opens=True)
    for later in (0.1, 5.0, 70.0):
        assert bench.delivered(frames, now=later) == []
    assert Member(1).eui == delivered.source
