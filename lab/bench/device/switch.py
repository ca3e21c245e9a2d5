# mypy: ignore-errors
"""On MicroPython: a width's change, and the loading of a model of its own for each width; one round a line.

    micropython switch.py MODE HEAD HEAD_OF_WIDTH_0 HEAD_OF_WIDTH_1 ...       MODE: ram or flash

A line holds the indices of the widths to switch to, one after another and over again. The answer is three
numbers: microseconds of a set_width, microseconds of a Head(...) (the mean of the widths; freeing the one
before and compiling the loader are not counted), and by how many bytes the switches changed what is
allocated.
"""

import gc
import sys
import time

from firmware.head import Head

_ROUNDS = 100


def switches(head, order):
    """Nanoseconds of a switch, the loop around it included."""
    start = time.ticks_us()
    for _ in range(_ROUNDS):
        for width in order:
            head.set_width(width)
    return time.ticks_diff(time.ticks_us(), start) * 1000 // (_ROUNDS * len(order))


def allocated(head, order):
    """Bytes that switches leave allocated, garbage included."""
    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    for width in order:
        head.set_width(width)
    after = gc.mem_alloc()
    gc.enable()
    return after - before


def reload(path):
    start = time.ticks_us()
    loaded = Head(path, mode)
    elapsed = time.ticks_diff(time.ticks_us(), start)
    loaded.close()
    return elapsed


mode = sys.argv[1]
while True:
    gc.collect()
    order = bytes(map(int, sys.stdin.readline().split()))
    if not order:
        break
    # Only small integers outlive a head: an object that lay behind it would split the memory for the next.
    head = Head(sys.argv[2], mode)
    heap = allocated(head, order)
    switch = switches(head, order)
    head.close()
    head = None
    total = 0
    for path in sys.argv[3:]:
        gc.collect()
        total += reload(path)
    print(switch / 1000, total / len(sys.argv[3:]), heap)
