"""10,000 forged frames/s at the receiver: the devices' messages all complete, and memory stays flat."""

import pytest

from lab.bench.flood import RATE, measure


def test_every_datagram_completes_in_the_flood():
    result = measure(4.0)
    assert result.forged == 4 * RATE
    assert result.completed == result.datagrams >= 60
    assert result.forged_accepted == 0
    assert result.peak_bytes <= result.bound_bytes
    assert result.growth_bytes < 1 << 20


@pytest.mark.soak
def test_every_datagram_completes_in_a_long_flood():
    result = measure(600.0)
    assert result.completed == result.datagrams >= 11_000
    assert result.forged_accepted == 0
    assert result.growth_bytes < 1 << 20
