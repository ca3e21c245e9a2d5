"""The device's frames are those of the golden vectors, both ways, on a real MicroPython."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.vectors.registry import case_name, claim

SCRIPT = """
import json
from firmware import hop, lowpan

with open("case.json") as file:
    case = json.load(file)
src, dst, payload = (bytes.fromhex(case[name]) for name in ("src", "dst", "payload"))
header, words, _ = hop.uplink(src, dst, case["pan"])
addresses, _ = hop.downlink(dst, src, case["pan"])
first = len(payload) if len(payload) <= lowpan.WHOLE_ROOM else lowpan.FIRST_ROOM
out = bytearray(lowpan.FRAME_MAX)
sent, taken, offset, sequence = [], [], 0, case["seq"]
while True:
    header[2] = sequence & 255
    length = lowpan.frame(out, header, words, case["tag"], payload, first, offset)
    sent.append(bytes(out[:length]).hex())
    part = lowpan.parse(memoryview(out)[:length], addresses)
    taken.append(part if isinstance(part, str) else part[:3] + (bytes(part[3]).hex(),))
    offset = first if not offset else offset + lowpan.SLICE_ROOM
    sequence += 1
    if offset >= len(payload):
        break
print(json.dumps({"sent": sent, "taken": taken}))
"""


@pytest.mark.parametrize("case", claim("frames.json", "firmware"), ids=case_name)
def test_vectors(case: dict[str, Any], run_micropython: Callable[..., bytes]) -> None:
    done = json.loads(run_micropython(SCRIPT, files={"case.json": json.dumps(case).encode()}))
    assert done["sent"] == case["frames"]
    if not case["payload"]:
        assert done["taken"] == ["truncated"]  # no message is empty
        return
    size = len(case["payload"]) // 2
    tag = case["tag"] if len(case["frames"]) > 1 else None
    assert {(part[0], part[1]) for part in done["taken"]} == {(size, tag)}
    assert [part[2] for part in done["taken"]] == [0, *range(88, size, 96)][: len(case["frames"])]
    assert "".join(part[3] for part in done["taken"]) == case["payload"]
