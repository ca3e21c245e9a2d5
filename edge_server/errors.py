"""Errors of the edge server that a person meets."""

from slimwire.errors import SlimwireError


class EdgeError(SlimwireError):
    """The edge server cannot do what it was asked to; says what was found and what to do."""


class ImageError(SlimwireError):
    """An image posted for classification is not what the model takes; says what was expected."""
