"""What a person who sets up a device can meet."""


class SettingsError(Exception):
    """A file on the device is not as it must be: what is wrong, what was expected, what to do."""

    def __init__(self, what, expected="", remedy=""):
        text = what
        if expected:
            text += "; expected " + expected
        if remedy:
            text += ". To mend it: " + remedy
        super().__init__(text)
