"""How the gateway and its edge servers know each other (docs/adr/0021-*.md)."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from slimwire.transport import bearer, client_context, read_tokens


@dataclass(frozen=True)
class Access:
    """What is shown, and what is asked for.

    Attributes:
        ca: PEM file of the authority behind their certificates; None: the system's.
        certificate, key: PEM files of our own certificate.
        token_file: secret file whose first line is the token that we show.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """How to speak TLS. Raises TransportError: a file cannot be used."""
        return client_context(self.ca, self.certificate, self.key)

    def headers(self) -> dict[str, str]:
        """What each request shows. Raises TransportError: the secret file cannot be used."""
        return {} if self.token_file is None else {"Authorization": bearer(read_tokens(self.token_file)[0])}
