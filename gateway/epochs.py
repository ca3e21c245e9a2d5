"""Which key epochs of a device are still accepted while its keys rotate (docs/protocol.md, section 8).

A registry may name several epochs of one device. Each is accepted until 24 hours after the first whole
message in a later one: what the device still had under way has arrived by then, or was sealed anew. A device
that never moves on is never locked out.

Pure: times are monotonic seconds, passed in. `EpochsFile` keeps them over restarts.
"""

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from security import durable

_log = logging.getLogger("gateway.epochs")

#: How long an epoch outlives the first message in a later one, s.
GRACE = 24 * 3600.0
FILE = "epochs.json"
_FORMAT = 1


class Epochs:
    """When each epoch of each rotating device was first heard.

    Args:
        grace: s.

    Attributes:
        changed: whether something is known that was not when this was last cleared; the keeper's to clear.
    """

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._first: dict[bytes, dict[int, float]] = {}
        self._registry: Mapping[bytes, Collection[int]] | None = None
        self.changed = False

    def heard(self, device: bytes, epoch: int, now: float) -> None:
        """A whole message of a device that has several epochs was verified."""
        first = self._first.setdefault(device, {})
        if epoch not in first:
            first[epoch] = now
            self.changed = True

    def retired(self, device: bytes, epoch: int, now: float) -> bool:
        """Whether the device has moved on from this epoch for longer than the grace."""
        first = self._first.get(device)
        return first is not None and any(e > epoch and now - at >= self._grace for e, at in first.items())

    def newest(self, device: bytes) -> int | None:
        """The highest epoch heard of a rotating device; None if it has none or was not heard."""
        return max(self._first.get(device, ()), default=None)

    def keep(self, registry: Mapping[bytes, Collection[int]]) -> None:
        """Forget what the registry, device -> epochs, does not name; `restore` brings none of it back."""
        self._registry = registry
        self._first = {
            device: {epoch: at for epoch, at in first.items() if epoch in registry[device]}
            for device, first in self._first.items()
            if device in registry
        }

    def ages(self, now: float) -> dict[str, dict[str, float]]:
        """Seconds since each was first heard, by EUI-64 in hex and epoch: what is stored."""
        return {
            device.hex(): {str(epoch): round(now - at, 3) for epoch, at in first.items()}
            for device, first in self._first.items()
        }

    def restore(self, ages: Mapping[str, Mapping[str, float]], now: float) -> None:
        """The inverse of `ages`. Raises ValueError, TypeError or AttributeError for anything else."""
        self._first = {
            bytes.fromhex(device): {int(epoch): now - float(age) for epoch, age in first.items()}
            for device, first in ages.items()
        }
        if self._registry is not None:
            self.keep(self._registry)


class EpochsFile:
    """The file of one gateway's epochs. Where it cannot be read or written, old epochs live longer."""

    def __init__(self, path: Path, epochs: Epochs) -> None:
        self.path = path
        self._epochs = epochs
        self._failed = False

    def restore(self, now: float, wall: float) -> None:
        """Take over what the file says. now: monotonic s; wall: Unix time, s. Never raises."""
        try:
            tree = json.loads(self.path.read_text())
            if tree["format"] != _FORMAT:
                raise ValueError
            down = max(0.0, wall - float(tree["saved"]))
            self._epochs.restore(tree["ages"], now - down)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            _log.warning(
                "%s cannot be used (%s): old key epochs are accepted for another day",
                self.path,
                type(error).__name__,
            )

    def write(self, now: float, wall: float) -> None:
        """Keep what is known; arguments as for `restore`. A failure is logged once."""
        if not self._epochs.changed:
            return
        text = json.dumps({"format": _FORMAT, "saved": wall, "ages": self._epochs.ages(now)}) + "\n"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.replace(self.path, text.encode())
        except OSError as error:
            level = logging.DEBUG if self._failed else logging.WARNING
            _log.log(level, "key epochs cannot be kept in %s: %s", self.path, error.strerror)
            self._failed = True
            return
        self._failed = self._epochs.changed = False
