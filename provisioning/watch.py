"""What a running gateway says of a device, asked through its admin socket (docs/services.md).

A message is counted there only once its fragments' keyed tags were verified: that is how an installation is
proved.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from provisioning.errors import GatewayAwayError, NotHeardError

_TIMEOUT_S = 5.0
_POLL_S = 0.1


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("gateway", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


class Gateway:
    """A running gateway.

    Args:
        paths: where its admin socket may be; the first one that exists is used.

    Attributes:
        clock: the gateway machine's Unix time when it last answered, s; None: it did not say.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self.path = next((path for path in paths if path.exists()), paths[0])
        self.clock: float | None = None

    def status(self) -> dict[str, Any]:
        """`/v1/status`. Raises GatewayAwayError."""
        return self._get("/v1/status")

    def check(self, gateway: bytes, site: str) -> None:
        """See that it is the gateway of this site. Raises GatewayAwayError."""
        status = self.status()
        found = status["gateway"], status["site"]
        if found != (gateway.hex(), site):
            raise GatewayAwayError(
                f"the gateway that answers at {self.path} is {found[0]} of the site {found[1]!r}",
                expected=f"{gateway.hex()} of the site {site!r}",
                remedy="start it with this site's registry (slimwire gateway run --registry ...), or name "
                "the right gateway's socket: [gateway] admin in the site file",
            )

    def mark(self) -> int:
        """How far its journal is now: what `wait` starts from."""
        return int(self._get("/v1/delivered?since=9999999999999")["seq"])

    def heard(self, device: str, epoch: int, since: int) -> int | None:
        """The counter of the device's first message after `since` under this epoch or a later one, to which
        it may have been ordered; None: none yet.
        """
        for message in self._get(f"/v1/delivered?since={since}")["messages"]:
            if message["device"] == device and message["epoch"] >= epoch:
                return int(message["counter"])
        return None

    def device(self, device: str) -> dict[str, Any] | None:
        """What `/v1/devices` says of a device; None: it is not enrolled there."""
        return next((each for each in self.devices() if each["device"] == device), None)

    def devices(self) -> list[dict[str, Any]]:
        """What `/v1/devices` says of every enrolled device. Raises GatewayAwayError."""
        found: list[dict[str, Any]] = self._get("/v1/devices")["devices"]
        return found

    def wait(
        self, device: str, epoch: int, since: int, seconds: float, idle: Callable[[], None] = lambda: None
    ) -> int:
        """Wait for an authenticated message of the device under this epoch; returns its counter. `idle` is
        called meanwhile, and may raise.

        Raises:
            NotHeardError: none came in time; says what was seen instead.
            GatewayAwayError: the gateway stopped answering.
        """
        before = (self.device(device) or {}).get("rejected", 0)
        end = time.monotonic() + seconds
        while True:
            counter = self.heard(device, epoch, since)
            if counter is not None:
                return counter
            if time.monotonic() > end:
                raise self._silence(device, seconds, before)
            idle()
            time.sleep(_POLL_S)

    def _silence(self, device: str, seconds: float, before: int) -> NotHeardError:
        known = self.device(device)
        if known is None:
            return NotHeardError(
                f"the gateway does not know {device} {seconds:.0f} s after it was enrolled",
                remedy="see that it runs with this site's registry, and what it logs about reading it",
            )
        if known["revoked"]:
            return NotHeardError(f"{device} is revoked at the gateway", remedy="re-enrol it")
        refused = int(known["rejected"]) - int(before)
        if refused > 0:
            return NotHeardError(
                f"the gateway refused {refused} fragments of {device} in {seconds:.0f} s",
                expected="one message that it takes",
                remedy="slimwire gateway status tells the reasons; slimwire provision doctor compares keys",
            )
        return NotHeardError(
            f"the gateway heard nothing of {device} in {seconds:.0f} s",
            remedy="see what the board says (slimwire provision logs), that host and port in the site file "
            "are the gateway's as seen from the board, and that no firewall drops UDP to it",
        )

    def _get(self, path: str) -> dict[str, Any]:
        connection = _Connection(self.path)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            content = response.read()
            date = response.getheader("date")
            if response.status != 200:
                raise GatewayAwayError(f"the gateway at {self.path} answered HTTP {response.status}")
            if date:
                self.clock = parsedate_to_datetime(date).timestamp()
            answer: dict[str, Any] = json.loads(content)
            return answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise GatewayAwayError(
                f"no gateway answers at {' or '.join(map(str, self._paths))}: {error}",
                remedy="start it (slimwire gateway run --registry ...), or name its socket: [gateway] admin "
                "in the site file; --no-wait installs without it",
            ) from error
        finally:
            connection.close()
