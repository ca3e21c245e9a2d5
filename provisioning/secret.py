"""What opens a fleet vault: a passphrase or a key file, never on a command line, never printed."""

import os
import stat
import sys
from dataclasses import dataclass, field
from getpass import getpass
from pathlib import Path

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from provisioning.errors import ProvisionError

PASSPHRASE = "SLIMWIRE_VAULT_PASSPHRASE"
KEY_FILE = "SLIMWIRE_VAULT_KEY_FILE"

_LEAST_PASSPHRASE = 8
_LEAST_KEY_FILE = 32
_MAX_KEY_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Cost:
    """scrypt's parameters (RFC 7914): n blocks, a power of two; 128·n·r bytes of memory."""

    n: int
    r: int = 8
    p: int = 1

    def valid(self) -> bool:
        """Whether a vault may ask for this: at most 1 GiB, so that a hostile file cannot exhaust memory."""
        power = self.n >= 2 and self.n & (self.n - 1) == 0
        return power and self.n <= 1 << 20 and 1 <= self.r <= 8 and 1 <= self.p <= 4


@dataclass(slots=True)
class Secret:
    """A passphrase or the content of a key file. No repr shows it.

    Attributes:
        material: its bytes. origin: where it came from, for errors.
        cost: what a new vault asks for; 128 MiB and a third of a second for a passphrase.
    """

    material: bytes = field(repr=False)
    origin: str = "the passphrase"
    cost: Cost = Cost(1 << 17)
    _derived: dict[tuple[bytes, Cost], bytes] = field(default_factory=dict, repr=False)

    def key(self, salt: bytes, cost: Cost) -> bytes:
        """The 32-byte key that scrypt makes of it; remembered, since it is dear by design."""
        known = self._derived.get((salt, cost))
        if known is None:
            known = Scrypt(salt=salt, length=32, n=cost.n, r=cost.r, p=cost.p).derive(self.material)
            self._derived[(salt, cost)] = known
        return known


def passphrase(text: str, origin: str = "the passphrase") -> Secret:
    """A secret from a person's passphrase. Raises ProvisionError for fewer than 8 characters."""
    if len(text) < _LEAST_PASSPHRASE:
        raise ProvisionError(
            f"{origin} has {len(text)} characters",
            expected=f"at least {_LEAST_PASSPHRASE}; six random words are better",
        )
    return Secret(text.encode(), origin)


def key_file(path: Path) -> Secret:
    """A secret from a file of random bytes, 32 or more. Raises ProvisionError, also where others read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_MAX_KEY_FILE + 1)
    except OSError as error:
        raise ProvisionError(
            f"the vault's key file {path} cannot be read: {error.strerror}",
            remedy=f"make one: head -c 32 /dev/urandom > {path}; chmod 600 {path}",
        ) from None
    if mode & 0o077:
        raise ProvisionError(
            f"the vault's key file {path} has mode {mode:04o}",
            expected="mode 0600: nobody but its owner reads it",
            remedy=f"chmod 600 {path}; if others may have read it, make a new vault key",
        )
    if not _LEAST_KEY_FILE <= len(content) <= _MAX_KEY_FILE:
        raise ProvisionError(
            f"the vault's key file {path} has {len(content)} bytes",
            expected=f"{_LEAST_KEY_FILE} random bytes or more",
        )
    return Secret(content, f"the key file {path}", Cost(1 << 14))


def find(
    *, key: Path | None = None, file: Path | None = None, stdin: bool = False, new: bool = False
) -> Secret:
    """The secret, from the first of: `key`, `file`, stdin, the environment, a prompt on the terminal.

    Args:
        key: a key file. file: a file whose first line is the passphrase. stdin: read that line from stdin.
        new: whether a vault is about to be made: a prompt then asks twice.

    Raises:
        ProvisionError: there is none, or it cannot be used.
    """
    if key is not None:
        return key_file(key)
    if file is not None:
        try:
            return passphrase(_first_line(file.read_text()), f"the passphrase in {file}")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ProvisionError(f"the passphrase file {file} cannot be read: {reason}") from None
    if stdin:
        return passphrase(_first_line(sys.stdin.readline()), "the passphrase on stdin")
    if PASSPHRASE in os.environ:
        return passphrase(os.environ[PASSPHRASE], f"the passphrase in ${PASSPHRASE}")
    if KEY_FILE in os.environ:
        return key_file(Path(os.environ[KEY_FILE]))
    if sys.stdin is None or not sys.stdin.isatty():
        raise ProvisionError(
            "the fleet vault needs its passphrase, and there is no terminal to ask on",
            remedy=f"--key-file, --passphrase-file or --passphrase-stdin, or ${PASSPHRASE} or ${KEY_FILE}",
        )
    typed = getpass("passphrase of the fleet vault: ")
    if new and getpass("the same again: ") != typed:
        raise ProvisionError("the two passphrases differ", remedy="try again")
    return passphrase(typed)


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0].rstrip("\r")
