"""Errors of the gateway that a person meets. Bytes from the air end in a counted `Reason`."""

from slimwire.errors import SlimwireError


class GatewayError(SlimwireError):
    """Root of the gateway's errors."""


class LinkError(GatewayError):
    """A link could not be opened."""


class AdminError(GatewayError):
    """The admin socket could not be served or reached."""
