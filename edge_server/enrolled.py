"""The devices this server has keys for: `edge-registry.json`, read again when it changes."""

import logging
from pathlib import Path

from edge_server.errors import EdgeError
from security.errors import RegistryError
from security.registry import EdgeRegistry

log = logging.getLogger(__name__)

#: Seconds between two looks at the file.
LOOK_EVERY = 1.0


class Enrolled:
    """An edge registry that follows its file. A file that goes bad is logged and the last good one kept.

    Args:
        path: of `edge-registry.json`, or None: no devices (the server still classifies images).

    Raises:
        EdgeError: the file is missing or not a registry.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.registry: EdgeRegistry | None = None
        self.problem: str | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._looked = 0.0
        if path is None:
            return
        if not path.exists():
            raise EdgeError(
                f"the registry {path} does not exist",
                expected="an edge-registry.json, as `slimwire provision install --site-dir DIR` writes it",
                remedy="enrol a device first, name another file, or leave --registry out: images only",
            )
        try:
            self.registry = EdgeRegistry.load(path)
        except RegistryError as error:
            raise EdgeError(error.what, expected=error.expected, remedy=error.remedy) from error
        self._stamp = _stamp(path)

    def look(self, now: float) -> None:
        """Read the file again if it changed; at most once a second. `now`: s, monotonic."""
        if self.path is None or now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            stamp = _stamp(self.path)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self.registry = EdgeRegistry.load(self.path)
        except (RegistryError, OSError) as error:
            if self.problem is None:
                log.warning("the registry %s cannot be read, the last good one is kept: %s", self.path, error)
            self.problem = str(error)
            return
        self.problem = None
        log.info("the registry %s changed: %d devices", self.path, len(self))

    def __len__(self) -> int:
        return len(self.registry.devices) if self.registry else 0


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size
