"""What a link report and the counters say about the messages before."""

from math import inf

from edge_server.devices import MAX_GAP, Devices
from wire.latent import LinkReport

DEVICE = b"\x02" + bytes(7)


def hear(devices: Devices, counter: int, ms: int = 0, *, epoch: int = 0, **more):
    report = LinkReport(ms, 1, 0, 7)
    return devices.heard(DEVICE, epoch, counter, frames=2, report=report, now=counter, unix_time=0.0, **more)


def test_a_report_is_about_the_message_before_with_that_ones_size_width_and_wait() -> None:
    devices = Devices()
    assert hear(devices, 1, coded=80, index=2, waited=0.03) == []
    [sample] = hear(devices, 2, 120, coded=20, index=0, waited=0.5)
    assert (sample.seconds, sample.frames, sample.retries, sample.battery) == (0.12, 2, 1, 7)
    assert (sample.coded, sample.option, sample.waited) == (80, 2, 0.03)


def test_skipped_counters_are_messages_that_never_arrived() -> None:
    devices = Devices()
    hear(devices, 1)
    assert [s.seconds for s in hear(devices, 4, 120)] == [inf, inf]


def test_a_large_jump_an_older_counter_and_a_new_epoch_say_nothing() -> None:
    devices = Devices()
    hear(devices, 5)
    assert hear(devices, 5 + MAX_GAP + 2, 120) == []
    assert hear(devices, 3, 120) == []
    assert hear(devices, 4, 120, epoch=1) == []
