"""A message's steps are found by one id in the logs of both services."""

import json
import logging

import pytest

from slimwire.log import JsonFormatter
from slimwire.tracing import step, trace_id

DEVICE = bytes.fromhex("0200000000000001")


def test_the_id_follows_from_device_epoch_and_counter() -> None:
    assert trace_id(DEVICE, 0, 7) == trace_id(DEVICE, 0, 7)
    others = {trace_id(DEVICE, 0, 8), trace_id(DEVICE, 1, 7), trace_id(bytes(8), 0, 7)}
    assert len(others | {trace_id(DEVICE, 0, 7)}) == 4


def test_a_step_is_one_line_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        step("accepted", DEVICE, 0, 7)
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG):
        step("accepted", DEVICE, 0, 7)
    line = json.loads(JsonFormatter().format(caplog.records[0]))
    assert (line["message"], line["device"], line["counter"]) == ("accepted", DEVICE.hex(), 7)
    assert line["trace"] == trace_id(DEVICE, 0, 7)
