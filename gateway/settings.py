"""Settings of the gateway: one schema for the TOML file, the environment and the command line.

Precedence: command line, environment (`SLIMWIRE_GATEWAY__LISTEN=…`, nested
`SLIMWIRE_GATEWAY__UPLINK__QUEUE=…`), TOML file, defaults. Every setting has a default. What verifies
fragments is no setting and cannot be one.
"""

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.bus.access import Access
from gateway.errors import GatewayError
from gateway.links.zep import parse_endpoint
from slimwire import settings
from slimwire.settings_file import Change, comment_out
from slimwire.transport import is_loopback

PREFIX = "SLIMWIRE_GATEWAY__"

#: The format of settings files that this version writes.
FORMAT = 2

#: What each format changed.
CHANGES = (
    Change(
        2,
        "[uplink] queue no longer bounds what waits: the outbox does, on the disk",
        comment_out("uplink.queue", "what waits is in the outbox now, bounded by [outbox] bytes"),
    ),
)

#: What `[mqtt] broker` says for the one inside the gateway.
EMBEDDED = "embedded"

#: Where the installed service has its admin socket (`gateway.unit.RUNTIME`).
SERVICE_SOCKET = Path("/run/slimwire/gateway.sock")

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitSettings(_Section):
    """`[limits]`: bounds of admission and reassembly; see `gateway.admission.Limits`."""

    memory: int = Field(
        default=8 * 1024 * 1024, ge=4096, description="bytes for datagrams under reassembly, all devices"
    )
    timeout: float = Field(default=15.0, gt=0, le=60, description="s an unfinished datagram is kept")
    retry_gap: Seconds = Field(
        default=0.2, description="s after completion in which copies are late duplicates"
    )
    rate: Seconds = Field(
        default=250.0, description="verified messages per s of one device before it is evidence"
    )
    burst: Seconds = Field(default=500.0, description="messages of one device that may come at once")


class UplinkSettings(_Section):
    """`[uplink]`: batches to the edge server; see `gateway.uplink.UplinkLimits`."""

    batch: int = Field(default=256, ge=1, le=1024, description="messages in one batch at most")
    age: float = Field(
        default=0.003, ge=0, le=1, description="s the first message of a batch waits for others"
    )
    queue: int = Field(
        default=4096, ge=1, description="messages in memory for each edge server; the others wait on the disk"
    )
    timeout: Seconds = Field(default=5.0, description="s one exchange may take")
    ca: Path | None = Field(
        default=None,
        description="PEM file of the authority behind https edge servers' certificates; none: the system's",
    )
    certificate: Path | None = Field(
        default=None, description="PEM file of the gateway's certificate at the edge servers"
    )
    key: Path | None = Field(
        default=None, description="PEM file of its private key; none: it is in the same file"
    )
    token_file: Path | None = Field(
        default=None, description="secret file (mode 0600) with the token that edge servers ask for"
    )
    insecure: bool = Field(
        default=False,
        description="talk to an edge server on another machine without TLS, or with no token or certificate",
    )

    def access(self) -> Access:
        """How edge servers know the gateway, and it them."""
        return Access(self.ca, self.certificate, self.key, self.token_file)


class OutboxSettings(_Section):
    """`[outbox]`: what is in custody; see `gateway.outbox.OutboxLimits`."""

    bytes: int = Field(
        default=256 * 1024 * 1024, ge=65536, description="size of all messages in custody; beyond: `full`"
    )
    age: Seconds = Field(
        default=7 * 86400.0, description="s that custody lasts: what nobody took by then is dropped"
    )


class MqttSettings(_Section):
    """`[mqtt]`: the leg of Wi-Fi devices; see `gateway.links.mqtt`."""

    broker: str = Field(
        default="",
        description='HOST:PORT of an MQTT broker, or "embedded" for one inside the gateway; "": no MQTT leg',
    )
    listen: str = Field(default="127.0.0.1:1883", description="TCP address of the embedded broker, HOST:PORT")
    ca: Path | None = Field(
        default=None,
        description="PEM file of the authority that signed the broker's certificate; none: no TLS",
    )
    certificate: Path | None = Field(
        default=None, description="PEM file of the gateway's certificate at the broker"
    )
    key: Path | None = Field(default=None, description="PEM file of that certificate's private key")
    username: str | None = Field(default=None, description="user name at a broker that asks for one")
    password_file: Path | None = Field(default=None, description="secret file (mode 0600) with its password")
    session: int = Field(
        default=3600,
        ge=0,
        le=86400 * 7,
        description="s the broker keeps what comes while the gateway is away",
    )
    queue: int = Field(default=4096, ge=1, le=65535, description="fragments waiting at most")
    discovery: bool = Field(default=False, description="announce every device to Home Assistant")
    discovery_prefix: str = Field(default="homeassistant", description="Home Assistant's discovery prefix")

    @field_validator("broker")
    @classmethod
    def _broker(cls, value: str) -> str:
        if value and value != EMBEDDED:
            parse_endpoint(value, 1883)
        return value

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        parse_endpoint(value)
        return value

    @property
    def default_port(self) -> int:
        """IANA's port of MQTT, over TLS or not."""
        return 1883 if self.ca is None else 8883


