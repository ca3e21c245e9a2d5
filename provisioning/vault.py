"""The fleet vault: named secrets in one encrypted file.

An SQLite database of mode 0600. A random data key seals each entry with AES-256-GCM; the data key lies in the
file sealed under a key that scrypt makes of a passphrase or a key file (`provisioning.secret`).

```
header  format, vault id (16), scrypt salt (16), n, r, p, sealed data key
entry   kind, name -> nonce (12) ‖ AES-GCM(JSON); covered besides: context, vault id, kind, name
head    one entry over all others: revision, their number, SHA-256 over (kind, name, sealed bytes) of each
```

The head is written with every transaction, so a lost, doubled or older entry is noticed when the vault is
opened. What it cannot tell is a whole older file from the newest: `Fleet` compares with the registries.

A transaction is all or nothing (synchronous = FULL) and one writer's at a time; another one waits for it.
"""

import hashlib
import json
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from provisioning.errors import ProvisionError
from provisioning.secret import Cost, Secret

FORMAT = 1
FILE = "fleet.vault"

_CONTEXT = b"slimwire/vault/1"
_NONCE = 12
#: How long a writer waits for another one, s.
_PATIENCE = 60.0
_SCHEMA = """
CREATE TABLE header (
  one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER, vault BLOB, salt BLOB,
  n INTEGER, r INTEGER, p INTEGER, sealed BLOB
);
CREATE TABLE entry (kind TEXT, name TEXT, sealed BLOB, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), sealed BLOB);
"""


class VaultError(ProvisionError):
    """A vault cannot be opened, read or written; says which and what to do, never what is in it."""

    exit_code = 11


class VaultSecretError(VaultError):
    """A vault does not open with this passphrase or key file."""

    exit_code = 12


