"""A device's identity: EUI-64, root secret and settings, and what the site's registries keep of it.

A site directory holds `registry.json` for the gateway and `edge-registry.json` for the edge server, each with
the keys that its reader needs and no more. The root secret itself goes to the device and is kept nowhere
else.

Every identity written has a new root secret. Writing one for a device that is enrolled already replaces it
under the next epoch, since its counters start over and replay protection is per (device, epoch, counter).
"""

import fcntl
import json
import os
import secrets
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware.counter import slot
from models.bundle import Bundle
from provisioning.errors import ProvisionError
from security.errors import RegistryError
from security.keys import derive_edge, derive_gateway, new_root
from security.registry import Device, EdgeRegistry, GatewayRegistry

GATEWAY_FILE = "registry.json"
EDGE_FILE = "edge-registry.json"
SETTINGS_FILE = "device.json"
HEAD_FILE = "head.bin"
CAMERA_FILE = "camera.bin"
ORDER_FILE = "order.bin"
LOG_FILE = "log.jsonl"
COUNTER_FILES = ("counter.a", "counter.b")

_FORMAT = 1
_MAX_EPOCH = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """What a device's settings say besides its identity (`firmware/config.py`).

    Attributes:
        link: the link section: type, host, port, bind, channel, pan.
        wifi: ssid and key for boards that join a network, or None.
        period_ms: between samples. deadline_ms: how long it waits for an answer. retries: after that.
        log: file of its log on the device, "" for none.
        order: whether an order.bin lies beside camera.bin.
    """

    link: Mapping[str, Any] = field(
        default_factory=lambda: {
            "type": "zep",
            "host": "127.0.0.1",
            "port": 17754,
            "bind": 0,
            "channel": 26,
            "pan": "0x23f0",
        }
    )
    wifi: Mapping[str, str] | None = None
    period_ms: int = 300
    deadline_ms: int = 1000
    retries: int = 2
    log: str = LOG_FILE
    order: bool = False


def local_eui64() -> bytes:
    """A random, locally administered EUI-64 of 8 bytes."""
    return bytes((0x02,)) + secrets.token_bytes(7)


class Site:
    """A site directory with its two registries. Use as `with Site.open(directory) as site:`.

    Attributes:
        directory: where the registries are.
        gateway: the gateway's registry; `edge` the edge server's.
    """

    def __init__(self, directory: Path, gateway: GatewayRegistry, edge: EdgeRegistry) -> None:
        self.directory = directory
        self.gateway = gateway
        self.edge = edge

    @classmethod
    @contextmanager
    def open(
        cls, directory: Path, *, name: str = "lab", gateway: bytes | None = None, create: bool = True
    ) -> Iterator["Site"]:
        """Lock and load a site.

        Args:
            directory: of the site.
            name: the site's name, used where the directory holds no site yet; else it must be the same.
            gateway: the gateway's EUI-64, likewise; None: whatever it is, or a random local one.
            create: whether to make a missing directory; without, such a site is only thought of.

        Raises:
            ProvisionError: the directory is another site's, half of it is missing, or it cannot be used.
        """
        lock = _lock(directory) if create or directory.exists() else None
        try:
            yield cls._load(directory, name, gateway)
        except RegistryError as error:
            raise ProvisionError(error.what, expected=error.expected, remedy=error.remedy) from error
        finally:
            if lock is not None:
                os.close(lock)

    @classmethod
    def _load(cls, directory: Path, name: str, gateway: bytes | None) -> "Site":
        ours, edge = directory / GATEWAY_FILE, directory / EDGE_FILE
        if ours.exists() != edge.exists():
            missing, there = (ours, edge) if edge.exists() else (edge, ours)
            raise ProvisionError(
                f"{directory} has {there.name} but no {missing.name}",
                expected="both registries of a site, or neither",
                remedy=f"restore {missing.name} from a backup, or start a new site in an empty directory",
            )
        if not ours.exists():
            return cls(directory, GatewayRegistry(gateway or local_eui64(), name, 0), EdgeRegistry(0))
        site = cls(directory, GatewayRegistry.load(ours), EdgeRegistry.load(edge))
        if site.gateway.site != name:
            raise ProvisionError(
                f"{directory} is the site {site.gateway.site!r}",
                expected=f"the site {name!r}",
                remedy="name that site, or another directory",
            )
        if gateway is not None and gateway != site.gateway.gateway:
            raise ProvisionError(
                f"the gateway of {directory} is {site.gateway.gateway.hex()}",
                expected=f"{gateway.hex()}",
                remedy="leave the gateway out, or name another site directory",
            )
        return site

    def new_identity(self, eui: bytes, options: DeviceOptions | None = None) -> dict[str, Any]:
        """Settings with a new root secret for a device, `device.json` as an object. Enrols nothing yet."""
        if len(eui) != 8 or eui[0] & 1 or not any(eui):
            raise ProvisionError(
                f"{eui.hex()} cannot be a device's EUI-64",
                expected="8 bytes, not all zero, the lowest bit of the first one 0 (no group address)",
            )
        if eui == self.gateway.gateway:
            raise ProvisionError(
                f"{eui.hex()} is the gateway's own EUI-64", remedy="give the device another: --eui64"
            )
        options = options or DeviceOptions()
        source: dict[str, Any] = {"type": "file", "path": CAMERA_FILE}
        if options.order:
            source["order"] = ORDER_FILE
        settings: dict[str, Any] = {
            "format": _FORMAT,
            "eui64": eui.hex(),
            "epoch": self._next_epoch(eui),
            "site": self.gateway.site,
            "gateway": self.gateway.gateway.hex(),
            "root": new_root().hex(),
            "link": dict(options.link),
            "source": source,
            "period_ms": options.period_ms,
            "deadline_ms": options.deadline_ms,
            "retries": options.retries,
            "log": options.log,
        }
        if options.wifi:
            settings["wifi"] = dict(options.wifi)
        return settings

    def enrol(self, settings: Mapping[str, Any], name: str = "") -> None:
        """Put a device's keys into both registries, in place of any older ones, and write them.

        Each file is replaced whole. The edge server's comes first; if the gateway's then cannot be written,
        the edge server's is put back.
        """
        eui, epoch, root = (
            bytes.fromhex(settings["eui64"]),
            int(settings["epoch"]),
            bytes.fromhex(settings["root"]),
        )
        before = dict(self.edge.devices)
        self.edge.devices[eui] = Device(eui, name, {epoch: derive_edge(root, eui, epoch)})
        keys = derive_gateway(root, eui, epoch, self.gateway.site)
        self.gateway.devices[eui] = Device(eui, name, {epoch: keys})
        self.edge.version += 1
        self.gateway.version += 1
        self.edge.save(self.directory / EDGE_FILE)
        try:
            self.gateway.save(self.directory / GATEWAY_FILE)
        except RegistryError:
            self.edge.devices = before
            self.edge.save(self.directory / EDGE_FILE)
            raise

    def _next_epoch(self, eui: bytes) -> int:
        """0 for a new device, else one more than any epoch that either registry has seen of it."""
        known = [
            epoch
            for registry in (self.gateway.devices, self.edge.devices)
            if eui in registry
            for epoch in registry[eui].epochs
        ]
        if known and max(known) == _MAX_EPOCH:
            raise ProvisionError(f"{eui.hex()} has used up its epochs", remedy="give it another EUI-64")
        return max(known) + 1 if known else 0


