"""Errors of provisioning that a person meets, each kind with the exit code that scripts rely on."""

from slimwire.errors import SlimwireError


class ProvisionError(SlimwireError):
    """A board or a site could not be provisioned; says what was found and what to do.

    `fault`: its short, stable name (docs/fleet.md), "" where it has none.
    """

    def __init__(self, what: str, *, expected: str = "", remedy: str = "", fault: str = "") -> None:
        super().__init__(what, expected=expected, remedy=remedy)
        self.fault = fault


class BoardError(ProvisionError):
    """The port, or the board at it, cannot be used."""

    exit_code = 5


class FlashError(ProvisionError):
    """MicroPython could not be flashed, or what was read back is not what was sent."""

    exit_code = 6


class GatewayAwayError(ProvisionError):
    """The site's gateway does not answer, or is another site's."""

    exit_code = 7


class NotHeardError(ProvisionError):
    """The board holds what it should, and the gateway has taken no message of it."""

    exit_code = 8


class SomeFailedError(ProvisionError):
    """Some of several boards failed; the others are done."""

    exit_code = 9


class FaultsError(ProvisionError):
    """A check of a board or a fleet ended with faults, each named before."""

    exit_code = 10


class UnknownDeviceError(ProvisionError):
    """No device of the site is called so, or several (`found`) are."""

    exit_code = 13

    def __init__(self, wanted: str, site: str, found: int) -> None:
        super().__init__(
            f"{found or 'no'} devices of the site {site!r} are called {wanted!r}",
            expected="one EUI-64, or a name that one device has",
            remedy="slimwire provision list",
        )
