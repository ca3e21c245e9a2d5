"""Settings files as text: written with what each setting means, found again line by line, brought to a newer
format.

A file says `format = N` before its first section; one that does not is of format 1. What changes a format is
a list of `Change`s, applied line by line, so that comments and order survive.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

_SECTION = re.compile(r"\s*\[\s*([\w.-]+)\s*\]")
_KEY = re.compile(r"\s*([\w-]+(?:\s*\.\s*[\w-]+)*)\s*=")
_FORMAT = re.compile(r"\s*format\s*=")


def lines_of(text: str) -> dict[str, int]:
    """The line, from 1, of each `section.key` that a line sets. Keys of inline tables have none."""
    found: dict[str, int] = {}
    for number, key in _keys(text):
        found.setdefault(key, number)
    return found


def _keys(text: str) -> Iterator[tuple[int, str]]:
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = _SECTION.match(line)
        if header:
            section = f"{header[1]}."
            yield number, header[1]
            continue
        key = _KEY.match(line)
        if key:
            yield number, section + re.sub(r"\s", "", key[1])


def documented(schema: type[BaseSettings], title: str) -> str:
    """A settings file with every setting, what it means and its default, each commented out.

    So a file that nobody edited keeps following the defaults of newer versions.
    """
    prefix = schema.model_config.get("env_prefix") or ""
    delimiter = schema.model_config.get("env_nested_delimiter") or "__"
    out = [
        f"# {title}",
        "# Every setting with its default: remove a line's # to change it. The environment gives each too:",
        f"# {prefix}NAME, and {prefix}SECTION{delimiter}NAME for those of a section.",
        "",
        f"format = {_default(schema.model_fields['format'])}",
        "",
    ]
    fields = {name: field for name, field in schema.model_fields.items() if name != "format"}
    out += _block({name: field for name, field in fields.items() if _section(field) is None})
    for name, field in fields.items():
        section = _section(field)
        if section is not None:
            out += [f"[{name}]", *_block(section.model_fields)]
    return "\n".join(out).rstrip() + "\n"


def effective(settings: BaseSettings) -> str:
    """Settings in force as a settings file; those without a value are left out."""
    out: list[str] = []
    later: list[str] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            later += ["", f"[{name}]"]
            later += [
                f"{key} = {_toml(getattr(value, key))}"
                for key in type(value).model_fields
                if getattr(value, key) is not None
            ]
        elif value is not None:
            out.append(f"{name} = {_toml(value)}")
    return "\n".join([*out, *later]) + "\n"


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "" if value is None else _toml(value)


def _block(fields: Mapping[str, FieldInfo]) -> list[str]:
    out = []
    for name, field in fields.items():
        out += [f"# {field.description}", f"# {name} = {_default(field)}".rstrip(), ""]
    return out


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)


@dataclass(frozen=True)
class Change:
    """What one format changes with respect to the one before.

    Args:
        to: the format that has it.
        about: for people.
        edit: from text to text.
    """

    to: int
    about: str
    edit: Callable[[str], str]


def comment_out(key: str, why: str) -> Callable[[str], str]:
    """An edit that turns the line of `section.key` into a comment."""

    def edit(text: str) -> str:
        number = lines_of(text).get(key)
        if number is None:
            return text
        lines = text.splitlines(keepends=True)
        lines[number - 1] = f"# {lines[number - 1].strip()}  ({why})\n"
        return "".join(lines)

    return edit


def upgraded(text: str, present: int, formats: Sequence[Change], newest: int) -> str:
    """`text` of format `present` as one of format `newest`."""
    for change in formats:
        if change.to > present:
            text = change.edit(text)
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if _FORMAT.match(line):
            lines[number] = f"format = {newest}\n"
            return "".join(lines)
        if _SECTION.match(line):
            break
    return f"format = {newest}\n" + text


def backup_of(path: Path, present: int) -> Path:
    """Where a file of format `present` is kept when it is rewritten; a name that is free."""
    number, suffix = 0, ""
    while True:
        found = path.with_name(f"{path.name}.format-{present}{suffix}")
        if not found.exists():
            return found
        number += 1
        suffix = f".{number}"
