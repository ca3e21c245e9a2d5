"""The root of every refusal of untrusted bytes in `wire`."""


class WireError(ValueError):
    """Bytes that are not what they claim to be.

    Args:
        reason: a short, stable, kebab-case name; receivers count refusals under it.
        message: what was found and what was expected, for a person.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
