"""Who may ask the edge server: in front of every route but those that supervisors ask."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from slimwire.transport import TransportError, authorized, read_tokens

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

log = logging.getLogger(__name__)

#: What anybody may ask.
OPEN = frozenset({"/healthz", "/readyz"})


class Guard:
    """An ASGI application in front of another one.

    Args:
        app: what is behind it.
        token_file: secret file; any of its tokens is one that may.
        refuse: answers a request that shows none.

    Raises:
        TransportError: the secret file cannot be used.
    """

    def __init__(self, app: App, token_file: Path, refuse: App) -> None:
        self._app = app
        self._path = token_file
        self._refuse = refuse
        self._tokens = read_tokens(token_file)

    def renew(self) -> None:
        """Read the secret file again; one that cannot be used is logged, and the tokens before stay."""
        try:
            self._tokens = read_tokens(self._path)
        except TransportError as error:
            log.error("the changed secret file is not used, the tokens before stay in force: %s", error)
            return
        log.info("the secret file %s was read again: %d tokens", self._path, len(self._tokens))

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Pass on what may pass."""
        asked = scope["type"] == "http" and scope["path"] not in OPEN
        app = self._app if not asked or authorized(_shown(scope), self._tokens) else self._refuse
        await app(scope, receive, send)


def _shown(scope: Scope) -> str | None:
    """The Authorization header; None where there is none, or more than one."""
    found = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    return found[0].decode("latin-1") if len(found) == 1 else None
