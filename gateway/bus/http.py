"""`POST /v1/ingest`: batches to an edge server over HTTP (docs/protocol.md, section 6)."""

from collections.abc import Sequence

import httpx

from gateway.bus.base import BusError, RefusedError
from wire.batch import CONTENT_TYPE, AnswerItem, IngestItem, emit_request, parse_response
from wire.errors import WireError

#: Statuses below 500 that pass by themselves.
_PASSING = (408, 425, 429)


class HttpBus:
    """A `Bus` to one base URL.

    Args:
        url: such as `http://127.0.0.1:8080`.
        timeout: s that one exchange may take.
        transport: replaces httpx's own, for an edge server in the same process.
    """

    def __init__(
        self, url: str, timeout: float, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.description = url.rstrip("/")
        self._url = self.description + "/v1/ingest"
        self._client = httpx.AsyncClient(timeout=timeout, transport=transport, trust_env=False)

    async def exchange(self, items: Sequence[IngestItem]) -> list[AnswerItem]:
        """See `Bus`."""
        try:
            response = await self._client.post(
                self._url, content=emit_request(items), headers={"Content-Type": CONTENT_TYPE}
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