class Vault:
    """An open vault. Use as `with Vault.open(path, secret) as vault:`.

    Attributes:
        path: its file.
    """

    def __init__(self, path: Path, db: sqlite3.Connection, identifier: bytes, key: bytes) -> None:
        self.path = path
        self._db = db
        self._id = identifier
        self._cipher = AESGCM(key)
        self._writing = False

    @classmethod
    def create(cls, path: Path, secret: Secret) -> Self:
        """Make a vault and open it. Raises VaultError where there is one, or it cannot be written."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            raise VaultError(f"there is a vault {path} already", remedy="open it, or name another") from None
        except OSError as error:
            raise VaultError(f"the vault {path} cannot be made: {error.strerror}") from None
        identifier, salt, key = (secrets.token_bytes(n) for n in (16, 16, 32))
        cost, nonce = secret.cost, secrets.token_bytes(_NONCE)
        wrapping = AESGCM(secret.key(salt, cost))
        sealed = nonce + wrapping.encrypt(nonce, key, _header_data(identifier, salt, cost))
        try:
            db = _connect(path)
            db.executescript(_SCHEMA)
            vault = cls(path, db, identifier, key)
            with vault._transaction():
                db.execute(
                    "INSERT INTO header VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
                    (FORMAT, identifier, salt, cost.n, cost.r, cost.p, sealed),
                )
                vault._write_head(0)
        except (sqlite3.Error, VaultError) as error:
            path.unlink(missing_ok=True)
            raise VaultError(f"the vault {path} cannot be made: {error}") from None
        return vault

    @classmethod
    def open(cls, path: Path, secret: Secret) -> Self:
        """Open a vault and check every entry in it.

        Raises:
            VaultError: it is missing, not private, damaged or truncated, or the secret is another one's.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise VaultError(
                f"the vault {path} cannot be read: {error.strerror}",
                remedy="name the site's directory, or restore a backup: slimwire provision restore",
            ) from None
        if status.st_mode & 0o077:
            raise VaultError(
                f"the vault {path} has mode {stat.S_IMODE(status.st_mode):04o}",
                expected="mode 0600: nobody but its owner reads it",
                remedy=f"chmod 600 {path}",
            )
        db = None
        try:
            db = _connect(path)
            header = db.execute("SELECT format, vault, salt, n, r, p, sealed FROM header").fetchone()
            if header is None:
                raise _damaged(path, "its header is missing")
            key = _unwrap(path, header, secret)
            vault = cls(path, db, header[1], key)
            if db.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
                raise _damaged(path, "its pages do not fit together")
            db.execute("BEGIN")  # one state of the file, whoever writes meanwhile
            vault._check_head()
            db.execute("ROLLBACK")
        except (sqlite3.Error, TypeError) as error:
            if db is not None:
                db.close()
            raise _damaged(path, str(error)) from None
        except VaultError:
            if db is not None:
                db.close()
            raise
        return vault

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def get(self, kind: str, name: str) -> Any:
        """The entry's value, None where there is none."""
        row = self._db.execute(
            "SELECT sealed FROM entry WHERE kind = ? AND name = ?", (kind, name)
        ).fetchone()
        return None if row is None else self._open(kind, name, row[0])

    def items(self, kind: str) -> Iterator[tuple[str, Any]]:
        """(name, value) of every entry of a kind, by name."""
        rows = self._db.execute("SELECT name, sealed FROM entry WHERE kind = ? ORDER BY name", (kind,))
        for name, sealed in rows.fetchall():
            yield name, self._open(kind, name, sealed)

    def put(self, kind: str, name: str, value: Any) -> None:
        """Write an entry; only inside `writing`. `value`: anything JSON has."""
        assert self._writing, "Vault.put outside Vault.writing"
        sealed = self._seal(kind, name, value)
        self._db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (kind, name, sealed))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction: what is read in it is the newest, what is put is durable once it ends, or not at
        all.

        Raises:
            VaultError: another writer does not come to an end, or the file is damaged or cannot be written.
        """
        with self._transaction():
            revision = self._check_head()
            self._writing = True
            try:
                yield
                self._write_head(revision + 1)
            finally:
                self._writing = False

    @property
    def revision(self) -> int:
        """How many transactions the vault has seen."""
        row = self._db.execute("SELECT sealed FROM head").fetchone()
        return int(self._open("", "head", row[0])["revision"])

    def copy_to(self, path: Path) -> None:
        """Write a backup: the same entries under the same secret. Raises VaultError; never overwrites."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            raise VaultError(f"{path} exists", remedy="name a new file for the backup") from None
        except OSError as error:
            raise VaultError(f"the backup {path} cannot be written: {error.strerror}") from None
        try:
            target = _connect(path)
            self._db.backup(target)  # of one moment, whoever writes meanwhile
            target.close()
            _sync(path)
        except (sqlite3.Error, OSError) as error:
            path.unlink(missing_ok=True)
            raise VaultError(f"the backup {path} cannot be written: {error}") from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise VaultError(
                    f"the vault {self.path} cannot be written: {error}",
                    remedy="see whether its disk is full, or another program holds it; nothing was changed",
                ) from None
            raise _damaged(self.path, str(error)) from None

    def _seal(self, kind: str, name: str, value: Any) -> bytes:
        nonce = secrets.token_bytes(_NONCE)
        text = json.dumps(value, separators=(",", ":")).encode()
        return nonce + self._cipher.encrypt(nonce, text, self._covered(kind, name))

    def _open(self, kind: str, name: str, sealed: bytes) -> Any:
        try:
            text = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], self._covered(kind, name))
        except (InvalidTag, ValueError):
            raise _damaged(self.path, f"the entry {kind} {name} does not open") from None
        return json.loads(text)

    def _covered(self, kind: str, name: str) -> bytes:
        return _CONTEXT + self._id + kind.encode() + b"\0" + name.encode()

    def _digest(self) -> tuple[int, str]:
        digest, count = hashlib.sha256(), 0
        for kind, name, sealed in self._db.execute(
            "SELECT kind, name, sealed FROM entry ORDER BY kind, name"
        ):
            count += 1
            for part in (kind.encode(), name.encode(), sealed):
                digest.update(len(part).to_bytes(4, "big") + part)
        return count, digest.hexdigest()

    def _write_head(self, revision: int) -> None:
        count, digest = self._digest()
        value = {"revision": revision, "entries": count, "sha256": digest}
        self._db.execute("INSERT OR REPLACE INTO head VALUES (1, ?)", (self._seal("", "head", value),))

    def _check_head(self) -> int:
        """The revision. Raises VaultError where the entries are not those that were written last."""
        row = self._db.execute("SELECT sealed FROM head").fetchone()
        if row is None:
            raise _damaged(self.path, "its head is missing")
        head = self._open("", "head", row[0])
        if (head["entries"], head["sha256"]) != self._digest():
            raise _damaged(self.path, "entries are missing, doubled or older than its head")
        return int(head["revision"])


def _header_data(identifier: bytes, salt: bytes, cost: Cost) -> bytes:
    return b"\0".join((_CONTEXT, identifier, salt, f"{cost.n} {cost.r} {cost.p}".encode()))


def _unwrap(path: Path, header: tuple[Any, ...], secret: Secret) -> bytes:
    """The data key."""
    form, identifier, salt, n, r, p, sealed = header
    if form != FORMAT:
        raise VaultError(
            f"the vault {path} has format {str(form)[:20]}",
            expected=str(FORMAT),
            remedy="use the version of slimwire that wrote it",
        )
    numbers = all(type(value) is int for value in (n, r, p))
    texts = all(isinstance(value, bytes) for value in (identifier, salt, sealed))
    if not numbers or not texts or not Cost(n, r, p).valid():
        raise _damaged(path, "its header makes no sense")
    cost = Cost(n, r, p)
    try:
        return AESGCM(secret.key(salt, cost)).decrypt(
            sealed[:_NONCE], sealed[_NONCE:], _header_data(identifier, salt, cost)
        )
    except (InvalidTag, ValueError):
        raise VaultSecretError(
            f"{secret.origin} does not open the vault {path}",
            expected="the passphrase or key file it was made with",
            remedy="try again; nothing was changed. Without it the vault cannot be opened by anybody",
        ) from None


def _damaged(path: Path, how: str) -> VaultError:
    return VaultError(
        f"the vault {path} is damaged or truncated: {how}",
        expected="what slimwire wrote",
        remedy="restore the newest backup: slimwire provision restore",
    )


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    return db


def _sync(path: Path) -> None:
    for name in (path, path.parent):
        handle = os.open(name, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
