"""Device registries: versioned JSON files, readable by their owner only.

```
registry.json (a gateway's)
{"format": 1, "version": 3, "site": "north field", "gateway": "02...", "devices": {
  "02...": {"name": "pump 1", "epochs": {"0": {"frag_up": hex, "frag_dn": hex}},
             "revoked": false}}}

edge-registry.json (an edge server's)
{"format": 1, "version": 3, "devices": {
  "02...": {"name": "pump 1", "epochs": {"0": {"msg_up": hex, "msg_dn": hex, "salt": hex}},
             "revoked": false}}}
```

`format` is that of the file; `version` counts its revisions. Devices and the gateway are EUI-64s of 16 hex
digits. A device may have several epochs while keys rotate, no two of them equal mod 4.

A signed registry (`security.signed`) has such a text inside; both are read, unless a `Gate` with a key
decides.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, NoReturn, Self, TypeVar

from security import durable
from security.errors import RegistryError
from security.keys import EdgeKeys, GatewayKeys
from security.signed import FORMAT as SIGNED_FORMAT
from security.signed import Gate, SigningKey, open_envelope

FORMAT = 1
GATEWAY = "gateway"
EDGE = "edge"
MAX_FILE = 64 << 20

K = TypeVar("K", GatewayKeys, EdgeKeys)


@dataclass(frozen=True, slots=True)
class Device(Generic[K]):
    """One enrolled device.

    Attributes:
        eui: EUI-64.
        name: what people call it.
        epochs: full epoch -> keys.
        revoked: enrolled once, refused now.
    """

    eui: bytes
    name: str
    epochs: Mapping[int, K]
    revoked: bool = False

    def keys_for(self, epoch_mod4: int) -> tuple[int, K] | None:
        """(full epoch, keys) of the epoch whose two low bits these are; None if the registry has none."""
        for epoch, keys in self.epochs.items():
            if epoch & 3 == epoch_mod4:
                return epoch, keys
        return None


@dataclass(slots=True)
class GatewayRegistry:
    """What a gateway knows of its devices.

    Attributes:
        gateway: the gateway's own EUI-64.
        site: name of the site; it is part of the keys' derivation.
        version: revision of the file, counted up by whoever changes it.
        devices: by EUI-64.
    """

    gateway: bytes
    site: str
    version: int = 1
    devices: dict[bytes, Device[GatewayKeys]] = field(default_factory=dict)

    def lookup(self, eui: bytes, epoch_mod4: int) -> tuple[int, GatewayKeys] | None:
        """(full epoch, keys) for a message; None if the device is unknown, revoked, or has no such epoch.

        `devices` tells which of the three it is.
        """
        return _lookup(self.devices, eui, epoch_mod4)

    def save(self, path: Path | str, signer: SigningKey | None = None) -> None:
        """Write the file anew: mode 0600, all or nothing, durable when this returns. Raises RegistryError.

        Args:
            signer: the site's signing key; None writes an unsigned file.
        """
        _write(Path(path), self.body(), GATEWAY, signer)

    def body(self) -> dict[str, Any]:
        """The file's content as an object. It holds keys."""
        own = {"site": self.site, "gateway": self.gateway.hex()}
        return {"format": FORMAT, "version": self.version, **own, "devices": _emit(self.devices)}

    @classmethod
    def load(cls, path: Path | str, gate: Gate | None = None) -> Self:
        """Read and check the file. Raises RegistryError, never with a key in its text.

        Args:
            gate: what a service accepts; None reads a signed file without checking its signature, for tools
                that only look.
        """
        reader = _Reader(Path(path), GATEWAY, gate)
        made = cls._read(reader, reader.file())
        reader.admit(made.version)
        return made

    @classmethod
    def parse(cls, body: Any, origin: str) -> Self:
        """From what `body` gave; `origin` names it in errors. Raises RegistryError."""
        return cls._read(_Reader(Path(origin), GATEWAY, None), body)

    @classmethod
    def _read(cls, reader: "_Reader", tree: Any) -> Self:
        reader.head(tree, "site", "gateway")
        return cls(
            gateway=reader.eui(tree["gateway"], "gateway"),
            site=reader.text(tree["site"], "site"),
            version=reader.number(tree["version"], "version"),
            devices=reader.devices(tree["devices"], GatewayKeys),
        )


