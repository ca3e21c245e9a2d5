"""The systemd unit of the edge server, as text, and its installation."""

import shlex
from pathlib import Path

from edge_server.settings import FORMAT, Settings
from slimwire.service_install import Installation
from slimwire.settings_file import documented
from slimwire.systemd import SANDBOX, program

NAME = "slimwire-edge.service"
#: Below the root: its settings, and what it writes to.
SETTINGS = "etc/slimwire/edge.toml"
STATE = "var/lib/slimwire-edge"
TITLE = "Settings of the Slimwire edge server, written by `slimwire edge install`."

_UNIT = """\
# {name}: written by `slimwire edge install`.
[Unit]
Description=Slimwire edge server: tails and width control
Documentation=man:systemd.exec(5)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
# Certificate and tokens are read again.
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2
TimeoutStopSec=15

# The service owns nothing but /var/lib/slimwire-edge: registry, replay state, answers.
StateDirectory=slimwire-edge
StateDirectoryMode=0700
{sandbox}PrivateMounts=yes
PrivateUsers=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX

[Install]
WantedBy=multi-user.target
"""


def unit_text(settings: Path) -> str:
    """The unit's text; `settings`: the file that the service reads, which holds no secrets."""
    words = [*program(), "edge", "run", "--json-logs", "--config", str(settings), "--state", f"/{STATE}"]
    return _UNIT.format(name=NAME, command=shlex.join(words), sandbox=SANDBOX)


def installation() -> Installation:
    """What belongs to the edge server's service."""
    return Installation(NAME, SETTINGS, STATE, documented(Settings, TITLE), FORMAT, (), "edge")
