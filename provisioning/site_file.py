"""A site as a file, `sites/NAME.toml`: one gateway, one edge server, their registries, and what devices get.

    format = 1
    [gateway]
    host = "192.0.2.10"         # where devices send; its port is 17754 unless `port` says otherwise
    [wifi]
    ssid = "workshop"           # the key is in no site file: see `wifi_key`

Everything else has a default. `slimwire provision site NAME --host ...` writes one.
"""

import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from provisioning import secret
from provisioning.errors import ProvisionError
from provisioning.identity import DeviceOptions
from provisioning.secret import Secret
from wire import eui64
from wire.errors import WireError

WIFI_KEY_VARIABLE = "SLIMWIRE_WIFI_KEY"
PASSWORD_VARIABLE = "SLIMWIRE_MQTT_PASSWORD"
#: Where `slimwire gateway run` has its admin socket: as the installed service, as a user's own.
SERVICE_SOCKET = Path("/run/slimwire/gateway.sock")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewaySection(_Section):
    """`[gateway]`: host and port that devices send to, its admin socket, its EUI-64 (16 hex digits).

    `admin`: none: the service's, else the user's own. `eui64`: none: what the registry says.
    """

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=17754, ge=1, le=65535)
    channel: int = Field(default=26, ge=0, le=26)
    admin: Path | None = None
    eui64: str | None = None

    @field_validator("eui64")
    @classmethod
    def _eui64(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                return eui64.parse(value).hex()
            except WireError as error:
                raise ValueError(error.message) from None
        return value


class WifiSection(_Section):
    """`[wifi]`: the network that boards join. `key_file`: a file that holds its key and nothing else."""

    ssid: str = Field(min_length=1, max_length=32)
    key_file: Path | None = None


class DeviceSection(_Section):
    """`[device]`: what every device of the site gets: bundle, test images for its camera, times in ms.

    `link` and `source` are those of device.json (`firmware/config.py`, docs/sources.md); without a `host`, a
    link goes to the gateway's. `password_file`: of an MQTT link, else $SLIMWIRE_MQTT_PASSWORD.
    """

    link: dict[str, Any] = {}
    source: dict[str, Any] = {}
    recovery: Literal["off", "lossy", "always"] = "off"
    custody: Literal["forget", "keep-until-answer"] = "forget"
    password_file: Path | None = None
    bundle: str = "fashion-mnist"
    images: int = Field(default=16, ge=1, le=512)
    period_ms: int = Field(default=300, ge=1, le=3_600_000)
    deadline_ms: int = Field(default=1000, ge=10, le=60_000)
    retries: int = Field(default=2, ge=0, le=15)


class VaultSection(_Section):
    """`[vault]`: what opens the site's fleet vault; else $SLIMWIRE_VAULT_PASSPHRASE, or it is asked for."""

    key_file: Path | None = None
    passphrase_file: Path | None = None


class ImageSection(_Section):
    """`[micropython.BOARD]`: the image to flash, a file or an https URL, and its SHA-256."""

    image: str = Field(min_length=1)
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None
    version: str | None = None


class SiteFile(_Section):
    """One site.

    Attributes:
        site: its name, part of the devices' keys. path: of the file.
        directory: of its registries and fleet entries; relative to the file.
        gateway, wifi, device, vault: see the sections. micropython: by board profile.
    """

    path: Path
    format: Literal[1]
    site: str = Field(min_length=1, max_length=64)
    directory: Path
    gateway: GatewaySection = GatewaySection()
    wifi: WifiSection | None = None
    device: DeviceSection = DeviceSection()
    vault: VaultSection = VaultSection()
    micropython: dict[str, ImageSection] = {}

    @classmethod
    def load(cls, name: str) -> Self:
        """The site of that name, or in the file of that path. Raises ProvisionError."""
        path = find(name)
        try:
            values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ProvisionError(f"the site file {path} cannot be read: {error}") from None
        values.setdefault("site", path.stem)
        values["directory"] = path.parent / values.get("directory", path.stem)
        try:
            return cls(**{**values, "path": path})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ProvisionError(
                f"the site file {path}: {where} cannot be used",
                expected=str(first["msg"]).removeprefix("Value error, "),
                remedy="docs/fleet.md has every section",
            ) from None

    def gateway_eui64(self) -> bytes | None:
        """The gateway's EUI-64 if the file names it."""
        return None if self.gateway.eui64 is None else bytes.fromhex(self.gateway.eui64)

    def admin_sockets(self) -> list[Path]:
        """Where the gateway's admin socket may be, the first one first."""
        if self.gateway.admin is not None:
            return [self.path.parent / self.gateway.admin]
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        return [Path(base) / "slimwire" / "gateway.sock", SERVICE_SOCKET]

    def options(self, key: str | None) -> DeviceOptions:
        """The settings that the site gives a device. `key`: of its Wi-Fi, None where it has none."""
        wifi = None if self.wifi is None else {"ssid": self.wifi.ssid, "key": key or ""}
        own = self.device.link
        link = {"type": "zep", **own}
        if link["type"] == "zep":
            gateway = {"host": self.gateway.host, "port": self.gateway.port, "channel": self.gateway.channel}
            link = {**DeviceOptions().link, **gateway, **own}
        elif link["type"] == "mqtt":
            link = {"host": self.gateway.host, **link}
            password = self._password()
            if password:
                link["password"] = password
        return DeviceOptions(
            link=link,
            wifi=wifi,
            period_ms=self.device.period_ms,
            deadline_ms=self.device.deadline_ms,
            retries=self.device.retries,
            log="",
        )

    def _password(self) -> str:
        given = os.environ.get(PASSWORD_VARIABLE)
        if given is not None:
            return given
        return "" if self.device.password_file is None else self._secret_in(self.device.password_file)

    def _secret_in(self, name: Path) -> str:
        path = self.path.parent / name
        try:
            return path.read_text("utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ProvisionError(f"the secret in {path} cannot be read: {error}") from None

    def vault_secret(self) -> Secret:
        """What opens the site's vault. Raises ProvisionError: nothing is there, or it cannot be used."""
        key, file = self.vault.key_file, self.vault.passphrase_file
        base = self.path.parent
        return secret.find(
            key=None if key is None else base / key, file=None if file is None else base / file
        )

    def wifi_key(self, ask: Callable[[str], str] | None = None) -> str | None:
        """The key of the site's Wi-Fi: from $SLIMWIRE_WIFI_KEY, `key_file`, or `ask`; None without Wi-Fi.

        Raises:
            ProvisionError: there is none of them, or the file cannot be read.
        """
        if self.wifi is None:
            return None
        given = os.environ.get(WIFI_KEY_VARIABLE)
        if given is not None:
            return given
        if self.wifi.key_file is not None:
            return self._secret_in(self.wifi.key_file)
        if ask is None:
            raise ProvisionError(
                f"the key of the network {self.wifi.ssid!r} is not known",
                remedy=f"put it in ${WIFI_KEY_VARIABLE}, or in a file that [wifi] key_file of {self.path} "
                "names, or run this in a terminal, which asks",
            )
        return ask(f"Key of the Wi-Fi {self.wifi.ssid!r}: ")


def find(name: str) -> Path:
    """The file of a site by its name, or by its own path. Raises ProvisionError."""
    if name.endswith(".toml") or "/" in name:
        candidates = [Path(name)]
    else:
        candidates = [directory / f"{name}.toml" for directory in directories()]
    for path in candidates:
        if path.is_file():
            return path
    raise ProvisionError(
        f"there is no site {name!r}",
        expected="one of " + ", ".join(map(str, candidates)),
        remedy=f"write one: slimwire provision site {Path(name).stem} --host ADDRESS-OF-THE-GATEWAY",
    )


def directories() -> list[Path]:
    """Where site files are looked for, the first one first."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return [Path("sites"), Path(config) / "slimwire" / "sites"]


def write(
    path: Path, *, host: str, port: int = 17754, ssid: str | None = None, admin: Path | None = None
) -> None:
    """Write a new site file. Raises ProvisionError: it exists, or cannot be written."""
    lines = [
        "# A Slimwire site: see docs/fleet.md. It holds no secret.",
        "format = 1",
        "",
        "[gateway]",
        f"host = {_toml(host)}",
        f"port = {port}",
    ]
    if admin is not None:
        lines.append(f"admin = {_toml(str(admin))}")
    if ssid is not None:
        lines += ["", "[wifi]", f"ssid = {_toml(ssid)}"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except FileExistsError:
        raise ProvisionError(f"the site file {path} is there already", remedy="edit it") from None
    except OSError as error:
        raise ProvisionError(f"the site file {path} cannot be written: {error.strerror}") from None


def read_stdin() -> str:
    """A secret from standard input: its first line."""
    return sys.stdin.readline().rstrip("\r\n")


def _toml(text: str) -> str:
    """A TOML basic string."""
    escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 0x20 or c in '"\\\x7f' else c for c in text)
    return f'"{escaped}"'
