"""Settings of the services: one pydantic schema, filled from TOML, the environment and options.

The command line beats the environment, the environment beats the file, the file beats the defaults.
"""

import logging
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pydantic_settings
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from slimwire.errors import SlimwireError
from slimwire.settings_file import Change, lines_of, upgraded

_log = logging.getLogger("slimwire.settings")

S = TypeVar("S", bound=BaseSettings)


class SettingsError(SlimwireError):
    """A settings file, an environment variable or an option that can't be used."""


class Setting(NamedTuple):
    """One setting of a schema: its TOML key, its environment variable, its default, and what it means."""

    key: str
    variable: str
    default: str
    about: str


def load(
    schema: type[S],
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    changes: Sequence[Change] = (),
    upgrade: str = "",
) -> S:
    """Make `schema` from `file` (TOML; None for none), the environment and `overrides` (None: not given).

    The environment's names come from the schema's own `env_prefix` and `env_nested_delimiter`. A file of an
    older format is read as what `changes` make of it, and a warning names `upgrade`, the command that
    rewrites it.

    Raises:
        SettingsError: the file can't be read or is no TOML, a value is wrong, or something is set that is
            no setting; each is named with where it comes from and what was expected.
    """
    text, data = ("", {}) if file is None else read_toml(file)
    if file is not None and "format" in schema.model_fields:
        newest = schema.model_fields["format"].default
        present = format_of(file, data, newest)
        if present < newest:
            data = tomllib.loads(upgraded(text, present, changes, newest))
            _log.warning(
                "the settings file %s is of format %d, read as format %d; rewrite it with: %s",
                file,
                present,
                newest,
                upgrade,
            )
    _check_environment(schema)

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
            return sources if file is None else (*sources, InitSettingsSource(settings_cls, data))

    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    try:
        filled = WithFile(**given)
    except pydantic_settings.SettingsError as error:
        raise SettingsError(
            f"the environment: {error}",
            expected=f"JSON where a variable {_prefix(schema)}… holds a list or a table",
            remedy="correct or unset it",
        ) from None
    except ValidationError as error:
        lines = lines_of(text)
        wrong = [_wrong(schema, each, file, given, lines) for each in error.errors()]
        raise SettingsError(
            "; ".join(what for what, _ in wrong),
            expected="; ".join(expected for _, expected in wrong),
            remedy="correct or remove " + ("it" if len(wrong) == 1 else "them"),
        ) from None
    return schema.model_construct(**{name: getattr(filled, name) for name in schema.model_fields})


def describe(schema: type[BaseSettings]) -> list[Setting]:
    """Every setting of `schema`; a section's are named `section.key`."""
    return [
        Setting(
            key,
            _variable(schema, key),
            "none" if field.default is None else repr(field.default),
            field.description or "",
        )
        for key, field in _flat(schema.model_fields)
    ]


def _flat(fields: Mapping[str, FieldInfo], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _flat(section.model_fields, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _prefix(schema: type[BaseSettings]) -> str:
    return schema.model_config.get("env_prefix") or ""


def _variable(schema: type[BaseSettings], key: str) -> str:
    delimiter = schema.model_config.get("env_nested_delimiter") or "."
    return _prefix(schema) + key.replace(".", delimiter).upper()


def _check_environment(schema: type[BaseSettings]) -> None:
    """Refuse a variable with the schema's prefix that names no setting: pydantic would pass over it."""
    prefix = _prefix(schema)
    if not prefix:
        return
    delimiter = schema.model_config.get("env_nested_delimiter")
    for variable in os.environ:
        if not variable.upper().startswith(prefix.upper()):
            continue
        rest = variable[len(prefix) :].lower()
        if (rest.partition(delimiter)[0] if delimiter else rest) not in schema.model_fields:
            raise SettingsError(
                f"the environment variable {variable} names no setting",
                expected=f"{prefix} and one of {', '.join(schema.model_fields).upper()}",
                remedy="correct or unset it",
            )


def _wrong(
    schema: type[BaseSettings],
    error: ErrorDetails,
    file: Path | None,
    given: Mapping[str, Any],
    lines: Mapping[str, int],
) -> tuple[str, str]:
    """What is wrong and where it comes from, and what was expected."""
    keys = [str(part) for part in error["loc"]]
    key = ".".join(keys)
    variable = _variable(schema, key)
    if keys and keys[0] in given:
        where = f"--{keys[0].replace('_', '-')}"
    elif any(name.upper() == variable for name in os.environ):
        where = f"the environment variable {variable}"
    elif file is not None:
        line = lines.get(key)
        where = f"{key} in the settings file {file}" + (f", line {line}," if line else "")
    else:
        where = key or "the settings"
    if error["type"] == "extra_forbidden":
        known: Any = schema.model_fields
        for part in keys[:-1]:
            known = known[part].annotation.model_fields
        return f"{where} is no setting", f"one of {', '.join(known)}"
    return f"{where} is {error['input']!r}", str(error["msg"]).removeprefix("Value error, ")


def format_of(file: Path, data: Mapping[str, Any], newest: int) -> int:
    """The format a settings file says it has; 1 if it says none.

    Raises:
        SettingsError: no number, or newer than `newest`.
    """
    present = data.get("format", 1)
    if type(present) is not int or present < 1:
        raise SettingsError(
            f"{file}: format is {present!r}",
            expected=f"a number from 1 to {newest}",
            remedy="correct the line, or restore the file from a backup",
        )
    if present > newest:
        raise SettingsError(
            f"{file} is of format {present}, written for a newer Slimwire",
            expected=f"format {newest} or older",
            remedy=f"install that Slimwire again, or restore the copy that its upgrade left: {file}.format-*",
        )
    return present


def read_toml(file: Path) -> tuple[str, dict[str, Any]]:
    """The text of a TOML file, and what it says. Raises SettingsError: it cannot be read, or is no TOML."""
    try:
        text = file.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except FileNotFoundError:
        raise SettingsError(f"{file}: no such file", remedy="give the path of a TOML settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{file}: can't be read: {error}",
            expected="a TOML file in UTF-8",
            remedy="mend it, or let the user that runs this read it",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{file}: {error}", expected="TOML, as in `key = value`", remedy="correct the line"
        ) from None
