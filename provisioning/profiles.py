"""Board profiles: what is known of a kind of board before it is asked, as data.

A profile is a TOML file. Those in `provisioning/profiles/` ship; a user's own ones lie in `boards/` of the
working directory or in `~/.config/slimwire/boards/` (`$XDG_CONFIG_HOME`), and go before shipped ones of the
same name. The file's name is the profile's.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from provisioning.errors import ProvisionError

SHIPPED = Path(__file__).with_name("profiles")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


class FlashProfile(BaseModel):
    """`[flash]`: how MicroPython gets onto a board.

    Attributes:
        method: esptool; uf2, a file copied to the drive that the chip's boot loader shows; none.
        offset: where esptool puts an image, bytes.
        family: the UF2 family that the chip takes. board_id: what INFO_UF2.TXT names it.
        images: page that has MicroPython for this board.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["esptool", "uf2", "none"]
    offset: int = Field(default=0, ge=0)
    family: int = Field(default=0, ge=0, le=0xFFFF_FFFF)
    board_id: str = ""
    images: str = "https://micropython.org/download/"


class Profile(BaseModel):
    """One kind of board.

    Attributes:
        title: for people.
        chip: as esptool names it, or RP2's name; "": not known.
        machine: pattern that is found in what MicroPython says of the board (`sys.implementation._machine`).
        architecture: mpy-cross's name of what MicroPython's port for it runs; "": ask the board.
        heap_kib, storage_kib: MicroPython's heap and file system; what an emulated one gets.
        unique_id_bytes: length of `machine.unique_id()`.
        slots: places for an application: 1, or 2 where updates over the air can switch between them.
        links, sources: what of `firmware/links` and `firmware/sources` it can run.
        usb: "vendor:product" in hexadecimal of the USB chips found on such boards.
        flash: see `FlashProfile`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    format: Literal[1]
    title: str = Field(min_length=1)
    chip: str
    machine: str
    architecture: str
    heap_kib: int = Field(ge=32, le=1 << 20)
    storage_kib: int = Field(ge=64, le=1 << 20)
    unique_id_bytes: int = Field(ge=0, le=32)
    slots: int = Field(ge=1, le=2)
    links: list[str]
    sources: list[str]
    usb: list[str] = []
    flash: FlashProfile

    @field_validator("machine")
    @classmethod
    def _pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from None
        return value

    @field_validator("usb")
    @classmethod
    def _ids(cls, value: list[str]) -> list[str]:
        if not all(re.fullmatch("[0-9a-f]{4}:[0-9a-f]{4}", each) for each in value):
            raise ValueError('"vvvv:pppp" in lower-case hexadecimal')
        return value

    def is_of(self, machine: str) -> bool:
        """Whether a board that says it is `machine` can be of this kind."""
        return re.search(self.machine, machine) is not None


@dataclass(frozen=True, slots=True)
class Found:
    """A profile's file. `shipped`: not a user's own."""

    path: Path
    shipped: bool


def directories() -> list[Path]:
    """Where profiles are looked for, the first one first."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return [Path("boards"), Path(config) / "slimwire" / "boards", SHIPPED]


def names() -> Mapping[str, Found]:
    """Every profile's file by name."""
    found: dict[str, Found] = {}
    for directory in reversed(directories()):
        for path in sorted(directory.glob("*.toml")):
            found[path.stem] = Found(path, directory == SHIPPED)
    return dict(sorted(found.items()))


def load(name: str) -> Profile:
    """The profile of that name, or in the TOML file of that path.

    Raises:
        ProvisionError: there is none, or it cannot be used; names the value and what was expected.
    """
    path = Path(name) if name.endswith(".toml") else None
    if path is None:
        known = names()
        if name not in known:
            raise ProvisionError(
                f"there is no board {name!r}",
                expected="one of " + ", ".join(known),
                remedy="use generic for a board that runs MicroPython already, or write a profile: "
                "docs/devices.md",
            )
        path = known[name].path
    return _read(path)


def matching(machine: str) -> Profile | None:
    """The profile of a board that says it is `machine`; None where no profile names it."""
    for name in names():
        profile = load(name)
        if profile.machine and profile.is_of(machine):
            return profile
    return None


def _read(path: Path) -> Profile:
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProvisionError(f"the board profile {path} cannot be read: {error}") from None
    if not _NAME.fullmatch(path.stem):
        raise ProvisionError(
            f"the board profile {path} has no name that a command line takes",
            expected="lower-case letters, digits, dots and dashes, at most 32",
        )
    try:
        return Profile(name=path.stem, **values)
    except (ValidationError, TypeError) as error:
        if isinstance(error, TypeError):
            raise ProvisionError(f"the board profile {path} names itself", remedy="remove `name`") from None
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise ProvisionError(
            f"the board profile {path}: {where} cannot be used",
            expected=str(first["msg"]).removeprefix("Value error, "),
            remedy="see provisioning/profiles/esp32c3.toml for one that works",
        ) from None
