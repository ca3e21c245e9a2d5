# mypy: ignore-errors
"""On MicroPython: run a head at the width and as often as each line asks; answer microseconds a run and
symbols.

micropython head.py HEAD IMAGE MODE      then lines "WIDTH REPETITIONS"; MODE: ram or flash
"""

import gc
import sys
import time
from binascii import hexlify

from firmware.head import Head

head = Head(sys.argv[1], sys.argv[3])
with open(sys.argv[2], "rb") as file:
    image = file.read()
while True:
    line = sys.stdin.readline()
    if not line:
        break
    width, repetitions = map(int, line.split())
    head.set_width(width)
    gc.collect()
    start = time.ticks_us()
    for _ in range(repetitions):
        symbols = head.run(image)
    elapsed = time.ticks_diff(time.ticks_us(), start)
    print(elapsed / repetitions, hexlify(symbols).decode())
