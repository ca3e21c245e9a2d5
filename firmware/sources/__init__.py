"""Where samples come from. A source has

- `open(directory, shape)`: get ready to give images of that (height, width, channels), or raise SettingsError;
- `capture_into(buffer) -> int`: fill `buffer` with one image, u8 in (y, x, channel) order, and return its index, or -1 where
  images have none;
- `close()`.
"""


def create(settings):
    """The source that the settings' `source` section names, not open yet."""
    from .filecam import FileCamera  # the only type so far; settings are checked in firmware.config

    return FileCamera(settings["path"], settings.get("order"))
