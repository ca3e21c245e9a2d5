"""The demo's devices.

Enrolled as any device is, in directories that MicroPython takes for a board's file system.
"""

import random
from dataclasses import dataclass, replace
from pathlib import Path

from models.bundle import Bundle
from provisioning import device_files, identity

GATEWAY = bytes.fromhex("02000000000000ff")


@dataclass(frozen=True)
class Home:
    """A device's name, EUI-64 and directory."""

    name: str
    eui: bytes
    path: Path
    #: Whether it is a Wi-Fi device: messages over MQTT instead of frames on the air.
    wifi: bool = False

    @property
    def log(self) -> Path:
        """Where it writes its events."""
        return self.path / identity.LOG_FILE


@dataclass(frozen=True)
class Pace:
    """How devices work, in ms: a sample every period; an answer is awaited `deadline_ms` before a retry."""

    period_ms: int
    deadline_ms: int
    retries: int
    gap_ms: int


def enrol(
    site: Path,
    *,
    count: int,
    seed: int,
    air: tuple[str, int],
    bundle: Bundle,
    pace: Pace,
    wifi: int = 0,
    broker: int = 0,
) -> list[Home]:
    """Make devices in directories of `site`, which gets both registries.

    Root secrets are random; addresses are not. The images come in an order that the seed decides, dealt out
    in turn, so that no image comes twice, on whichever device, before each came once.

    Args:
        site: an existing directory without a site in it.
        count: devices on the air, 1..255.
        seed: of the order.
        air: host and port of the emulated radio.
        bundle: whose head and camera the devices get.
        pace: see there.
        wifi: further devices, behind the MQTT broker on this machine's TCP port `broker`.
    """
    order = list(range(len(bundle.pictures().x)))
    random.Random(f"images {seed}").shuffle(order)
    options = identity.DeviceOptions(
        link={
            "type": "zep",
            "host": air[0],
            "port": air[1],
            "bind": 0,
            "channel": 26,
            "pan": "0x23f0",
            "gap_ms": pace.gap_ms,
        },
        period_ms=pace.period_ms,
        deadline_ms=pace.deadline_ms,
        retries=pace.retries,
        order=True,
    )
    over_mqtt = replace(options, link={"type": "mqtt", "host": "127.0.0.1", "port": broker})
    homes = []
    everyone = count + wifi
    for number in range(1, everyone + 1):
        name, eui = f"device-{number}", bytes((2, 0, 0, 0, 0, 0, 0, number))
        by_wifi = number > count
        device = identity.create_device(
            site, gateway=GATEWAY, eui=eui, name=name, options=over_mqtt if by_wifi else options
        )
        mine = order[number - 1 :: everyone]
        root = device_files.write_device_root(site / name, bundle, device, order=mine)
        homes.append(Home(name, eui, root, by_wifi))
    return homes
