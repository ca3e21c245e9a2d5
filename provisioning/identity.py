"""A device's identity: EUI-64, root secret and settings, and what the site's registries keep of it.

A site directory holds `registry.json` for the gateway and `edge-registry.json` for the edge server, each with
the keys that its reader needs and no more, both signed with the site's own key (`registry.pub` is its public
half). Where the site has a fleet vault (`provisioning.vault`), roots, the signing key and a copy of both
registries are in it; else the root secret goes to the device and is kept nowhere else, and the signing key
lies in `signing.key`.

Every identity written has a new root secret and a key epoch that its EUI-64 never had (docs/adr/0018): its
counters start over, and replay protection is per (device, epoch, counter). Writing one for a device that is
enrolled already replaces it.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from provisioning import vault as vaults
from provisioning.errors import ProvisionError
from provisioning.secret import Secret
from provisioning.vault import Vault, VaultSecretError
from security import durable
from security.errors import RegistryError
from security.keys import EdgeKeys, GatewayKeys, derive_edge, derive_gateway, new_root
from security.registry import Device, EdgeRegistry, GatewayRegistry
from security.signed import SigningKey

GATEWAY_FILE = "registry.json"
EDGE_FILE = "edge-registry.json"
CAMERA_FILE = "camera.bin"
ORDER_FILE = "order.bin"
LOG_FILE = "log.jsonl"
SIGNING_FILE = "signing.key"
PUBLIC_FILE = "registry.pub"

_FORMAT = 1
_MAX_EPOCH = 0xFFFF_FFFF
#: Unix time, s: a clock that says less was never set, and one that says as much as the last would leave no
#: epoch for the identities and rotations to come.
_CLOCK_IS_SET, _CLOCK_IS_WRONG = 1_700_000_000, 4_200_000_000


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
        signer: the key that signs both.
        vault: the fleet vault, None where the site has none.
    """

    def __init__(
        self,
        directory: Path,
        gateway: GatewayRegistry,
        edge: EdgeRegistry,
        signer: SigningKey | None = None,
        vault: Vault | None = None,
    ) -> None:
        self.directory = directory
        self.gateway = gateway
        self.edge = edge
        self.signer = signer or SigningKey.generate()
        self.vault = vault

    @classmethod
    @contextmanager
    def open(
        cls,
        directory: Path,
        *,
        name: str | None = "lab",
        gateway: bytes | None = None,
        create: bool = True,
        secret: Secret | None = None,
    ) -> Iterator["Site"]:
        """Lock and load a site. Hold it briefly: another writer waits until it is closed.

        Args:
            directory: of the site.
            name: the site's name, used where the directory holds no site yet; else it must be the same. None:
                whatever it is.
            gateway: the gateway's EUI-64, likewise; None: whatever it is, or a random local one.
            create: whether to make a missing directory; without, such a site is only thought of.
            secret: what opens the site's vault; needed where `has_vault` says so, but to look (`create`
                False): what is published says who is enrolled.

        Raises:
            ProvisionError: the directory is another site's, half of it is missing, or it cannot be used.
            VaultError: the vault cannot be opened.
        """
        lock = _lock(directory) if create or directory.exists() else None
        vault = None
        try:
            if has_vault(directory) and (create or secret is not None):
                if secret is None:
                    raise VaultSecretError(
                        f"the site {directory} has a fleet vault, and nothing to open it with was given",
                        remedy="give its passphrase or key file: see `slimwire provision vault --help`",
                    )
                vault = Vault.open(directory / vaults.FILE, secret)
            yield cls._load(directory, name, gateway, vault)
        except RegistryError as error:
            raise ProvisionError(error.what, expected=error.expected, remedy=error.remedy) from error
        finally:
            if vault is not None:
                vault.close()
            if lock is not None:
                os.close(lock)

    @classmethod
    def _load(cls, directory: Path, name: str | None, gateway: bytes | None, vault: Vault | None) -> "Site":
        ours, edge = directory / GATEWAY_FILE, directory / EDGE_FILE
        if vault is not None:
            site = cls(directory, *recall(vault), vault)
            site.publish_missed()
        elif ours.exists() != edge.exists():
            missing, there = (ours, edge) if edge.exists() else (edge, ours)
            raise ProvisionError(
                f"{directory} has {there.name} but no {missing.name}",
                expected="both registries of a site, or neither",
                remedy=f"restore {missing.name} from a backup, or start a new site in an empty directory",
            )
        elif not ours.exists():
            own = GatewayRegistry(gateway or local_eui64(), name or "lab", 0)
            return cls(directory, own, EdgeRegistry(0), _signing_key(directory))
        else:
            loaded = GatewayRegistry.load(ours), EdgeRegistry.load(edge)
            site = cls(directory, *loaded, _signing_key(directory))
        if name is not None and site.gateway.site != name:
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

    def new_identity(
        self,
        eui: bytes,
        options: DeviceOptions | None = None,
        *,
        take_back: bool = False,
        now: float | None = None,
    ) -> dict[str, Any]:
        """Settings with a new root secret for a device, `device.json` as an object. Enrols nothing yet.

        Args:
            eui: EUI-64. options: the rest of its settings. take_back: whether it may be a revoked one.
            now: Unix time, s; for tests.

        Raises:
            ProvisionError: the EUI-64 cannot be a device's, or the device is revoked.
        """
        if len(eui) != 8 or eui[0] & 1 or not any(eui):
            raise ProvisionError(
                f"{eui.hex()} cannot be a device's EUI-64",
                expected="8 bytes, not all zero, the lowest bit of the first one 0 (no group address)",
            )
        if eui == self.gateway.gateway:
            raise ProvisionError(
                f"{eui.hex()} is the gateway's own EUI-64", remedy="give the device another: --eui64"
            )
        if eui in self.gateway.devices and self.gateway.devices[eui].revoked and not take_back:
            raise ProvisionError(
                f"{eui.hex()} is revoked",
                remedy=f"take it back first, under a new root: slimwire provision re-enrol {eui.hex()}",
            )
        options = options or DeviceOptions()
        source: dict[str, Any] = {"type": "file", "path": CAMERA_FILE}
        if options.order:
            source["order"] = ORDER_FILE
        settings: dict[str, Any] = {
            "format": _FORMAT,
            "eui64": eui.hex(),
            "epoch": self.first_epoch(eui, time.time() if now is None else now),
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
        """Put a device's keys into both registries, in place of any older ones, and publish them."""
        eui, epoch, root = (
            bytes.fromhex(settings["eui64"]),
            int(settings["epoch"]),
            bytes.fromhex(settings["root"]),
        )
        with self.changing() as change:
            change.set_keys(eui, name, {epoch: root})
            change.keep_root(eui, root)

    @contextmanager
    def changing(self) -> Iterator["Change"]:
        """Change devices of both registries under one new version: all of it, or nothing.

        With a vault, its commit decides; files that a crash left behind are written at the next opening.
        Without, the gateway's file is taken back if the edge server's cannot be written.
        """
        devices = dict(self.gateway.devices), dict(self.edge.devices)
        versions = self.gateway.version, self.edge.version
        try:
            with self.vault.writing() if self.vault is not None else nullcontext():
                yield Change(self)
                self.gateway.version = self.edge.version = max(versions) + 1
                if self.vault is not None:
                    self.keep()
        except BaseException:
            self.gateway.devices, self.edge.devices = devices
            self.gateway.version, self.edge.version = versions
            raise
        try:
            self.publish()
        except (RegistryError, ProvisionError):
            if self.vault is None:
                self._take_back(devices, versions)
            raise

    def _take_back(
        self,
        devices: tuple[dict[bytes, Device[GatewayKeys]], dict[bytes, Device[EdgeKeys]]],
        versions: tuple[int, int],
    ) -> None:
        """Undo a change of which the edge server's file could not be written. Versions go forward all the
        same: a gateway may have read what is taken back.
        """
        self.gateway.devices, self.edge.devices = devices
        self.edge.version = versions[1]
        try:
            written = GatewayRegistry.load(self.directory / GATEWAY_FILE).version != versions[0]
        except RegistryError:
            written = False
        if not written:
            self.gateway.version = versions[0]
            return
        self.gateway.version += 1
        self.gateway.save(self.directory / GATEWAY_FILE, self.signer)

    def keep(self) -> None:
        """Write signing key and registries into the vault; inside its `writing` only."""
        assert self.vault is not None
        self.vault.put("site", "signing", {"seed": self.signer.seed.hex()})
        self.vault.put("site", "gateway", self.gateway.body())
        self.vault.put("site", "edge", self.edge.body())

    def first_epoch(self, eui: bytes, now: float) -> int:
        """The epoch of a new identity: Unix time in s, or `next_epoch` where that is above it.

        A site that was made anew remembers no epoch it gave, and services remember the counters used under
        each: the number has to be one that this EUI-64 never had. A clock that was never set, or set to no
        time that can be, tells nothing; then it is a random one.

        Args:
            now: Unix time, s.

        Raises:
            ProvisionError: all are used.
        """
        told = _CLOCK_IS_SET <= now < _CLOCK_IS_WRONG
        return max(self.next_epoch(eui), int(now) if told else secrets.randbelow(_CLOCK_IS_SET))

    def next_epoch(self, eui: bytes) -> int:
        """One more than any epoch known of a device; after a restore, not below its time; 0 if there is none.

        Raises ProvisionError: all are used.
        """
        known = [
            epoch
            for registry in (self.gateway.devices, self.edge.devices)
            if eui in registry
            for epoch in registry[eui].epochs
        ]
        if known and max(known) == _MAX_EPOCH:
            raise ProvisionError(f"{eui.hex()} has used up its epochs", remedy="give it another EUI-64")
        restored = self.vault.get("site", "restored") if self.vault is not None else None
        floor = int(restored["epoch"]) if restored else 0
        return max(floor, max(known) + 1 if known else 0)

    def publish(self) -> None:
        """Write both files, the gateway's first: it must know an epoch before the edge server orders it."""
        gateway, edge = self.directory / GATEWAY_FILE, self.directory / EDGE_FILE
        if self.vault is None:
            if has_vault(self.directory):
                raise ProvisionError(f"the site {self.directory} was opened to look at it, not to change it")
            _keep_text(self.directory / SIGNING_FILE, self.signer.seed.hex(), 0o600)
        _keep_text(self.directory / PUBLIC_FILE, self.signer.public.raw.hex() + "\n", 0o644)
        self.gateway.save(gateway, self.signer)
        self.edge.save(edge, self.signer)

    def publish_missed(self) -> None:
        """Write the files anew where they are missing, older than the vault, or somebody else's."""
        try:
            versions = {
                GatewayRegistry.load(self.directory / GATEWAY_FILE).version,
                EdgeRegistry.load(self.directory / EDGE_FILE).version,
            }
        except RegistryError:
            versions = {-1}
        newest = self.gateway.version
        if max(versions) > newest:
            raise ProvisionError(
                f"the registries in {self.directory} have version {max(versions)}, the vault {newest}",
                expected="a vault as new as its registries: this one is an older copy",
                remedy="restore it as what it is, a backup: slimwire provision restore",
            )
        if versions != {newest}:
            self.publish()


class Change:
    """What can be done to the devices of a site inside `Site.changing`."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def set_keys(self, eui: bytes, name: str, roots: Mapping[int, bytes]) -> None:
        """Replace a device's keys by those of these epochs' roots; it is not revoked then."""
        site = self._site
        site.edge.devices[eui] = Device(
            eui, name, {e: derive_edge(root, eui, e) for e, root in roots.items()}
        )
        keys = {e: derive_gateway(root, eui, e, site.gateway.site) for e, root in roots.items()}
        site.gateway.devices[eui] = Device(eui, name, keys)

    def add_epoch(self, eui: bytes, root: bytes, epoch: int, kept: Collection[int]) -> None:
        """Add an epoch's keys, of the same root; of the older epochs only those `kept` stay."""
        site = self._site
        edge, gateway = site.edge.devices[eui], site.gateway.devices[eui]
        opened = {e: keys for e, keys in edge.epochs.items() if e in kept}
        site.edge.devices[eui] = replace(edge, epochs={**opened, epoch: derive_edge(root, eui, epoch)})
        checked = {e: keys for e, keys in gateway.epochs.items() if e in kept}
        fresh = derive_gateway(root, eui, epoch, site.gateway.site)
        site.gateway.devices[eui] = replace(gateway, epochs={**checked, epoch: fresh})

    def revoke(self, eui: bytes) -> None:
        """Refuse a device from the next frame on."""
        site = self._site
        site.edge.devices[eui] = replace(site.edge.devices[eui], revoked=True)
        site.gateway.devices[eui] = replace(site.gateway.devices[eui], revoked=True)

    def keep_root(self, eui: bytes, root: bytes | None) -> None:
        """Keep a device's root in the vault, if the site has one; None: forget it."""
        if self._site.vault is not None:
            value = {"root": None if root is None else root.hex()}
            self._site.vault.put("root", eui.hex(), value)


def has_vault(directory: Path) -> bool:
    """Whether the site in this directory has a fleet vault, and so needs a secret to be opened."""
    return (directory / vaults.FILE).exists()


def create_device(
    site_dir: Path | str,
    *,
    site: str = "lab",
    gateway: bytes | None = None,
    eui: bytes | None = None,
    name: str = "",
    options: DeviceOptions | None = None,
    secret: Secret | None = None,
) -> dict[str, Any]:
    """Enrol a device in a site and return its `device.json` as an object, which holds the root secret.

    Args:
        site_dir: the site's directory, made if missing.
        site: the site's name. gateway: the gateway's EUI-64, None: the site's own, or a random local one.
        eui: the device's EUI-64, None: a random local one. name: what people call it.
        options: the rest of its settings. secret: what opens the site's vault, if it has one.

    Raises:
        ProvisionError: the directory is another site's, damaged, or cannot be written.
    """
    with Site.open(Path(site_dir), name=site, gateway=gateway, secret=secret) as opened:
        settings = opened.new_identity(eui or local_eui64(), options)
        opened.enrol(settings, name)
        return settings


def recall(vault: Vault) -> tuple[GatewayRegistry, EdgeRegistry, SigningKey]:
    """What a vault says of its site."""
    signing, gateway, edge = (vault.get("site", name) for name in ("signing", "gateway", "edge"))
    if not signing or not gateway or not edge:
        raise ProvisionError(
            f"the vault {vault.path} holds no site",
            remedy="its making was interrupted: remove it, and run `slimwire provision vault` again",
        )
    origin = str(vault.path)
    registries = GatewayRegistry.parse(gateway, origin), EdgeRegistry.parse(edge, origin)
    return *registries, SigningKey(bytes.fromhex(signing["seed"]))


def _signing_key(directory: Path) -> SigningKey | None:
    """The signing key of a site without a vault; None: it has none yet."""
    path = directory / SIGNING_FILE
    try:
        text = path.read_text("ascii").strip()
        if path.stat().st_mode & 0o077:
            raise ProvisionError(
                f"{path} is readable by others", expected="mode 0600", remedy=f"chmod 600 {path}"
            )
        return SigningKey(bytes.fromhex(text))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ProvisionError(
            f"the site's signing key {path} cannot be used: {type(error).__name__}",
            expected="64 hex digits",
            remedy="restore it; without it, remove it, and give the services the new registry.pub",
        ) from None


def _keep_text(path: Path, text: str, mode: int) -> None:
    """Write a file, all or nothing, unless it says so already."""
    try:
        if not path.is_file() or path.read_bytes() != text.encode():
            durable.replace(path, text.encode(), mode)
    except OSError as error:
        raise ProvisionError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a site's directory, made if missing, for one writer at a time."""
    handle = _lock(directory)
    try:
        yield
    finally:
        os.close(handle)


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
