"""What a person who runs a Linux device can meet."""

from slimwire.errors import SlimwireError


class DeviceError(SlimwireError):
    """The device cannot start, or cannot be installed, as it is."""


class NoAnswerError(DeviceError):
    """`slimwire device run --once`: the sample was sent or skipped, and no answer came."""

    exit_code = 14
