"""The systemd unit of a Linux device, as text."""

import shlex

from slimwire.systemd import SANDBOX, program

NAME = "slimwire-device.service"
#: Below the root: the identity, which systemd hands to the service as a credential, and what it writes to.
IDENTITY = "etc/slimwire-device/device.json"
STATE = "var/lib/slimwire-device"

_UNIT = """\
# {name}: written by `slimwire device install`.
[Unit]
Description=Slimwire device: head, seal and link on Linux
Documentation=man:systemd.exec(5)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
LoadCredential=device.json:/{identity}
StateDirectory=slimwire-device
StateDirectoryMode=0700
Restart=on-failure
RestartSec=5
TimeoutStopSec=15
# Fed by the agent's events; a camera that hangs stops them.
WatchdogSec=60

# It owns nothing but its state directory, and reads its identity as a credential, which no other user can.
{sandbox}PrivateMounts=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
{devices}
[Install]
WantedBy=multi-user.target
"""

_NO_DEVICES = """\
PrivateUsers=yes
PrivateDevices=yes
"""
_CAMERA = """\
# The camera, and nothing else of /dev.
DevicePolicy=closed
DeviceAllow=char-video4linux rw
DeviceAllow=char-media rw
SupplementaryGroups=video
"""


def unit_text(source: str) -> str:
    """The unit of a device whose source is of that type."""
    words = [*program(), "device", "run", "--quiet", "--config", "%d/device.json"]
    command = " ".join(word if word.startswith("%d") else shlex.quote(word) for word in words)
    return _UNIT.format(
        name=NAME,
        command=command,
        identity=IDENTITY,
        sandbox=SANDBOX,
        devices=_CAMERA if source == "camera" else _NO_DEVICES,
    )
