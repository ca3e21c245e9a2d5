"""`slimwire bench fragments`: both sides get the datagrams out; the figures belong together."""

import pytest

from lab.bench.fragments import frames_of, measure
from lab.experiments.attack.formats import Member
from slimwire.errors import SlimwireError


def test_a_datagram_of_1280_octets_takes_13_frames():
    frames = frames_of(Member(1), 7)
    assert len(frames) == 13
    assert all(len(frame) <= 127 for frame in frames)


@pytest.mark.needs("module:scapy")
def test_rates_and_ratio_come_from_the_same_rounds():
    result = measure(3)
    assert set(result) == {"frames_per_s", "scapy_frames_per_s", "ratio", "us_per_frame"}
    assert result["frames_per_s"] == pytest.approx(1e6 / result["us_per_frame"], rel=0.01)
    assert result["ratio"] > 1


def test_without_scapy_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scapy.config", None)
    with pytest.raises(SlimwireError, match=r"slimwire\[dev\]"):
        measure(1)
