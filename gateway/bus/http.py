"""`POST /v1/ingest`: batches to an edge server over HTTP (docs/protocol.md, section 6)."""

from collections.abc import Sequence

import httpx

from gateway.bus.access import Access
from gateway.bus.base import BusError, RefusedError, UnauthorizedError
from wire.batch import CONTENT_TYPE, AnswerItem, IngestItem, emit_request, parse_response
from wire.errors import WireError

#: Statuses below 500 that pass by themselves.
_PASSING = (408, 425, 429)
#: It does not take us for who we are: no message's fault.
_UNAUTHORIZED = (401, 403)


class HttpBus:
    """A `Bus` to one base URL.

    Args:
        url: such as `http://127.0.0.1:8080`.
        timeout: s that one exchange may take.
        access: certificates and token.
        transport: replaces httpx's own, for an edge server in the same process.

    Raises:
        TransportError: a file of `access` cannot be used.
    """

    def __init__(
        self,
        url: str,
        timeout: float,
        *,
        access: Access | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.description = url.rstrip("/")
        self._url = self.description + "/v1/ingest"
        self._timeout = timeout
        self._access = access or Access()
        self._transport = transport
        self._client = self._made()
        self._before: httpx.AsyncClient | None = None

    def _made(self) -> httpx.AsyncClient:
        secure = self.description.startswith("https://") and self._transport is None
        return httpx.AsyncClient(
            timeout=self._timeout,
            transport=self._transport,
            trust_env=False,
            headers=self._access.headers(),
            verify=self._access.context() if secure else False,
        )

    def renew(self) -> None:
        """Read certificates and token again, and use them from the next exchange on.

        Raises:
            TransportError: one cannot be used; those before stay.
        """
        made = self._made()
        self._before, self._client = self._before or self._client, made

    async def exchange(self, items: Sequence[IngestItem]) -> list[AnswerItem]:
        """See `Bus`."""
        if self._before is not None:
            before, self._before = self._before, None
            await before.aclose()
        try:
            response = await self._client.post(
                self._url, content=emit_request(items), headers={"Content-Type": CONTENT_TYPE}
            )
            if response.status_code in _UNAUTHORIZED:
                raise UnauthorizedError(
                    f"HTTP {response.status_code}: it wants another token; put one that it takes in [uplink] "
                    "token_file, and reload"
                )
            if 400 <= response.status_code < 500 and response.status_code not in _PASSING:
                raise RefusedError(f"HTTP {response.status_code}, {response.text[:120]!r}")
            response.raise_for_status()
            answers = parse_response(response.content)
        except (httpx.HTTPError, httpx.InvalidURL, WireError) as error:
            raise BusError(f"{type(error).__name__}: {error}") from error
        if [item[:3] for item in items] != [answer[:3] for answer in answers]:
            raise BusError(
                f"it answered other messages than the {len(items)} it was sent, or in another order"
            )
        return answers

    async def close(self) -> None:
        """See `Bus`."""
        await self._client.aclose()
