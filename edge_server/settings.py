"""Settings of the edge server: one schema for the TOML file, the environment and the command line.

Precedence: command line, environment (`SLIMWIRE_EDGE__PORT=9000`), TOML file, defaults. Every setting has a
default.
"""

import ssl
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from edge_server.errors import EdgeError
from edge_server.width import ChanceConstrained, FixedWidth, WidthPolicy
from slimwire import settings
from slimwire.transport import is_loopback, server_context

_FIXED = "fixed-"
ENVIRONMENT = "SLIMWIRE_EDGE__"

#: The format of settings files that this version writes.
FORMAT = 1


class Settings(BaseSettings):
    """What an edge server can be told."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(8080, ge=0, le=65535, description="TCP port; 0 lets the system choose one")
    bundles: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="names or directories of the bundles to serve; none: every one that ships"
    )
    registry: Path | None = Field(None, description="edge-registry.json; none: no devices, images only")
    registry_key: str | None = Field(
        None,
        description="the site's registry.pub, file or 64 hex digits: only registries it signed are used",
    )
    state: Path | None = Field(None, description="directory of replay intervals and answers; none: memory")
    policy: str = Field("slimwire", description="width control: slimwire, or fixed-<width>")
    deadline_ms: int = Field(
        300,
        ge=1,
        le=600_000,
        description="within which an answer is on time: from the sample where device_mmac_per_s is known, "
        "else from the first frame",
    )
    device_mmac_per_s: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="million MAC/s of the devices' heads (slimwire bench head); 0: not known",
    )
    min_on_time: float = Field(0.0, ge=0, lt=1, description="on-time share wanted before accuracy counts")
    duty_cycle: float = Field(1.0, gt=0, le=1, description="share of the time a device may send")
    low_battery: int = Field(
        0,
        ge=0,
        le=15,
        description="reported battery (1 empty .. 15 full) from which on the cheapest width is used",
    )
    answer_detail: bool = Field(False, description="send the class's name along in each answer")
    answers_kept: int = Field(256, ge=1, le=1_000_000, description="stored answers per device, for retries")
    waiting_batches: int = Field(64, ge=1, description="batches that may wait; more are told to try again")
    certificate: Path | None = Field(
        None, description="PEM file of the server's certificate; with it only https is spoken"
    )
    key: Path | None = Field(None, description="PEM file of its private key; none: it is in the same file")
    client_ca: Path | None = Field(
        None, description="PEM file of an authority: only clients with a certificate of it are let in"
    )
    token_file: Path | None = Field(
        None,
        description="secret file (mode 0600), a token a line: who shows none of them gets only /healthz "
        "and /readyz",
    )
    insecure: bool = Field(
        False, description="let other machines reach it without TLS, or without a token or certificate"
    )
    format: int = Field(FORMAT, description="format of the settings file")

    @field_validator("bundles", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    @field_validator("policy")
    @classmethod
    def _known(cls, value: str) -> str:
        _width_of(value)
        return value

    def check_listener(self) -> None:
        """Whether who reaches the server is one who may, if other machines can.

        Raises:
            EdgeError: anybody there could give batches and read what is known of devices; says what to do.
        """
        known = self.token_file is not None or self.client_ca is not None
        if self.insecure or is_loopback(self.host) or (self.certificate is not None and known):
            return
        lacks = "TLS" if self.certificate is None else "a token and no clients' authority"
        raise EdgeError(
            f"the edge server would listen on {self.host}, where other machines reach it, and has no {lacks}",
            expected="certificate and key, and token_file or client_ca",
            remedy="see docs/services.md, `Gateway and edge server on two machines`; inside a tunnel set "
            f"insecure = true ({ENVIRONMENT}INSECURE=true)",
        )

    def context(self) -> ssl.SSLContext | None:
        """How to speak TLS; None: not at all. Raises TransportError: a file cannot be used."""
        if self.certificate is None:
            return None
        return server_context(self.certificate, self.key, self.client_ca)

    def width_policy(self) -> WidthPolicy:
        """The controller that `policy` names."""
        width = _width_of(self.policy)
        if width is not None:
            return FixedWidth(width)
        return ChanceConstrained(
            self.deadline_ms / 1000,
            min_on_time=self.min_on_time,
            duty_cycle=self.duty_cycle,
            low_battery=self.low_battery,
        )


def load(path: Path | None = None, **given: Any) -> Settings:
    """Settings from a TOML file, the environment, and `given` values (None: not given).

    Raises:
        SettingsError: the file is missing or no TOML, a name is unknown, or a value is out of range.
    """
    return settings.load(Settings, path, given, upgrade=f"slimwire edge upgrade --config {path}")


def _width_of(policy: str) -> float | None:
    if policy == "slimwire":
        return None
    try:
        width = float(policy.removeprefix(_FIXED)) if policy.startswith(_FIXED) else 0.0
    except ValueError:
        width = 0.0
    if not 0 < width <= 1:
        raise ValueError(f"{policy!r} is not a policy; expected slimwire, or fixed-<width> such as fixed-0.5")
    return width