@dataclass(slots=True)
class EdgeRegistry:
    """What an edge server knows of its devices. Attributes and methods as in `GatewayRegistry`."""

    version: int = 1
    devices: dict[bytes, Device[EdgeKeys]] = field(default_factory=dict)

    def lookup(self, eui: bytes, epoch_mod4: int) -> tuple[int, EdgeKeys] | None:
        """See `GatewayRegistry.lookup`."""
        return _lookup(self.devices, eui, epoch_mod4)

    def save(self, path: Path | str, signer: SigningKey | None = None) -> None:
        """See `GatewayRegistry.save`."""
        _write(Path(path), self.body(), EDGE, signer)

    def body(self) -> dict[str, Any]:
        """See `GatewayRegistry.body`."""
        return {"format": FORMAT, "version": self.version, "devices": _emit(self.devices)}

    @classmethod
    def load(cls, path: Path | str, gate: Gate | None = None) -> Self:
        """See `GatewayRegistry.load`."""
        reader = _Reader(Path(path), EDGE, gate)
        made = cls._read(reader, reader.file())
        reader.admit(made.version)
        return made

    @classmethod
    def parse(cls, body: Any, origin: str) -> Self:
        """See `GatewayRegistry.parse`."""
        return cls._read(_Reader(Path(origin), EDGE, None), body)

    @classmethod
    def _read(cls, reader: "_Reader", tree: Any) -> Self:
        reader.head(tree)
        return cls(
            version=reader.number(tree["version"], "version"),
            devices=reader.devices(tree["devices"], EdgeKeys),
        )


def _lookup(devices: Mapping[bytes, Device[K]], eui: bytes, epoch_mod4: int) -> tuple[int, K] | None:
    device = devices.get(eui)
    return None if device is None or device.revoked else device.keys_for(epoch_mod4)


def _secrets_of(keys: type[K]) -> list[str]:
    return [f.name for f in fields(keys) if f.init]


def _emit(devices: Mapping[bytes, Device[K]]) -> dict[str, Any]:
    return {
        device.eui.hex(): {
            "name": device.name,
            "epochs": {
                str(epoch): {name: getattr(keys, name).hex() for name in _secrets_of(type(keys))}
                for epoch, keys in sorted(device.epochs.items())
            },
            "revoked": device.revoked,
        }
        for device in devices.values()
    }


