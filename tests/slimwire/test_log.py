"""Logs: one JSON object a line with every extra field, and no library's chatter."""

import json
import logging

import pytest

from slimwire import log


def test_json_lines_carry_extra_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(json_lines=True)
    logging.getLogger("gateway").warning("no answer", extra={"device": "02:00", "counter": 7})
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"], line["message"]) == ("warning", "gateway", "no answer")
    assert (line["device"], line["counter"]) == ("02:00", 7)
    assert line["time"].endswith("Z")


def test_an_exception_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(json_lines=True)
    try:
        raise ValueError("torn page")
    except ValueError:
        logging.getLogger("edge").exception("store")
    assert "torn page" in json.loads(capsys.readouterr().err)["exception"]


def test_a_library_that_logs_each_request_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    logging.getLogger("httpx").info("HTTP Request: POST")
    logging.getLogger("gateway").info("running")
    err = capsys.readouterr().err
    assert "running" in err
    assert "HTTP Request" not in err
