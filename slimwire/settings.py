"""Settings of the services: one pydantic schema, filled from TOML, the environment and options.

The command line beats the environment, the environment beats the file, the file beats the defaults.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from slimwire.errors import SlimwireError

S = TypeVar("S", bound=BaseSettings)


class SettingsError(SlimwireError):
    """A settings file, an environment variable or an option that can't be used."""


def load(schema: type[S], file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> S:
    """Make `schema` from `file` (TOML; None for none), the environment and `overrides` (None: not given).

    The environment's names come from the schema's own `env_prefix` and `env_nested_delimiter`.

    Raises:
        SettingsError: the file can't be read or is no TOML, or a value is wrong; each wrong
            value is named with what was expected.
    """
    if file is not None:
        _check_toml(file)

    class WithFile(schema):  # type: ignore[misc, valid-type]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            sources = (init_settings, env_settings)
            return sources if file is None else (*sources, TomlConfigSettingsSource(settings_cls, file))

    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    try:
        filled = WithFile(**given)
    except ValidationError as error:
        where = str(file) if file else "the options and the environment"
        lines = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()]
        raise SettingsError(
            f"{where}: {len(lines)} setting{'s' if len(lines) > 1 else ''} can't be used",
            expected="\n    ".join(lines),
            remedy=f"mend the file, or the environment ({schema.model_config.get('env_prefix', '')}…)",
        ) from None
    return schema.model_construct(**{name: getattr(filled, name) for name in schema.model_fields})


def _check_toml(file: Path) -> None:
    try:
        tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such file", remedy="give the path of a TOML settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: can't be read: {error}", expected="a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: {error}", expected="TOML, as in `key = value`") from None
