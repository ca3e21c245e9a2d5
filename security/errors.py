"""The errors of this room: what happened, what was expected, what to do. None ever carries a secret."""


class SecurityError(Exception):
    """The root.

    Args:
        what: what happened, with the (public) value met.
        expected: what was expected instead ("" if `what` says so already).
        remedy: what the person can do now ("" if nothing but trying again).
    """

    def __init__(self, what: str, *, expected: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.remedy:
            parts.append(f"remedy: {self.remedy}")
        return "\n  ".join(parts)


class SealError(SecurityError):
    """Sealed bytes do not open: wrong key, device, epoch, counter or kind, or altered bytes."""


class RegistryError(SecurityError):
    """A registry file cannot be read, trusted or written.

    Args:
        reason: the stable name it is counted under, one of `security.signed.REASONS`.
    """

    def __init__(
        self, what: str, *, expected: str = "", remedy: str = "", reason: str = "registry-damaged"
    ) -> None:
        super().__init__(what, expected=expected, remedy=remedy)
        self.reason = reason


class StateError(SecurityError):
    """Saved state (replay intervals, trust) is not what this version wrote."""
