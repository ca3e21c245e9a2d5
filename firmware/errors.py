"""What a person who sets up a device can meet, told apart from mistakes in the code."""


class SettingsError(Exception):
    """A file on the device is not as it must be: what is wrong, what was expected, what to do."""


def refuse(what, expected, remedy):
    """Raise a SettingsError that says all three."""
    raise SettingsError("%s; expected %s. To mend it: %s" % (what, expected, remedy))
