"""Contiki-NG's reassembly as its source has it: contexts, time-out, octets counted."""

from lab.experiments.attack.defences.contiki import (
    BUFFER_SIZE,
    BUFFERS,
    CONTEXTS,
    FIRST_SIZE,
    TIMEOUT,
    Contiki,
)
from tests.lab.attack_kit import Bench, beyond, fragn, resequenced


def test_a_datagram_arrives():
    bench = Bench("none-contiki")
    message = bench.message()
    assert bench.delivered(bench.frames(message)) == [message.octets]
    assert bench.defence.used == 0


def test_a_fragment_before_its_first_one_is_dropped():
    bench = Bench("none-contiki")
    frames = bench.frames(bench.message())
    assert bench.refusals(frames[1:2]) == ["no-context"]


def test_two_contexts_and_a_third_datagram_waits_until_one_is_over_half_a_second_old():
    bench = Bench("none-contiki")
    frames = [bench.frames(bench.message(), who) for who in range(CONTEXTS + 2)]
    for who in range(CONTEXTS):
        assert bench.refusals(frames[who][:1], now=0.0) == [None]
    assert bench.refusals(frames[2][:1], now=TIMEOUT - 0.01) == ["no-context"]
    assert bench.refusals(frames[3][:1], now=TIMEOUT) == [None]
    assert bench.defence.counters["expired"] == CONTEXTS


def test_a_copy_of_the_first_fragment_takes_a_context_of_its_own():
    bench = Bench("none-contiki")
    message = bench.message()
    frames = bench.frames(message)
    bench.give([frames[0], resequenced(frames[0], 77)])
    assert bench.defence.used == 2 * FIRST_SIZE
    assert bench.refusals(bench.frames(bench.message(), 1)[:1]) == ["no-context"]
    assert bench.delivered(frames[1:]) == [message.octets]


def test_octets_are_counted_so_a_doubled_fragment_completes_the_datagram_with_a_gap():
    bench = Bench("none-contiki")
    first, second, third, fourth = bench.frames(bench.message(370))
    bench.give([first, second, third])
    assert bench.delivered([resequenced(second, 77)]) == []
    assert bench.defence.counters["bad-checksum"] == 1
    assert bench.refusals([fourth]) == ["no-context"]


def test_later_octets_overwrite_earlier_ones_without_a_check_for_overlap():
    bench = Bench("none-contiki")
    message = bench.message(370)
    frames = bench.frames(message)
    # The overlap's octets are counted as well: the last fragment is not waited for.
    bench.give([*frames[:2], fragn(frames[0], 88, b"y" * 96)])
    assert bench.delivered(frames[2:3]) == []
    assert bench.defence.counters["bad-checksum"] == 1


def test_twelve_buffers_and_a_thirteenth_fragment_is_dropped():
    bench = Bench("none-contiki")
    first = bench.frames(bench.message(1100))[0]
    bench.give([first])
    fates = [bench.give([fragn(first, 96, b"q" * 8, seq=n)])[0].refused for n in range(BUFFERS + 1)]
    assert fates == [None] * BUFFERS + ["no-buffer"]
    assert bench.defence.used <= Contiki.bound


def test_a_fragment_beyond_the_buffer_is_kept_and_counted_all_the_same():
    bench = Bench("none-contiki")
    message = bench.message(291 + 8)  # the last fragment brings 24 octets
    first, *rest = bench.frames(message)
    bench.give([first])
    held = bench.defence.used
    assert bench.refusals([beyond(first)]) == ["beyond-buffer"]
    assert bench.defence.used == held + BUFFER_SIZE
    assert bench.refusals([beyond(first)] * 2) == ["duplicate"] * 2  # by its sequence number
    bench.give([resequenced(beyond(first), n) for n in (101, 102)])
    # The three of them count for the last fragment's 24 octets: complete, with a gap.
    assert bench.delivered(rest[:2]) == []
    assert bench.defence.counters["bad-checksum"] == 1


def test_the_mac_drops_a_senders_last_sequence_number_for_twenty_seconds():
    bench = Bench("none-contiki")
    frames = bench.frames(bench.message())
    bench.give(frames[:1], now=0.0)
    assert bench.refusals(frames[:1], now=19.0) == ["duplicate"]
    assert bench.refusals(frames[:1], now=40.0) == [None]
