"""RIOT's reassembly buffer as its source has it: entries, time-out, overlap."""

from lab.experiments.attack.defences.riot import ENTRIES, TIMEOUT
from tests.lab.attack_kit import Bench, beyond, fragn


def test_a_datagram_arrives_in_any_order_of_its_fragments():
    bench = Bench("none-riot")
    message = bench.message()
    first, *rest = bench.frames(message)
    assert bench.delivered([*reversed(rest), first]) == [message.octets]
    assert bench.defence.used == 0


def test_four_entries_and_a_fifth_datagram_overrides_the_one_unheard_for_longest():
    bench = Bench("none-riot", devices=6)
    messages = [bench.message() for _ in range(ENTRIES + 1)]
    frames = [bench.frames(message, who) for who, message in enumerate(messages)]
    for who in range(ENTRIES):
        bench.give(frames[who][:1], now=0.1 * who)
    bench.give(frames[0][1:2], now=0.5)  # refreshes the first one, so the second is the oldest
    bench.give(frames[ENTRIES][:1], now=0.6)
    assert bench.defence.counters["evicted"] == 1
    assert bench.delivered(frames[0][2:], now=0.7) == [messages[0].octets]
    assert bench.delivered(frames[1][1:], now=0.7) == []
    assert bench.delivered(frames[2][1:], now=0.7) == [messages[2].octets]


def test_an_entry_lives_three_seconds_after_its_last_fragment():
    bench = Bench("none-riot")
    message = bench.message()
    frames = bench.frames(message)
    bench.give(frames[:1], now=0.0)
    bench.give(frames[1:2], now=TIMEOUT)
    assert bench.delivered(frames[2:], now=2 * TIMEOUT) == [message.octets]
    bench.give(bench.frames(bench.message())[:1], now=10.0)
    bench.defence.tick(10.0 + TIMEOUT + 0.01)
    assert bench.defence.used == 0


def test_the_size_of_the_datagram_is_taken_with_its_first_fragment_whichever_that_is():
    bench = Bench("none-riot")
    message = bench.message()
    frames = bench.frames(message)
    bench.give(frames[2:3])
    assert bench.defence.used == 48 + len(message.octets)


def test_a_partial_overlap_discards_the_datagram_and_begins_anew_with_that_fragment():
    bench = Bench("none-riot")
    message = bench.message()
    frames = bench.frames(message)
    bench.give(frames[:2])
    assert bench.give([fragn(frames[0], 96, b"x" * 16)])[0].refused is None
    assert bench.defence.counters["overlap"] == 1
    assert bench.delivered(frames[2:]) == []
    assert bench.delivered(frames[:1]) == []


def test_the_same_interval_again_is_a_duplicate_whatever_is_in_it():
    bench = Bench("none-riot")
    message = bench.message()
    frames = bench.frames(message)
    bench.give(frames[:2])
    assert bench.refusals([fragn(frames[0], 88, b"y" * 96)]) == ["duplicate"]
    assert bench.delivered(frames[2:]) == [message.octets]


def test_a_forged_fragment_that_comes_first_is_kept_and_the_genuine_one_dropped():
    bench = Bench("none-riot")
    frames = bench.frames(bench.message())
    bench.give([frames[0], fragn(frames[0], 88, b"y" * 96)])
    assert bench.refusals(frames[1:2]) == ["duplicate"]
    assert bench.delivered(frames[2:]) == []
    assert bench.defence.counters["bad-checksum"] == 1


def test_one_fragment_beyond_the_datagram_kills_it():
    bench = Bench("none-riot")
    frames = bench.frames(bench.message())
    bench.give(frames[:2])
    assert bench.refusals([beyond(frames[0])]) == ["beyond-datagram"]
    assert bench.defence.used == 0
    assert bench.delivered(frames[2:]) == []
