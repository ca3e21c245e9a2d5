"""The heap of a head is measured on a real MicroPython."""

import platform
import sys

import pytest

from models.bundle import Bundle
from models.errors import BundleError
from models.heap import heap_bytes

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux",
    reason="MicroPython's unix port comes as a wheel for x86-64 Linux only",
)


def test_weights_in_memory_take_more_than_weights_left_in_the_file():
    bundle = Bundle.load("fashion-mnist")
    head, data = bundle.headfile, bundle.head_bytes
    held, streamed = heap_bytes(data, "ram"), heap_bytes(data, "flash")
    image = head.input[0] * head.input[1] * head.input[2]
    assert len(data) + image < held < len(data) + 6 * image + 8192
    assert image < streamed < held - len(head.weights) // 2


def test_a_head_that_does_not_load_is_an_error_with_its_reason():
    with pytest.raises(BundleError, match=r"does not run on .*no head file: starts with b'NOPE'"):
        heap_bytes(b"NOPE" + bytes(40))