class _Reader:
    """Checks a registry file value by value; every refusal names the file and the place in it."""

    def __init__(self, path: Path, kind: str, gate: Gate | None) -> None:
        self.path = path
        self.kind = kind
        self.gate = gate
        self.body = ""

    def refuse(self, where: str, expected: str) -> NoReturn:
        raise RegistryError(
            f"registry {self.path}: {where} cannot be used",
            expected=expected,
            remedy="restore the file from a backup, or enrol its devices anew",
        )

    def file(self) -> dict[str, Any]:
        """The registry in the file, once its signature is checked."""
        trusted = self.gate.trusted if self.gate else None
        try:
            self.body = _read(self.path).decode()
        except UnicodeDecodeError:
            self.refuse("its text", "one JSON object")
        tree = self.tree(self.body)
        if tree["format"] == SIGNED_FORMAT:
            self.body = open_envelope(tree, self.kind, trusted, f"registry {self.path}")
            tree = self.tree(self.body)
        elif trusted is not None:
            raise RegistryError(
                f"registry {self.path} is not signed",
                expected=f"a registry signed with the site's key {trusted.id}",
                remedy="copy the registry that `slimwire provision` wrote for this site",
                reason="registry-unsigned",
            )
        return tree

    def head(self, tree: Any, *own: str) -> None:
        if not isinstance(tree, dict) or "format" not in tree:
            self.refuse("its top level", "an object with a format")
        if tree["format"] != FORMAT or type(tree["format"]) is not int:
            raise RegistryError(
                f"registry {self.path} has format {str(tree['format'])[:20]!r}",
                expected=f"format {FORMAT}",
                remedy="upgrade slimwire on this machine, or enrol again with the version installed here",
            )
        self.members(tree, "its top level", "format", "version", "devices", *own)

    def tree(self, text: str) -> dict[str, Any]:
        try:
            tree = json.loads(text, object_pairs_hook=self._object)
        except (ValueError, RecursionError):  # ValueError: no JSON, or a number of thousands of digits
            self.refuse("its text", "one JSON object")
        if not isinstance(tree, dict) or "format" not in tree:
            self.refuse("its top level", "an object with a format")
        return tree

    def admit(self, version: int) -> None:
        if self.gate is not None:
            self.gate.admit(version, self.body, f"registry {self.path}")

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            self.refuse("an object that names one member twice", "each name once")
        return result

    def members(self, value: Any, where: str, *names: str) -> dict[str, Any]:
        if not isinstance(value, dict) or set(value) != set(names):
            self.refuse(where, f"an object of exactly {', '.join(names)}")
        return value

    def text(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            self.refuse(where, "text")
        return value

    def number(self, value: Any, where: str) -> int:
        if type(value) is not int or value < 0:
            self.refuse(where, "a number, 0 or more")
        return value

    def eui(self, value: Any, where: str) -> bytes:
        if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{16}", value):
            self.refuse(where, "an EUI-64 of 16 lower-case hex digits")
        return bytes.fromhex(value)

    def devices(self, tree: Any, keys: type[K]) -> dict[bytes, Device[K]]:
        if not isinstance(tree, dict):
            self.refuse("devices", "an object of EUI-64: device")
        devices = {}
        for name, entry in tree.items():
            eui = self.eui(name, "a device's name in devices")
            where = f"device {name}"
            self.members(entry, where, "name", "epochs", "revoked")
            if type(entry["revoked"]) is not bool:
                self.refuse(f"{where}, revoked", "true or false")
            devices[eui] = Device(
                eui,
                self.text(entry["name"], f"{where}, name"),
                self.epochs(entry["epochs"], where, keys),
                entry["revoked"],
            )
        return devices

    def epochs(self, tree: Any, where: str, keys: type[K]) -> dict[int, K]:
        if not isinstance(tree, dict) or not tree:
            self.refuse(f"{where}, epochs", "an object with at least one epoch")
        epochs = {}
        for number, entry in tree.items():
            place = f"{where}, epoch {number[:12]}"
            if not re.fullmatch("0|[1-9][0-9]{0,9}", number) or int(number) > 0xFFFF_FFFF:
                self.refuse(place, "a number below 2**32")
            names = _secrets_of(keys)
            self.members(entry, place, *names)
            try:
                epochs[int(number)] = keys(**{name: bytes.fromhex(entry[name]) for name in names})
            except (ValueError, TypeError):
                self.refuse(f"{place}, a key", "hex digits of the key's length")
        if len({epoch & 3 for epoch in epochs}) != len(epochs):
            self.refuse(f"{where}, epochs", "no two epochs that are equal mod 4")
        return epochs


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & 0o077:
                raise RegistryError(
                    f"registry {path} holds keys, and its mode is {stat.S_IMODE(status.st_mode):04o}",
                    expected="mode 0600: nobody but its owner reads it",
                    remedy=f"chmod 600 {path}; if others may have read it, rotate the keys in it",
                    reason="registry-unreadable",
                )
            if status.st_size > MAX_FILE:
                raise RegistryError(
                    f"registry {path} has {status.st_size} bytes", expected=f"at most {MAX_FILE}"
                )
            return file.read()
    except FileNotFoundError:
        raise RegistryError(
            f"there is no registry {path}",
            remedy="enrol a device first, or name another file",
            reason="registry-unreadable",
        ) from None
    except OSError as error:
        raise RegistryError(
            f"registry {path} cannot be read: {error.strerror}", reason="registry-unreadable"
        ) from None


def _write(path: Path, tree: dict[str, Any], kind: str, signer: SigningKey | None) -> None:
    if signer is not None:
        tree = signer.envelope(kind, json.dumps(tree, separators=(",", ":")))
    try:
        durable.replace(path, json.dumps(tree, indent=1).encode() + b"\n")
    except OSError as error:
        raise RegistryError(f"registry {path} cannot be written: {error.strerror}") from None
