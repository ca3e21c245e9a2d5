import io
import json

import pytest
from rich.console import Console

from lab.demo import report
from lab.demo.report import Air, Delivered, DeviceLog, LogReader


def sent(counter, image, width, *, attempt=0, sealed=None, size=40, frames=2):
    return {
        "e": "sent", "c": counter, "img": image, "w": width, "bytes": size, "frames": frames,
        "sealed": sealed or f"{counter:016x}", "a": attempt,
    }  # fmt: skip


def answer(counter, label, ms):
    return {"e": "answer", "c": counter, "cls": label, "conf": 0.9, "next": 250, "ms": ms}


def log(eui, *events):
    out = DeviceLog(eui)
    out.add({"e": "start", "runtime": "micropython 1.29.0", "heap": 64768})
    for event in events:
        out.add(event)
    return out


LABELS = [0, 1, 2, 3]
WIDTHS = {250: 0.8, 1000: 0.9}


def build(logs, delivered=(), air=None, answered=()):
    return report.build(
        seconds=30, deadline_ms=300, logs=logs, labels=LABELS, widths=WIDTHS, delivered=list(delivered),
        answered=set(answered), accepted_fragments=5, rejected={"tag": 2}, air=air or Air(),
    )  # fmt: skip


def test_answers_are_counted_once_per_message_and_width():
    a = log(
        "aa",
        sent(1, 0, 250), answer(1, 0, 50.0), answer(1, 0, 60.0),
        sent(2, 1, 1000, frames=4), sent(2, 1, 1000, attempt=1, frames=4), answer(2, 3, 250.0),
        sent(3, 2, 1000),
    )  # fmt: skip
    b = log("bb", sent(1, 3, 250, size=20, frames=1), answer(1, 3, 40.0))
    result = build([a, b])
    assert (result["sent"], result["answers"], result["unanswered"], result["retries"]) == (4, 3, 1, 1)
    assert result["widths"] == {
        "0.25": {"answers": 2, "top1": 1.0, "bytes": 30.0, "frames": 1.5},
        "1.0": {"answers": 1, "top1": 0.0, "bytes": 40.0, "frames": 4.0},
    }
    assert result["top1"] == pytest.approx(2 / 3, abs=1e-4)
    assert result["top1_expected"] == pytest.approx((0.8 * 2 + 0.9) / 3, abs=1e-4)
    assert result["switches"] == 1
    assert result["latency_ms"] == {"p50": 50.0, "p99": 250.0}
    assert result["runtime"] == "micropython 1.29.0"
    assert result["heap_kib"] == 64


def test_pictures_without_classes_are_neither_right_nor_wrong():
    device = log("aa", sent(1, 0, 250), answer(1, 0, 50.0))
    result = report.build(
        seconds=30, deadline_ms=300, logs=[device], labels=None, widths=WIDTHS, delivered=[],
        answered=set(), accepted_fragments=5, rejected={}, air=Air(),
    )  # fmt: skip
    assert (result["answers"], result["top1"], result["widths"]["0.25"]["top1"]) == (1, None, None)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(report.table({**result, "camera": "64 generated pictures"}))
    text = console.export_text()
    assert "not known: 64 generated pictures" in text
    assert "1 answers, 40 B in 2.0 frames" in text


def test_lost_is_what_was_acknowledged_and_is_not_in_the_edge_servers_record():
    acked = {"e": "custody", "c": 1, "status": "committed"}
    refused = {"e": "custody", "c": 2, "status": "full"}
    logs = [log("aa", sent(1, 0, 250), acked, sent(2, 0, 250), refused)]
    assert build(logs)["lost"] == 1
    assert build(logs, answered=[("bb", 1), ("aa", 2)])["lost"] == 1
    assert build(logs, answered=[("aa", 1)])["lost"] == 0  # its answer got lost on the way down
    assert build([log("aa", sent(1, 0, 250))])["lost"] == 0


def test_a_delivered_message_that_no_device_sealed_is_an_accepted_forgery():
    device = log("aa", sent(7, 0, 250, sealed="00000000000000aa"), answer(7, 0, 5.0))
    genuine = Delivered("aa", 7, "00000000000000aa")
    assert build([device], [genuine, genuine])["forged"]["accepted"] == 0
    for forged in (
        Delivered("aa", 7, "00000000000000bb"),
        Delivered("aa", 8, "00000000000000aa"),
        Delivered("bb", 7, "00000000000000aa"),
    ):
        assert build([device], [genuine, forged])["forged"]["accepted"] == 1


def test_downlink_fragments_beyond_the_gateways_own_are_accepted_forgeries():
    rx = {"e": "rx", "accepted": 3, "rejected": {"tag": 4}}
    device = log("aa", sent(1, 0, 250), answer(1, 0, 5.0), rx)
    genuine = Delivered("aa", 1, f"{1:016x}")
    air = Air()
    air.downlink["aa"] = 3
    assert build([device], [genuine], air)["forged"]["downlink_accepted"] == 0
    air.downlink["aa"] = 2
    assert build([device], [genuine], air)["forged"]["downlink_accepted"] == 1
    # An answer to what the gateway never had.
    air.downlink["aa"] = 3
    assert build([device], [], air)["forged"]["downlink_accepted"] == 1
    assert build([device], [genuine], air)["downlink"] == {"accepted": 3, "rejected": {"tag": 4}}


def test_the_result_of_nothing_is_still_a_result():
    result = build([log("aa")])
    assert result["answers"] == 0
    assert result["latency_ms"] == {"p50": None, "p99": None}
    json.dumps(result, allow_nan=False)
    assert report.table(result).row_count > 5


@pytest.mark.parametrize(("n", "p"), [(200, 0.87), (30, 0.5), (150, 0.99), (10, 0.0), (10, 1.0)])
def test_the_interval_covers_its_share_and_not_much_more(n, p):
    low, high = report.binomial_interval(n, p, 0.99)
    share = sum(report._binomial(n, k, p) for k in range(round(low * n), round(high * n) + 1))
    assert share >= 0.99 - 1e-9
    inside = sum(report._binomial(n, k, p) for k in range(round(low * n) + 1, round(high * n)))
    assert inside < 0.99 or p in (0.0, 1.0)


def test_a_line_that_is_still_being_written_waits(tmp_path):
    path = tmp_path / "log.jsonl"
    reader = LogReader(path)
    assert list(reader.new()) == []
    path.write_text('{"a": 1}\n{"a"')
    assert list(reader.new()) == [{"a": 1}]
    with path.open("a") as file:
        file.write(": 2}\n")
    assert list(reader.new()) == [{"a": 2}]
    assert list(reader.new()) == []


def test_utility_counts_the_widths_own_accuracy_where_the_answer_came_in_time():
    result = build(
        [
            log("aa", sent(1, 0, 250), answer(1, 0, 299.0), sent(2, 0, 250), answer(2, 0, 301.0)),
            log("bb", sent(1, 0, 1000), answer(1, 0, 10.0), sent(2, 0, 1000)),
        ]
    )
    assert (result["deadline_ms"], result["on_time"]) == (300, 0.5)
    assert result["utility"] == pytest.approx((WIDTHS[250] + WIDTHS[1000]) / 4, abs=1e-4)
