"""The gateway as an installed service."""

from pathlib import Path

from gateway.settings import CHANGES, FORMAT, Settings, load
from gateway.unit import NAME, SETTINGS, STATE, unit_text
from slimwire.service_install import Installation
from slimwire.settings_file import documented
from slimwire.systemd import Staged

TITLE = "Settings of the Slimwire gateway, written by `slimwire gateway install`."


def installation() -> Installation:
    """What belongs to the gateway's service."""
    return Installation(NAME, SETTINGS, STATE, documented(Settings, TITLE), FORMAT, CHANGES, "gateway")


def unit_for(staged: Staged) -> str:
    """The unit for the settings that are installed below a root, or for the defaults.

    Raises:
        SettingsError: they cannot be used.
    """
    path = staged.path(SETTINGS)
    settings = load(path) if path.exists() else load()
    return unit_text(Path("/") / SETTINGS, settings.uart.port)
