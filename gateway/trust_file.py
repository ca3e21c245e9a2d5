"""The file in which release 0.1 kept what the gateway thinks of its devices: read once, and taken over.

```
trust.json
{"format": 1, "engine": "PredictiveTrust", "saved": Unix time in s, "trust": the engine's `to_dict()`}
```

A file that cannot be used is set aside, never fatal: trust then starts anew.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

from security.errors import StateError
from security.trust import Quarantining, TrustEngine

_log = logging.getLogger("gateway.trust")

FORMAT = 1
NAME = "trust.json"
#: Refused unread beyond this: 10⁵ devices with all their history take 100 MB.
_MAX_FILE = 512 << 20


def restore(path: Path, engine: TrustEngine, now: float, wall: float) -> None:
    """Take over what the file says, for the devices enrolled now. Never raises.

    Args:
        path: of the file.
        engine: whose state it holds.
        now: monotonic time, the engine's clock, s.
        wall: Unix time, s. What passed since the file was written has passed for the engine too.
    """
    try:
        saved, state = _read(path, type(engine).__name__)
        down = max(0.0, wall - saved)
        if isinstance(engine, Quarantining):
            engine.advance(now - down)
        engine.restore(state)
    except OSError as error:
        _log.warning(
            "%s cannot be read (%s): every device starts at the initial trust; "
            "the file must belong to the user that runs the gateway",
            path,
            error.strerror,
        )
    except StateError as error:
        aside = path.with_name(path.name + ".set-aside")
        try:
            path.replace(aside)
        except OSError as failure:
            _log.warning("%s cannot be set aside: %s", path, failure.strerror)
        _log.warning(
            "%s is not used and was set aside as %s; every device starts at the initial trust: %s",
            path,
            aside.name,
            error,
        )
    else:
        _log.info("trust taken over from %s, %.0f s old", path, down)
    if isinstance(engine, Quarantining):
        engine.advance(now)


def _read(path: Path, expected: str) -> tuple[float, Any]:
    """When the file was written, and the engine's state. Raises OSError and StateError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MAX_FILE:
            raise StateError(f"it has {size} bytes", expected=f"at most {_MAX_FILE}")
        text = file.read()
    try:
        tree = json.loads(text)
        found, engine, saved, state = tree["format"], tree["engine"], tree["saved"], tree["trust"]
        saved = float(saved)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise StateError(
            f"it is damaged: {type(error).__name__}", expected="what this gateway wrote"
        ) from None
    if found != FORMAT:
        raise StateError(
            f"it has format {str(found)[:20]!r}",
            expected=str(FORMAT),
            remedy="run the version that wrote it, and put the file back",
        )
    if engine != expected:
        raise StateError(f"it is the state of {str(engine)[:40]!r}", expected=expected)
    return saved, state
