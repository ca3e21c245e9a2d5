# mypy: ignore-errors
"""On MicroPython: heap bytes that a loaded head holds once an image has run at its widest width.

micropython heap.py HEAD MODE        MODE: ram or flash; the firmware is on MICROPYPATH
"""

import gc
import sys

import firmware.head
import firmware.headcheck
import firmware.headfile
import firmware.headplan

# The code is there before: on a board it may lie in flash.
gc.collect()
before = gc.mem_alloc()
head = firmware.head.Head(sys.argv[1], sys.argv[2])
head.set_width(len(head.widths) - 1)
head.run(head.image)
gc.collect()
print(gc.mem_alloc() - before)
