"""What the gateway thinks of its devices, kept in a file over restarts.

```
trust.json
{"format": 1, "engine": "PredictiveTrust", "saved": Unix time in s, "trust": the engine's `to_dict()`}
```

Written beside, flushed, and renamed over the old one: a reader finds the old state or the new one. A file
that cannot be used is set aside, never fatal and never overwritten: trust then starts anew.
"""

import hashlib
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


class TrustFile:
    """The file of one engine.

    Args:
        path: of the file; its directory is made when it is first written.
        engine: whose state it holds.
    """

    def __init__(self, path: Path, engine: TrustEngine) -> None:
        self.path = path
        self._engine = engine
        self._written = b""
        self._failed = False

    def restore(self, now: float, wall: float) -> None:
        """Take over what the file says, for the devices enrolled now. Never raises.

        Args:
            now: monotonic time, the engine's clock, s.
            wall: Unix time, s. What passed since the file was written has passed for the engine too.
        """
        engine = self._engine
        try:
            saved, state = self._read()
            down = max(0.0, wall - saved)
            if isinstance(engine, Quarantining):
                engine.advance(now - down)
            engine.restore(state)
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning(
                "%s cannot be read (%s): every device starts at the initial trust; "
                "the file must belong to the user that runs the gateway",
                self.path,
                error.strerror,
            )
        except StateError as error:
            aside = self.path.with_name(self.path.name + ".set-aside")
            try:
                self.path.replace(aside)
            except OSError as failure:
                _log.warning("%s cannot be set aside: %s", self.path, failure.strerror)
            _log.warning(
                "%s is not used and was set aside as %s; every device starts at the initial trust: %s",
                self.path,
                aside.name,
                error,
            )
        else:
            _log.info("trust taken over from %s, %.0f s old", self.path, down)
        if isinstance(engine, Quarantining):
            engine.advance(now)

    def snapshot(self, now: float, wall: float) -> str | None:
        """The file's new text; None if it would say what it says already. Arguments as for `restore`."""
        if isinstance(self._engine, Quarantining):
            self._engine.advance(now)
        state = self._engine.to_dict()
        known = hashlib.sha256(json.dumps(state["identities"]).encode()).digest()
        if known == self._written:
            return None
        self._written = known
        head = {"format": FORMAT, "engine": type(self._engine).__name__, "saved": wall}
        return json.dumps({**head, "trust": state}) + "\n"

    def write(self, text: str) -> None:
        """Write a snapshot: mode 0600, all or nothing, durable. A failure is logged once, not raised."""
        temporary = self.path.with_name(f".{self.path.name}.new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            self._written = b""
            level = logging.DEBUG if self._failed else logging.WARNING
            _log.log(level, "trust cannot be kept in %s: %s; a restart forgets it", self.path, error.strerror)
            self._failed = True
            return
        if self._failed:
            _log.warning("trust is kept in %s again", self.path)
            self._failed = False

    def _read(self) -> tuple[float, Any]:
        """When the file was written, and the engine's state. Raises OSError and StateError."""
        with self.path.open("rb") as file:
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
        if engine != type(self._engine).__name__:
            raise StateError(f"it is the state of {str(engine)[:40]!r}", expected=type(self._engine).__name__)
        return saved, state
