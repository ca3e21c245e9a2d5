"""Errors of provisioning that a person meets."""

from slimwire.errors import SlimwireError


class ProvisionError(SlimwireError):
    """A board or a site could not be provisioned; says what was found and what to do."""
