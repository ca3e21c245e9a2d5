"""The registry as the running gateway sees it: found or made at the start, read anew when it changes."""

import logging
import os
import secrets
import shlex
from collections import Counter
from pathlib import Path

from gateway.errors import GatewayError
from security.errors import RegistryError, SecurityError
from security.registry import GATEWAY, GatewayRegistry
from security.signed import Gate, VerifyKey

_log = logging.getLogger("gateway.enrolment")

_DEFAULT_SITE = "default"

#: In the state directory: the highest version accepted of a signed registry.
FLOOR = "registry-floor.json"


class Enrolment:
    """A registry file and what was last read from it.

    Args:
        path: of `registry.json`.
        create: whether a missing file is made, with a new gateway identity and no devices; never where a
            signature is asked for.
        key: the site's public key, 64 hex digits or a file that holds them. Only what it signed is used
            then. None: signatures aren't checked, which is logged.
        memory: file that keeps the highest version accepted of a signed registry.

    Raises:
        GatewayError: the file is missing (and not to be made), not private, damaged, of another format, not
            signed as it must be, or older than one that was accepted before.

    Attributes:
        registry: what is in force. refused: how often a changed file was not used, by reason
            (`security.signed.REASONS`). problem: why the file as it is now is not used, None if it is.
    """

    def __init__(
        self, path: Path, *, create: bool, key: str | None = None, memory: Path | None = None
    ) -> None:
        self.path = path
        self.refused: Counter[str] = Counter()
        self.problem: str | None = None
        try:
            self.gate = Gate(GATEWAY, None if key is None else VerifyKey.of(key), memory)
        except RegistryError as error:
            raise GatewayError(error.what, expected=error.expected, remedy=error.remedy) from error
        if create and key is None and self._stat() is None:
            self._create()
        self._stamp = self._stat()
        self.registry = self._load()
        if key is None:
            _log.warning(
                "no public key was given (registry_key): whoever can write %s decides which devices exist; "
                "the site's registry.pub is that key",
                path,
            )

    def changed(self) -> GatewayRegistry | None:
        """The registry, if its file changed since it was last read and can be used; None otherwise.

        A changed file that cannot be used is reported once and leaves the last good one in force.
        """
        stamp = self._stat()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            self.registry = self._load()
        except GatewayError as error:
            reason = (
                error.__cause__.reason if isinstance(error.__cause__, RegistryError) else "registry-damaged"
            )
            self.refuse(reason, error)
            return None
        self.problem = None
        return self.registry

    def refuse(self, reason: str, error: GatewayError) -> None:
        """Note that the file as it is now is not used."""
        self.refused[reason] += 1
        self.problem = str(error)
        _log.error("the changed registry is not used (%s), the last good one is: %s", reason, error)

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _load(self) -> GatewayRegistry:
        try:
            return GatewayRegistry.load(self.path, self.gate)
        except SecurityError as error:
            raise GatewayError(
                error.what, expected=error.expected, remedy=error.remedy or self._remedy()
            ) from error

    def _remedy(self) -> str:
        """What to do about a registry that the system does not let this process read."""
        if os.access(self.path, os.R_OK):
            return "restore it from a backup, or name another one with --registry"
        path, directory = shlex.quote(str(self.path)), self.path.parent
        owner = str(os.geteuid())
        try:
            # A service's state directory is its own, under a uid that may change (systemd's DynamicUser);
            # what root copied there is not.
            if directory.stat().st_uid == os.geteuid():
                owner = f"--reference={shlex.quote(f'{directory}/')}"
        except OSError:
            pass
        return f"give it to the user that runs the gateway: sudo chown {owner} {path} (its mode stays 0600)"

    def _create(self) -> None:
        # A locally administered EUI-64: bit 0x02 of the first byte set, multicast bit clear.
        gateway = bytes([0x02]) + secrets.token_bytes(7)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            GatewayRegistry(gateway, _DEFAULT_SITE).save(self.path)
        except (OSError, SecurityError) as error:
            raise GatewayError(
                f"no registry can be made at {self.path}: {error}",
                remedy="name an existing one with --registry, or a writable directory with --state",
            ) from error
        _log.warning(
            "made an empty registry %s for gateway %s, site %r: no device is enrolled yet, so every frame is "
            "refused as `stranger`; enrol one with `slimwire provision up`, or copy a registry there",
            self.path,
            gateway.hex(),
            _DEFAULT_SITE,
        )
