"""One line for each step of a message, at DEBUG: what, device, counter, trace id.

The trace id follows from device, epoch and counter (`trace_id`), so that lines of gateway, edge server and
device logs about one message find each other with nothing more on the air.
"""

import logging
from hashlib import sha256

_log = logging.getLogger("slimwire.trace")


def trace_id(device: bytes, epoch: int, counter: int) -> str:
    """16 hex digits."""
    return sha256(device + epoch.to_bytes(4, "big") + counter.to_bytes(4, "big")).hexdigest()[:16]


def step(what: str, device: bytes, epoch: int, counter: int) -> None:
    """Log that a message came as far as `what`; free where nobody listens."""
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug(
            "%s",
            what,
            extra={"device": device.hex(), "counter": counter, "trace": trace_id(device, epoch, counter)},
        )
