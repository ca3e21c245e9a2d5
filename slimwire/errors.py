"""The root of every error a person can meet: what happened, what was expected, what to do."""


class SlimwireError(Exception):
    """An error with a remedy. The command line prints it and exits with `exit_code`, without a traceback.

    Args:
        what: what happened, with the value met.
        expected: what was expected instead ("" if `what` says so already).
        remedy: what the person can do now ("" if nothing but trying again).
    """

    exit_code = 2

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


class MissingExtraError(SlimwireError):
    """A command needs packages that only one of the extras brings."""

    exit_code = 3

    def __init__(self, command: str, extra: str, module: str) -> None:
        super().__init__(
            f"`slimwire {command}` needs the Python package {module!r}, which is not installed here",
            remedy=f"pip install 'slimwire[{extra}]'",
        )
