"""The systemd unit of the gateway, as text."""

import shlex
from pathlib import Path

from slimwire.systemd import SANDBOX, program

NAME = "slimwire-gateway.service"
#: Below the root: its settings, and what it writes to.
SETTINGS = "etc/slimwire/gateway.toml"
STATE = "var/lib/slimwire"
RUNTIME = "run/slimwire"

_UNIT = """\
# {name}: written by `slimwire gateway install`.
[Unit]
Description=Slimwire gateway: admission, reassembly and uplink of sealed latents
Documentation=man:systemd.exec(5)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2
TimeoutStopSec=15
# Fed while frames, commits and batches move (gateway.watchdog).
WatchdogSec=60

# The service owns nothing but /var/lib/slimwire (registry, outbox, certificates) and /run/slimwire (admin
# socket).
StateDirectory=slimwire
StateDirectoryMode=0700
RuntimeDirectory=slimwire
RuntimeDirectoryMode=0750
{sandbox}ProcSubset=pid
PrivateMounts=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
{devices}
[Install]
WantedBy=multi-user.target
"""

_NO_DEVICES = """\
PrivateUsers=yes
PrivateDevices=yes
"""
_SERIAL = """\
# The serial port of the radio co-processor, and nothing else of /dev.
DevicePolicy=closed
DeviceAllow={port} rw
SupplementaryGroups=dialout
"""


def unit_text(settings: Path, serial: Path | None = None) -> str:
    """The unit's text.

    Args:
        settings: file that the service reads, and reads again on `systemctl reload`. It holds no secrets and
            is readable by all.
        serial: the serial port of `[uart]`, if there is one.
    """
    command = shlex.join([*program(), "gateway", "run", "--json-logs", "--config", str(settings)])
    devices = _NO_DEVICES if serial is None else _SERIAL.format(port=serial)
    return _UNIT.format(name=NAME, command=command, sandbox=SANDBOX, devices=devices)
