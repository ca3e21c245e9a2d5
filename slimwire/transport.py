"""What two services show each other over the network: TLS contexts, and bearer tokens kept in secret files.

A token is a line of printable ASCII. A file may hold several: a server takes any of them, a client shows the
first, so that one can be replaced without a pause.
"""

import hmac
import ipaddress
import os
import re
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path

from slimwire.errors import SlimwireError

#: Characters of a token at least, since fewer could be guessed, and at most.
_SHORTEST, _LONGEST = 16, 512
_TOKEN = re.compile(rf"[!-~]{{{_SHORTEST},{_LONGEST}}}")
#: Tokens in one file at most.
_MOST = 16


class TransportError(SlimwireError):
    """A certificate, a key or a secret file that cannot be used; says which, and what to do."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`, as far as its name says."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_secret(path: Path, most: int) -> bytes:
    """What a secret file holds, `most` bytes of it.

    Raises:
        TransportError: it cannot be read, or others can read it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(most)
    except PermissionError as error:
        raise TransportError(
            f"the secret file {path} cannot be read: {error.strerror}",
            remedy=f"give it to the user that runs the service: sudo chown --reference={path.parent}/ {path}",
        ) from error
    except OSError as error:
        raise TransportError(
            f"the secret file {path} cannot be read: {error.strerror}",
            remedy="correct its path in the settings, or make it: (umask 077; openssl rand -hex 32 > FILE)",
        ) from error
    if mode & 0o077:
        raise TransportError(
            f"the secret file {path} has mode {mode:04o}",
            expected="mode 0600: nobody but its owner reads it",
            remedy=f"chmod 600 {path}, and a new secret, if others may have read this one",
        )
    return data


def read_tokens(path: Path) -> tuple[str, ...]:
    """The tokens in a secret file.

    Raises:
        TransportError: it cannot be read, others can read it, or it holds no token.
    """
    data = read_secret(path, _MOST * (_LONGEST + 2))
    tokens = tuple(line.strip().decode("latin-1") for line in data.splitlines() if line.strip())
    if not 0 < len(tokens) <= _MOST or not all(_TOKEN.fullmatch(token) for token in tokens):
        raise TransportError(
            f"the secret file {path} holds no token",
            expected=f"lines of {_SHORTEST} to {_LONGEST} printable characters, {_MOST} at most",
            remedy=f"(umask 077; openssl rand -hex 32 > {path})",
        )
    return tokens


def authorized(header: str | None, tokens: Sequence[str]) -> bool:
    """Whether an HTTP Authorization header shows one of `tokens`; takes as long for any wrong one."""
    scheme, _, shown = (header or "").partition(" ")
    given = shown.strip().encode("latin-1", "replace")
    right = [hmac.compare_digest(given, token.encode()) for token in tokens]
    return scheme.lower() == "bearer" and any(right)


def bearer(token: str) -> str:
    """The Authorization header that shows a token."""
    return f"Bearer {token}"


def client_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """How a client checks the server, and what it shows of itself.

    Args:
        ca: PEM file of the authority that signed the server's certificate; None: the system's authorities.
        certificate, key: PEM files of our own certificate; the key may be in the same file.

    Raises:
        TransportError: see there.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise _unusable("the certificate authority", ca, error) from error
    if certificate is not None:
        load_certificate(context, certificate, key)
    return context


def server_context(certificate: Path, key: Path | None, client_ca: Path | None) -> ssl.SSLContext:
    """What a server shows of itself; with `client_ca` only clients with a certificate of it get in.

    Raises:
        TransportError: see there.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_certificate(context, certificate, key)
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ssl.SSLError) as error:
            raise _unusable("the clients' certificate authority", client_ca, error) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Show this certificate from the next connection on.

    Raises:
        TransportError: it cannot be used; what `context` showed before, it still shows.
    """
    try:
        # OpenSSL takes a certificate before it looks at the key, and forgets the one before.
        ssl.SSLContext(context.protocol).load_cert_chain(certificate, key)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        pair = f"{certificate}" if key is None else f"{certificate} with the key {key}"
        raise TransportError(
            f"the certificate {pair} cannot be used: {getattr(error, 'strerror', None) or error}",
            expected="a PEM certificate and the private key that belongs to it",
            remedy="correct `certificate` and `key`, or let the service's user read the files",
        ) from error


def _unusable(what: str, path: Path | None, error: OSError) -> TransportError:
    return TransportError(
        f"{what} {path} cannot be used: {error.strerror or error}",
        expected="a PEM file of certificates that this user may read",
        remedy="correct its path in the settings",
    )
