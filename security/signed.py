"""Signed registries: who may tell a service which devices exist (docs/adr/0012, docs/protocol.md section 7).

```
{"format": 2, "kind": "gateway" | "edge", "key": 16 hex digits, "signature": 128 hex digits, "body": text}
```

`body` is a whole registry of format 1 as text. The Ed25519 signature (RFC 8032) covers

    "slimwire/registry" ‖ 00 ‖ kind ‖ 00 ‖ SHA-256(body in UTF-8)

so neither a byte of the body nor which service it is for can change. `key` names the signing key: the first
8 bytes of SHA-256 of its public half.

A service that is told a public key accepts only what that key has signed, and only forward: `Gate` remembers
the highest version on disk. Time and freshness are no part of this: who holds back the newest file holds back
what it says, a revocation included.
"""

import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from security import durable
from security.errors import RegistryError

FORMAT = 2
KEY_LENGTH = 32
SIGNATURE_LENGTH = 64

_CONTEXT = b"slimwire/registry"
_MEMBERS = {"format", "kind", "key", "signature", "body"}

#: Every reason for which a registry file is refused; services count them by these names.
REASONS = {
    "registry-unreadable": "The file is missing, not private, or the system does not let it be read.",
    "registry-damaged": "Not the JSON of a registry, or of another format.",
    "registry-unsigned": "Not signed, at a service that was told a public key.",
    "registry-wrong-kind": "Signed for the other service: gateway and edge server have a file each.",
    "registry-wrong-key": "Signed with another key than the service was told.",
    "registry-bad-signature": "The signature does not fit the bytes: altered, or forged.",
    "registry-rollback": "A lower version than one that was accepted before.",
    "registry-conflict": "Other content under the version that was accepted before.",
    "registry-too-large": "The devices' reserves do not fit the memory limit.",
}