def create_device(
    site_dir: Path | str,
    *,
    site: str = "lab",
    gateway: bytes | None = None,
    eui: bytes | None = None,
    name: str = "",
    options: DeviceOptions | None = None,
) -> dict[str, Any]:
    """Enrol a device in a site and return its `device.json` as an object, which holds the root secret.

    Args:
        site_dir: the site's directory, made if missing.
        site: the site's name. gateway: the gateway's EUI-64, None: the site's own, or a random local one.
        eui: the device's EUI-64, None: a random local one. name: what people call it.
        options: the rest of its settings.

    Raises:
        ProvisionError: the directory is another site's, damaged, or cannot be written.
    """
    with Site.open(Path(site_dir), name=site, gateway=gateway) as opened:
        settings = opened.new_identity(eui or local_eui64(), options)
        opened.enrol(settings, name)
        return settings


def write_device_root(
    directory: Path | str,
    bundle: Bundle,
    device: Mapping[str, Any],
    camera: npt.NDArray[np.uint8] | None = None,
    order: Sequence[int] | None = None,
) -> Path:
    """Lay out a device's directory on Linux: what `micropython -m firmware.main DIRECTORY` runs on.

    Args:
        directory: made if missing; an older identity in it is replaced, its counters with it.
        bundle: whose head it gets.
        device: `device.json`, from `create_device`.
        camera: (N, H, W, C) uint8 images, None: the bundle's own.
        order: indices into `camera` in the order they are shown, None: 0, 1, 2 ...; goes with
            `options.order`.

    Returns:
        the directory.
    """
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    (root / LOG_FILE).unlink(missing_ok=True)
    for name, content in device_files(bundle, device, camera, order).items():
        _write(root / name, content)
    return root


def device_files(
    bundle: Bundle,
    device: Mapping[str, Any],
    camera: npt.NDArray[np.uint8] | None = None,
    order: Sequence[int] | None = None,
) -> dict[str, bytes]:
    """The files of a device but for its firmware, by name. Arguments as for `write_device_root`."""
    images = bundle.pictures().x if camera is None else camera
    if images.dtype != np.uint8 or images.shape[1:] != bundle.headfile.input or not 0 < len(images) < 1 << 16:
        raise ProvisionError(
            f"the camera's images are {images.dtype} of shape {images.shape}",
            expected=f"uint8 of shape (1..65535, {', '.join(map(str, bundle.headfile.input))})",
        )
    files = {
        SETTINGS_FILE: json.dumps(device, indent=1).encode() + b"\n",
        HEAD_FILE: bundle.head_bytes,
        CAMERA_FILE: camera_file(images),
        **{name: slot(1) for name in COUNTER_FILES},
    }
    if order is not None:
        if not len(order) or not all(0 <= index < len(images) for index in order):
            raise ProvisionError("the camera's order is empty or names an image that is not there")
        if device["source"].get("order") != ORDER_FILE:
            raise ProvisionError(
                "the device's settings name no order of images", remedy="options.order = True"
            )
        files[ORDER_FILE] = np.asarray(order, "<u2").tobytes()
    return files


def camera_file(images: npt.NDArray[np.uint8]) -> bytes:
    """(N, H, W, C) uint8 images as camera.bin (`firmware/sources/filecam.py`)."""
    count, height, width, channels = images.shape
    return b"SWC1" + struct.pack("<HBBBxxx", count, height, width, channels) + images.tobytes()


def _write(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _lock(directory: Path) -> int:
    """Make the directory and hold it for one writer at a time; waits for another one to finish."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        raise ProvisionError(
            f"the site directory {directory} cannot be used: {error.strerror}",
            remedy="name a directory that this user can write: --site-dir DIR",
        ) from error
    return handle
