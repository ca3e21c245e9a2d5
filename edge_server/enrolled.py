"""The devices this server has keys for: `edge-registry.json`, read again when it changes."""

import logging
from collections import Counter
from pathlib import Path

from edge_server.errors import EdgeError
from security.errors import RegistryError
from security.registry import EDGE, EdgeRegistry
from security.signed import Gate, VerifyKey

log = logging.getLogger(__name__)

#: Seconds between two looks at the file: less than it takes a person to go from one machine to the other.
LOOK_EVERY = 0.02
#: Seconds after which a key epoch that is new in the registry is ordered: the gateway must have it by then.
ORDER_AFTER = 3.0
#: In the state directory: the highest version accepted of a signed registry.
FLOOR = "edge-registry-floor.json"


class Enrolled:
    """An edge registry that follows its file. A file that goes bad is logged and the last good one kept.

    Args:
        path: of `edge-registry.json`, or None: no devices (the server still classifies images).
        key: the site's public key, 64 hex digits or a file that holds them. Only what it signed is used
            then. None: signatures aren't checked, which is logged.
        state: directory that keeps the highest version accepted of a signed registry, None: forgotten.

    Raises:
        EdgeError: the file is missing, not a registry, not signed as it must be, or older than one that was
            accepted before.

    Attributes:
        registry: what is in force. refused: how often a changed file was not used, by reason
            (`security.signed.REASONS`). problem: why the file as it is now is not used, None if it is.
    """

    def __init__(self, path: Path | None, *, key: str | None = None, state: Path | None = None) -> None:
        self.path = path
        self.refused: Counter[str] = Counter()
        self.registry: EdgeRegistry | None = None
        self.problem: str | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._orders_from: dict[tuple[bytes, int], float] = {}
        self._looked = 0.0
        if path is None:
            return
        if not path.exists():
            raise EdgeError(
                f"the registry {path} does not exist",
                expected="an edge-registry.json, as `slimwire provision site NAME` writes it",
                remedy="enrol a device first, name another file, or leave --registry out: images only",
            )
        try:
            memory = None if state is None else state / FLOOR
            self._gate = Gate(EDGE, None if key is None else VerifyKey.of(key), memory)
            self._stamp = _stamp(path)
            self.registry = EdgeRegistry.load(path, self._gate)
        except RegistryError as error:
            raise EdgeError(error.what, expected=error.expected, remedy=error.remedy) from error
        if key is None:
            log.warning(
                "no public key was given (registry_key): whoever can write %s decides which devices exist; "
                "the site's registry.pub is that key",
                path,
            )

    def look(self, now: float) -> None:
        """Read the file again if it changed; at most every `LOOK_EVERY`. `now`: s, monotonic."""
        if self.path is None or now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        stamp = None
        try:
            stamp = _stamp(self.path)
            if stamp == self._stamp:
                return
            registry = EdgeRegistry.load(self.path, self._gate)
        except (RegistryError, OSError) as error:
            reason = error.reason if isinstance(error, RegistryError) else "registry-unreadable"
            if str(error) != self.problem:
                self.refused[reason] += 1
                log.warning("the changed registry is not used (%s), the last good one is: %s", reason, error)
            self.problem = str(error)
            self._stamp = stamp
            return
        self._stamp = stamp
        self._note_epochs(registry, now)
        self.registry = registry
        self.problem = None
        log.info("the registry %s changed: %d devices", self.path, len(self))

    def order(self, device: bytes, epoch: int, now: float) -> int | None:
        """The key epoch to order a device to that spoke in `epoch`: its newest; None if that is it, or young.

        `now`: s, monotonic.
        """
        entry = self.registry.devices.get(device) if self.registry else None
        newest = max(entry.epochs) if entry else epoch
        if newest <= epoch or now < self._orders_from.get((device, newest), 0.0):
            return None
        return newest

    def _note_epochs(self, registry: EdgeRegistry, now: float) -> None:
        """Newest epochs that were not there before are ordered a little later."""
        before = self.registry.devices if self.registry else {}
        self._orders_from = {key: at for key, at in self._orders_from.items() if at > now}
        for eui, device in registry.devices.items():
            newest = max(device.epochs)
            if eui not in before or newest not in before[eui].epochs:
                self._orders_from[eui, newest] = now + ORDER_AFTER

    def __len__(self) -> int:
        return len(self.registry.devices) if self.registry else 0


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
