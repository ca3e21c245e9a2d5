"""The systemd unit of the gateway, as text."""

import shlex
import shutil
import sys
from pathlib import Path

NAME = "slimwire-gateway.service"

_UNIT = """\
# {name}: written by `slimwire gateway install`.
[Unit]
Description=Slimwire gateway: admission, reassembly and uplink of sealed latents
Documentation=man:systemd.exec(5)
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart={command}
Restart=on-failure
RestartSec=2
TimeoutStopSec=15

# The service owns nothing but /var/lib/slimwire (registry) and /run/slimwire (admin socket).
DynamicUser=yes
StateDirectory=slimwire
StateDirectoryMode=0700
RuntimeDirectory=slimwire
RuntimeDirectoryMode=0750
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
NoNewPrivileges=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
Environment=PYTHONUNBUFFERED=1
{config}
[Install]
WantedBy=multi-user.target
"""


def program() -> list[str]:
    """What starts Slimwire here: the console script beside this Python, else `python -m slimwire`."""
    script = Path(sys.executable).with_name("slimwire")
    if script.is_file():
        return [str(script)]
    found = shutil.which("slimwire")
    return [found] if found else [sys.executable, "-m", "slimwire"]


def warning() -> str:
    """Why the unit cannot work as this Slimwire is installed; "" if it can."""
    where = Path(program()[0])
    if where.parts[1:2] not in (("home",), ("root",)):
        return ""
    return (
        f"{where} lies in a home directory, which the service cannot read; install Slimwire elsewhere first: "
        "python3 -m venv /opt/slimwire && /opt/slimwire/bin/pip install 'slimwire[gateway]'"
    )


def unit_text(config: Path | None) -> str:
    """The unit's text. With `config`, the service reads that settings file through systemd's LoadCredential.

    A settings file belongs to root; LoadCredential hands a copy to the service's transient user.
    """
    words = [*program(), "gateway", "run", "--json-logs"]
    extra = ""
    if config is not None:
        words += ["--config", "%d/gateway.toml"]
        extra = f"LoadCredential=gateway.toml:{config.resolve()}\n"
    command = " ".join(word if word.startswith("%d") else shlex.quote(word) for word in words)
    return _UNIT.format(name=NAME, command=command, config=extra)