def message(kind: str, body: bytes) -> bytes:
    """What a signature covers."""
    return b"\0".join((_CONTEXT, kind.encode(), hashlib.sha256(body).digest()))


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """The public half of a site's signing key.

    Attributes:
        raw: 32 bytes, as RFC 8032 encodes it.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_LENGTH:
            raise ValueError(f"a public key has {len(self.raw)} bytes, expected {KEY_LENGTH}")

    @property
    def id(self) -> str:
        """16 hex digits that name it."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From 64 hex digits. Raises RegistryError."""
        if not re.fullmatch("[0-9a-fA-F]{64}", text.strip()):
            raise RegistryError(
                "a registry's public key cannot be read",
                expected="64 hex digits, as `slimwire provision key` prints them",
                remedy="copy the site's registry.pub",
            )
        return cls(bytes.fromhex(text.strip()))

    @classmethod
    def load(cls, path: Path) -> Self:
        """From a file that holds `parse`'s text. Raises RegistryError."""
        try:
            text = path.read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise RegistryError(
                f"the registry's public key {path} cannot be read: {reason}",
                expected="a registry.pub of the site, 64 hex digits",
                remedy="copy it from the machine that enrols; without it no registry can be checked",
            ) from None
        return cls.parse(text)

    @classmethod
    def of(cls, text: str) -> Self:
        """From a setting: 64 hex digits, or the path of a file that holds them. Raises RegistryError."""
        return cls.parse(text) if re.fullmatch("[0-9a-fA-F]{64}", text.strip()) else cls.load(Path(text))

    def check(self, kind: str, body: bytes, signature: bytes) -> bool:
        """Whether this key signed this body for that kind of service."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message(kind, body))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A site's signing key. No key appears in a repr.

    Attributes:
        seed: the 32 secret bytes of RFC 8032.
    """

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != KEY_LENGTH:
            raise ValueError(f"a signing key has {len(self.seed)} bytes, expected {KEY_LENGTH}")

    @classmethod
    def generate(cls) -> Self:
        """A new one."""
        return cls(secrets.token_bytes(KEY_LENGTH))

    @property
    def public(self) -> VerifyKey:
        """Its public half."""
        return VerifyKey(Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    def sign(self, kind: str, body: bytes) -> bytes:
        """The 64-byte signature of a body for a kind of service."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message(kind, body))

    def envelope(self, kind: str, body: str) -> dict[str, Any]:
        """The signed file as an object."""
        return {
            "format": FORMAT,
            "kind": kind,
            "key": self.public.id,
            "signature": self.sign(kind, body.encode()).hex(),
            "body": body,
        }


def open_envelope(tree: Any, kind: str, trusted: VerifyKey | None, where: str) -> str:
    """The body of a signed file.

    Args:
        tree: the parsed file, `{"format": 2, ...}`.
        kind: which service asks.
        trusted: whose signature counts; None checks none: for tools that only look.
        where: what to call the file in errors.

    Raises:
        RegistryError: with one of `REASONS`.
    """
    texts = isinstance(tree, dict) and set(tree) == _MEMBERS
    texts = texts and all(isinstance(tree[name], str) for name in _MEMBERS - {"format"})
    if not texts or not re.fullmatch("[0-9a-f]{128}", tree["signature"]):
        raise RegistryError(
            f"{where} is no signed registry",
            expected=f"exactly {', '.join(sorted(_MEMBERS))}; a signature has 128 hex digits",
            remedy="copy the file anew from the machine that enrols",
        )
    if tree["kind"] != kind:
        raise RegistryError(
            f"{where} is signed for the {tree['kind'][:20]!r}",
            expected=f"the registry of the {kind}",
            remedy="give the gateway registry.json, the edge server edge-registry.json",
            reason="registry-wrong-kind",
        )
    body = str(tree["body"])
    if trusted is None:
        if re.search("[\ud800-\udfff]", body):
            raise RegistryError(
                f"{where} is no signed registry",
                expected="a body that UTF-8 can spell",
                remedy="copy the file anew from the machine that enrols",
            )
        return body
    if tree["key"] != trusted.id:
        raise RegistryError(
            f"{where} is signed with the key {tree['key'][:16]!r}",
            expected=f"the site's key {trusted.id}",
            remedy="copy the registry of this site; if the site has a new key, tell the service its "
            "registry.pub",
            reason="registry-wrong-key",
        )
    try:
        fits = trusted.check(kind, body.encode(), bytes.fromhex(tree["signature"]))
    except UnicodeEncodeError:  # a lone surrogate that JSON can spell and UTF-8 cannot
        fits = False
    if not fits:
        raise RegistryError(
            f"the signature of {where} does not fit its content",
            expected=f"what the key {trusted.id} signed, byte for byte",
            remedy="somebody or something altered the file: copy it anew from the machine that enrols",
            reason="registry-bad-signature",
        )
    return body


class Gate:
    """What a service accepts as its registry: signed by the site, and never older than what it had.

    Can only move forward. Without a key it still refuses a lower version while it runs, and remembers
    nothing.

    Args:
        kind: "gateway" or "edge".
        trusted: the site's public key; None: registries aren't checked, and the service should say so.
        memory: file that keeps the highest version over restarts; used only with a key. None: forgotten.

    Raises:
        RegistryError: the file is damaged, or remembers another key.

    Attributes:
        version: the highest version accepted, -1 before the first.
    """

    def __init__(self, kind: str, trusted: VerifyKey | None, memory: Path | None = None) -> None:
        self.kind = kind
        self.trusted = trusted
        self.version = -1
        self._digest = ""
        self._memory = memory
        self._recall()

    def admit(self, version: int, body: str, where: str) -> None:
        """Accept a registry whose signature was checked; durable when this returns.

        Raises:
            RegistryError: `registry-rollback` or `registry-conflict`, or the memory cannot be written.
        """
        digest = hashlib.sha256(body.encode()).hexdigest()
        if version < self.version:
            raise RegistryError(
                f"{where} has version {version}",
                expected=f"{self.version} or more: that version was accepted before",
                remedy="copy the newest registry; after a restored backup, let `slimwire provision restore` "
                "publish one",
                reason="registry-rollback",
            )
        if self.trusted is not None and version == self.version and digest != self._digest:
            raise RegistryError(
                f"{where} has version {version} with other content than the version {version} before",
                expected="a higher version for other content",
                remedy="two machines enrol for this site: let one of them do it",
                reason="registry-conflict",
            )
        if (version, digest) == (self.version, self._digest):
            return
        self._keep(version, digest)
        self.version, self._digest = version, digest

    def _recall(self) -> None:
        if self._memory is None or not self._memory.exists():
            return
        try:
            tree = json.loads(self._memory.read_bytes())
            key, version, digest = str(tree["key"]), int(tree["version"]), str(tree["sha256"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise RegistryError(
                f"{self._memory}, the highest registry version accepted, cannot be read: "
                f"{type(error).__name__}",
                expected="what this service wrote",
                remedy="restore it; removing it lets an older registry in, once",
            ) from None
        if self.trusted is None or key != self.trusted.id:
            told = "no public key" if self.trusted is None else f"the key {self.trusted.id}"
            raise RegistryError(
                f"this service accepted registries of the key {key[:16]!r} so far, and is told {told} now",
                expected="the same key",
                remedy=f"name the site's registry.pub; if the site did change its key, remove {self._memory}",
                reason="registry-wrong-key",
            )
        self.version, self._digest = version, digest

    def _keep(self, version: int, digest: str) -> None:
        if self._memory is None or self.trusted is None:
            return
        tree = {"format": 1, "key": self.trusted.id, "version": version, "sha256": digest}
        try:
            self._memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.replace(self._memory, json.dumps(tree).encode() + b"\n")
        except OSError as error:
            raise RegistryError(
                f"the registry's version cannot be kept in {self._memory}: {error.strerror}",
                remedy="give the service a state directory that it can write",
                reason="registry-unreadable",
            ) from None
