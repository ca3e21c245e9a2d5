"""Fragments over MQTT against literal bytes, their inverse, and bytes of anybody."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors.registry import case_name, claim
from wire import mqtt
from wire.errors import WireError
from wire.mqtt import Fragment

CASES = claim("mqtt.json", "wire")


@pytest.mark.parametrize("case", [case for case in CASES if "reason" not in case], ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    slices = [bytes.fromhex(piece) for piece in case["slices"]]
    assert [packet.hex() for packet in mqtt.fragments(case["counter"], slices)] == case["fragments"]
    for i, packet in enumerate(case["fragments"]):
        length = 0 if i else sum(map(len, slices))
        assert Fragment.parse(bytes.fromhex(packet)) == Fragment(i, case["counter"], slices[i], length)


@pytest.mark.parametrize("case", [case for case in CASES if "reason" in case], ids=case_name)
def test_refusals(case: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        Fragment.parse(bytes.fromhex(case["fragment"]))
    assert caught.value.reason == case["reason"]


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_with_a_reason_or_come_out_as_they_went_in(packet: bytes) -> None:
    try:
        fragment = Fragment.parse(packet)
    except WireError:
        return
    assert fragment.emit() == packet


def test_topics() -> None:
    device = bytes.fromhex("02000000000000aB")
    assert mqtt.topic("lab", device, mqtt.UP) == "slimwire/v1/lab/02000000000000ab/up"
    assert mqtt.topic("lab", None, mqtt.UP) == "slimwire/v1/lab/+/up"
    assert mqtt.device_of("slimwire/v1/lab/02000000000000ab/up") == device
    assert mqtt.device_of("slimwire/v1/lab/nobody/up") is None
    assert mqtt.device_of("slimwire/v1/lab/up") is None
    for other in ("02000000000000AB", "02:00:00:00:00:00:00:ab", "02-00-00-00-00-00-00-ab"):
        assert mqtt.device_of(f"slimwire/v1/lab/{other}/up") is None, "one device, one topic"


@pytest.mark.parametrize("site", ["", "a/b", "#", "a+", "a\0"])
def test_a_site_that_is_no_level_of_a_topic_is_refused(site: str) -> None:
    with pytest.raises(ValueError, match="a site without"):
        mqtt.topic(site, None, mqtt.UP)