class UartSettings(_Section):
    """`[uart]`: a radio co-processor on a serial line; see `gateway.links.uart`."""

    port: Path | None = Field(
        default=None, description="serial port, such as /dev/ttyACM0; none: no UART leg"
    )
    baud: int = Field(default=115200, ge=1200, description="its speed")


class DownlinkSettings(_Section):
    """`[downlink]`: answers to devices; see `gateway.downlink.DownlinkLimits`."""

    gap: float = Field(default=0.002, ge=0, le=1, description="s between two frames")
    queue: int = Field(default=1024, ge=1, description="answers waiting at most")


class Settings(BaseSettings):
    """What a gateway can be told."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    listen: str = Field(
        "127.0.0.1:17754", description='UDP address the ZEP link binds, HOST:PORT; "": no ZEP link'
    )
    peer: str | None = Field(
        None, description="where all frames are sent, HOST:PORT; none: where a device was heard"
    )
    channel: int = Field(
        default=26, ge=0, le=26, description="802.15.4 channel named in outgoing ZEP packets"
    )
    pan: int | None = Field(
        None,
        ge=0,
        le=0xFFFF,
        description="the one PAN to listen in; none: any",
    )
    edge: str = Field(
        "http://127.0.0.1:8080",
        description="base URL of the edge server; several with commas: each device belongs to one",
    )
    registry: Path | None = Field(None, description="registry.json; none: the one in the state directory")
    registry_key: str | None = Field(
        None,
        description="the site's registry.pub, file or 64 hex digits: only registries it signed are used",
    )
    state: Path | None = Field(None, description="state directory; none: see `state_directory`")
    admin: Path | None = Field(
        None, description="Unix socket of the admin interface; none: see `admin_socket`"
    )
    metrics: str = Field(
        "",
        description="TCP address, HOST:PORT, that serves /metrics, /healthz and /readyz, and nothing else; "
        '"": the admin socket alone does',
    )
    pcap: Path | None = Field(None, description="capture file of all frames, written anew; none: no capture")
    format: int = Field(FORMAT, description="format of the settings file")
    limits: LimitSettings = LimitSettings()
    outbox: OutboxSettings = OutboxSettings()
    uplink: UplinkSettings = UplinkSettings()
    downlink: DownlinkSettings = DownlinkSettings()
    mqtt: MqttSettings = MqttSettings()
    uart: UartSettings = UartSettings()

    @field_validator("listen", "peer", "metrics")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value:
            parse_endpoint(value)
        return value

    @field_validator("edge")
    @classmethod
    def _url(cls, value: str) -> str:
        for url in value.split(","):
            own = url.strip()
            if not own.startswith(("http://", "https://")) or not own.partition("://")[2].strip("/"):
                raise ValueError("an http:// or https:// URL, such as http://127.0.0.1:8080")
        return value

    def edge_servers(self) -> list[str]:
        """The base URLs in `edge`, each once."""
        return list(dict.fromkeys(url.strip().rstrip("/") for url in self.edge.split(",")))

    def check_edge(self, url: str) -> None:
        """Whether the way to this edge server is one that only it and we speak on, if it leaves the machine.

        Raises:
            GatewayError: whoever is in between could give verdicts, and so end custody; says what to do.
        """
        way = self.uplink
        known = way.token_file is not None or way.certificate is not None
        if way.insecure or is_loopback(urlsplit(url).hostname or "") or (url.startswith("https:") and known):
            return
        lacks = "a token or a certificate of ours" if url.startswith("https:") else "TLS"
        raise GatewayError(
            f"the edge server {url} is on another machine, and the way there has no {lacks}: whoever is in "
            "between could end the custody of messages",
            expected="an https:// URL, and [uplink] token_file or certificate",
            remedy="see docs/services.md, `Gateway and edge server on two machines`; inside a tunnel set "
            f"[uplink] insecure = true ({PREFIX}UPLINK__INSECURE=true)",
        )

    def state_directory(self) -> Path:
        """`state`, else systemd's `$STATE_DIRECTORY`, else `~/.local/state/slimwire` (`$XDG_STATE_HOME`)."""
        if self.state is not None:
            return self.state
        given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return Path(given) if given else _user_state()

    def registry_file(self) -> Path:
        """`registry`, else `registry.json` in the state directory."""
        return self.registry or self.state_directory() / "registry.json"

    def admin_socket(self) -> Path:
        """`admin`, else `gateway.sock` in systemd's `$RUNTIME_DIRECTORY` or in the state directory."""
        if self.admin is not None:
            return self.admin
        given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        return (Path(given) if given and self.state is None else self.state_directory()) / "gateway.sock"


def _user_state() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "slimwire"


def load(path: Path | None = None, **given: Any) -> Settings:
    """Settings from a TOML file, the environment and `given` values (None: not given).

    Raises:
        SettingsError: the file cannot be read, a name is unknown, or a value is out of range.
    """
    return settings.load(
        Settings, path, given, changes=CHANGES, upgrade=f"slimwire gateway upgrade --config {path}"
    )


def describe() -> list[settings.Setting]:
    """Every setting."""
    return settings.describe(Settings)
