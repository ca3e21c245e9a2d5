"""Where samples come from. A source's module, named as its `type` in device.json, has

- `open_source(settings, root, shape)`: a source for images of that (height, width, channels). settings: the
  section `source` of device.json, not checked but for its type (`firmware.config.Section` checks);
  root: the device's directory, with its slash. SettingsError where they do not fit.

A source has

- `capture_into(buffer) -> int`: fill `buffer` with one image, u8 in (y, x, channel) order, and return its
  index, or -1 where images have none; OSError: this one failed, the agent logs it and goes on;
- `close()`.

`firmware.setup` opens the one that the settings name, and imports no other.
"""
