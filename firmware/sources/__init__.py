"""Where samples come from. A source has

- `capture_into(buffer) -> int`: fill `buffer` with one image, u8 in (y, x, channel) order, and return its
  index, or -1 where images have none;
- `close()`.

`firmware.setup` opens the one that the settings name, and tells it the (height, width, channels) that the
head takes.
"""
