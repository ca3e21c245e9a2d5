"""What is done to a fleet of devices: give a site a vault, rotate, revoke, re-enrol, back up, restore.

Each function changes both registries under one new version, or nothing. Services that follow the files act on
it from the next frame.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from provisioning import vault as vaults
from provisioning.errors import ProvisionError, UnknownDeviceError
from provisioning.identity import (
    EDGE_FILE,
    GATEWAY_FILE,
    SIGNING_FILE,
    Change,
    DeviceOptions,
    Site,
    has_vault,
    locked,
    recall,
)
from provisioning.secret import Secret
from provisioning.vault import Vault
from security.errors import RegistryError
from security.keys import derive_edge, derive_gateway
from security.registry import EDGE, GATEWAY, EdgeRegistry, GatewayRegistry
from security.signed import Gate, VerifyKey

#: Epochs of one device that the registries name at most: the one before, the present one, the next.
_EPOCHS = 3


class Rotated(NamedTuple):
    """A device that will be ordered from epoch `before` to `epoch`."""

    eui: bytes
    before: int
    epoch: int


class Restored(NamedTuple):
    """What a restore brought back.

    Attributes:
        version: of the registries now. devices: in them.
        compared: whether registries newer than the backup, or as new, told what had happened since.
        known: devices whose root is in the vault, so that their keys can be rotated.
        aside: where the vault that was there before is now, None: there was none.
    """

    version: int
    devices: int
    compared: bool
    known: int
    aside: Path | None


def find(site: Site, wanted: str) -> bytes:
    """The EUI-64 of a device by it (colons or not) or by its name. Raises UnknownDeviceError."""
    plain = wanted.replace(":", "").replace("-", "").lower()
    found = [
        eui for eui, device in site.gateway.devices.items() if plain == eui.hex() or wanted == device.name
    ]
    if len(found) != 1:
        raise UnknownDeviceError(wanted, site.gateway.site, len(found))
    return found[0]


def make_vault(directory: Path, secret: Secret, *, name: str | None = None) -> VerifyKey:
    """Give a site a fleet vault and move its signing key into it; the site is made if there is none.

    Roots of devices enrolled before are on the devices only: those are rotated after their next
    `provision up --new-identity`.

    Returns:
        the public key for the site's services.

    Raises:
        ProvisionError: the site cannot be used. VaultError: it has a vault, or none can be made.
    """
    if has_vault(directory):
        raise vaults.VaultError(f"the site {directory} has a vault already")
    with Site.open(directory, name=name) as site:
        fresh = _scratch(directory)
        try:
            with Vault.create(fresh, secret) as vault:
                site.vault = vault
                with vault.writing():
                    site.keep()
                fresh.rename(directory / vaults.FILE)
            with Vault.open(directory / vaults.FILE, secret) as site.vault:
                site.publish()
        finally:
            fresh.unlink(missing_ok=True)
        (directory / SIGNING_FILE).unlink(missing_ok=True)
        return site.signer.public


def rotate(site: Site, euis: Iterable[bytes], heard: Mapping[bytes, int]) -> list[Rotated]:
    """Give devices the next key epoch. The edge server orders the switch in its next answers.

    The counter goes on counting, and the epochs before are accepted: see docs/protocol.md, section 8.

    Args:
        site: with its vault.
        euis: which devices. heard: epoch in which the gateway heard each last, as far as known.

    Raises:
        ProvisionError: a device is revoked, its root is not in the vault, or it would be locked out; no
            device is rotated then.
    """
    vault = _vault(site)
    done = []
    with site.changing() as change:
        for eui in euis:
            device = site.gateway.devices[eui]
            if device.revoked:
                raise ProvisionError(
                    f"{eui.hex()} is revoked", remedy=f"slimwire provision re-enrol {eui.hex()}"
                )
            entry = vault.get("root", eui.hex())
            if not entry or not entry["root"]:
                raise ProvisionError(
                    f"the root secret of {eui.hex()} is not in the vault, so no keys can be made of it",
                    remedy="give it a new one: slimwire provision up --new-identity",
                )
            epochs = sorted(device.epochs)
            left, kept = epochs[: 1 - _EPOCHS], epochs[1 - _EPOCHS :]
            epoch = site.next_epoch(eui)
            while any(e & 3 == epoch & 3 for e in kept):  # its two low bits name it on the air
                epoch += 1
            if left and heard.get(eui, -1) <= max(left):
                raise ProvisionError(
                    f"{eui.hex()} was ordered to epoch {epochs[-1]} and was not heard above {max(left)}: "
                    "another one would lock it out",
                    expected="a gateway that says so: is it running, and the device on?",
                    remedy=f"wait until it is heard, or give it a new root: slimwire provision re-enrol "
                    f"{eui.hex()}",
                )
            change.add_epoch(eui, bytes.fromhex(entry["root"]), epoch, kept)
            done.append(Rotated(eui, epochs[-1], epoch))
    return done


def revoke(site: Site, eui: bytes) -> None:
    """Refuse a device from the next frame on, and forget its root."""
    with site.changing() as change:
        _forget(change, eui)


def re_enrol(site: Site, eui: bytes, options: DeviceOptions | None = None) -> dict[str, Any]:
    """Take a device back, or off a stolen root: a new root under a later epoch, at once.

    Its old root is worth nothing from the next frame on. `provision up` writes a new identity to its board;
    on a Linux device, what this returns is its device.json.

    Raises:
        ProvisionError: the registries cannot be written.
    """
    settings = site.new_identity(eui, options, take_back=True)
    site.enrol(settings, site.gateway.devices[eui].name)
    return settings


def backup(site: Site, path: Path) -> int:
    """Write the vault, sealed as it is, to a new file; how many devices it holds.

    It has roots, the signing key and both registries. Counters are on the devices and never in it.
    """
    _vault(site).copy_to(path)
    return len(site.gateway.devices)


def restore(
    directory: Path,
    path: Path,
    secret: Secret,
    *,
    without_registries: bool = False,
    now: float | None = None,
) -> Restored:
    """Bring a vault back from a backup. Identities written from then on have new roots under new epochs.

    The registries in `directory` are as new as the fleet: they say who was enrolled, re-enrolled, rotated or
    revoked since. A root in the backup that does not fit them is forgotten: a stolen one does not come back.

    Args:
        directory: of the site. path: the backup. secret: what opens it.
        without_registries: do without the registries: what happened since the backup is forgotten.
        now: Unix time, s; for tests.

    Raises:
        VaultError: the backup is damaged, or the secret is another one's.
        ProvisionError: the registries are missing, damaged, or not signed by the backup's key.
    """
    stamp = int(time.time() if now is None else now)
    with locked(directory), Vault.open(path, secret) as source:
        gateway, edge, signer = recall(source)
        compared = (directory / GATEWAY_FILE).exists() and (directory / EDGE_FILE).exists()
        if compared:
            try:
                gateway = GatewayRegistry.load(directory / GATEWAY_FILE, Gate(GATEWAY, signer.public))
                edge = EdgeRegistry.load(directory / EDGE_FILE, Gate(EDGE, signer.public))
            except RegistryError as error:
                raise ProvisionError(error.what, expected=error.expected, remedy=error.remedy) from error
            _check_halves(directory, gateway, edge)
        elif not without_registries:
            raise ProvisionError(
                f"{directory} has no registries to compare the backup with",
                expected=f"{GATEWAY_FILE} and {EDGE_FILE}: copy them back from gateway and edge server",
                remedy="--without-registries does without: what was revoked, re-enrolled or rotated since "
                "the backup is as it was then",
            )
        fresh = _scratch(directory)
        try:
            source.copy_to(fresh)
            with Vault.open(fresh, secret) as vault:
                site = Site(directory, gateway, edge, signer, vault)
                version = max(gateway.version, edge.version, stamp - 1) + 1
                epochs = [e for device in gateway.devices.values() for e in device.epochs]
                with vault.writing():
                    before = (vault.get("site", "restored") or {"epoch": 0})["epoch"]
                    known = _forget_misfits(site)
                    vault.put("site", "restored", {"epoch": max([stamp, before, *epochs]) + 1, "at": stamp})
                    gateway.version = edge.version = version
                    site.keep()
            aside = None
            if has_vault(directory):
                aside = directory / f"{vaults.FILE}.{stamp}.{secrets.token_hex(2)}"
                (directory / vaults.FILE).rename(aside)
            fresh.rename(directory / vaults.FILE)
        finally:
            fresh.unlink(missing_ok=True)
        with Vault.open(directory / vaults.FILE, secret) as vault:
            Site(directory, gateway, edge, signer, vault).publish()
    return Restored(version, len(gateway.devices), compared, known, aside)


def write_settings(path: Path, text: str) -> None:
    """Write a device.json that only its owner reads. Raises ProvisionError; never overwrites."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ProvisionError(
            f"{path} cannot be written: {error.strerror}", remedy="name a new file"
        ) from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _forget(change: Change, eui: bytes) -> None:
    change.revoke(eui)
    change.keep_root(eui, None)


