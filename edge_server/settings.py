"""Settings of the edge server: one schema for the TOML file, the environment and the command line.

Precedence: command line, environment (`SLIMWIRE_EDGE__PORT=9000`), TOML file, defaults. Every setting has a
default.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from edge_server.errors import EdgeError
from edge_server.width import ChanceConstrained, FixedWidth, WidthPolicy

_FIXED = "fixed-"
ENVIRONMENT = "SLIMWIRE_EDGE__"


class Settings(BaseSettings):
    """What an edge server can be told."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT, extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(8080, ge=0, le=65535, description="TCP port; 0 lets the system choose one")
    bundles: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="names or directories of the bundles to serve; none: every one that ships"
    )
    registry: Path | None = Field(None, description="edge-registry.json; none: no devices, images only")
    state: Path | None = Field(None, description="directory of replay intervals and answers; none: memory")
    policy: str = Field("slimwire", description="width control: slimwire, or fixed-<width>")
    deadline_ms: int = Field(300, ge=1, le=600_000, description="first frame to answer, to count as on time")
    answer_detail: bool = Field(False, description="send the class's name along in each answer")
    answers_kept: int = Field(256, ge=1, le=1_000_000, description="stored answers per device, for retries")
    waiting_batches: int = Field(64, ge=1, description="batches that may wait; more are told to try again")

    @field_validator("bundles", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    @field_validator("policy")
    @classmethod
    def _known(cls, value: str) -> str:
        _width_of(value)
        return value

    def width_policy(self) -> WidthPolicy:
        """The controller that `policy` names."""
        width = _width_of(self.policy)
        return ChanceConstrained(self.deadline_ms / 1000) if width is None else FixedWidth(width)


def load(path: Path | None = None, **given: Any) -> Settings:
    """Settings from a TOML file, the environment, and `given` values (None: not given).

    Raises:
        EdgeError: the file is missing or no TOML, a name is unknown, or a value is out of range.
    """
    source = f"the settings file {path}" if path else "the settings"

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, path)

    try:
        if path is not None:
            path.open("rb").close()
        return FromFile(**{name: value for name, value in given.items() if value is not None})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EdgeError(
            f"{source} cannot be read: {error}", expected="a TOML file with lines such as `port = 8080`"
        ) from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()]
        known = ", ".join(Settings.model_fields)
        raise EdgeError(f"{source} cannot be used: " + "; ".join(lines), expected=f"only {known}") from error


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