def _check_halves(directory: Path, gateway: GatewayRegistry, edge: EdgeRegistry) -> None:
    """See that the two registries are of one moment: signed anew, an older one would be good again."""
    for eui in gateway.devices.keys() | edge.devices.keys():
        ours, theirs = gateway.devices.get(eui), edge.devices.get(eui)
        if (
            ours is None
            or theirs is None
            or ours.revoked != theirs.revoked
            or ours.epochs.keys() != theirs.epochs.keys()
        ):
            raise ProvisionError(
                f"{GATEWAY_FILE} (version {gateway.version}) and {EDGE_FILE} (version {edge.version}) in "
                f"{directory} disagree about {eui.hex()}",
                expected="two files of one moment",
                remedy="copy the newest of each from gateway and edge server",
            )


def _forget_misfits(site: Site) -> int:
    """Forget every root that does not give the keys in the registries; how many are left."""
    vault, known = _vault(site), 0
    for name, entry in list(vault.items("root")):
        eui, root = bytes.fromhex(name), entry["root"]
        gateway, edge = site.gateway.devices.get(eui), site.edge.devices.get(eui)
        fits = root is not None and gateway is not None and edge is not None and not gateway.revoked
        if fits:
            assert gateway is not None
            assert edge is not None
            raw, place = bytes.fromhex(root), site.gateway.site
            fits = all(derive_gateway(raw, eui, e, place) == keys for e, keys in gateway.epochs.items())
            fits = fits and all(derive_edge(raw, eui, e) == keys for e, keys in edge.epochs.items())
        if not fits and root is not None:
            vault.put("root", name, {"root": None})
        known += fits
    return known


def _vault(site: Site) -> Vault:
    if site.vault is None:
        raise ProvisionError(
            f"the site {site.directory} has no fleet vault: roots are on the devices only",
            remedy="make one: slimwire provision vault; a device's root is in it from its next identity on",
        )
    return site.vault


def _scratch(directory: Path) -> Path:
    """A name beside the vault; what an interrupted run left behind under such a name goes."""
    for old in directory.glob(f".{vaults.FILE}.new.*"):
        if old.is_file():
            old.unlink()
        else:
            shutil.rmtree(old)
    return directory / f".{vaults.FILE}.new.{secrets.token_hex(4)}"
