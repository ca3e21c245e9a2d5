"""The files of named data sets: found on this machine or fetched from their official source, and verified."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import BundleError, DataMissingError

#: The last local place: a folder shared by projects, beside this one's.
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
DOWNLOAD_LIMIT = 256 << 20


@dataclass(frozen=True)
class DataSet:
    """Labelled images.

    Attributes:
        name: what it is asked for by.
        source: which of its forms was found: ``official``, or ``jpeg`` for CIFAR-10 as JPEG files.
        x: uint8 (N,H,W,C). y: classes, int64 (N,).
    """

    name: str
    source: str
    x: npt.NDArray[np.uint8]
    y: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Where a named data set lives.

    Attributes:
        title, licence, classes: as cards and answers name them.
        debian: where its Debian package puts it, None without one.
        url: of the official source; a file's name is added. "": ask nobody.
        files: SHA-256 by file name, of what ``read`` says it is of.
        read: ``(name, source, split) -> DataSet``; split is ``train`` or ``test``.
    """

    title: str
    licence: str
    classes: tuple[str, ...]
    debian: Path | None
    url: str
    files: dict[str, str]
    read: Callable[[str, Source, str], DataSet]

    def folders(self, name: str) -> list[Path]:
        """Where to look, in this order: ``$SLIMWIRE_DATA/<name>``, ``$SLIMWIRE_DATA``, the Debian package,
        and ``shared/data`` beside the project."""
        own = os.environ.get("SLIMWIRE_DATA")
        return [
            *([Path(own) / name, Path(own)] if own else []),
            *([self.debian] if self.debian else []),
            BESIDE / name,
            BESIDE,
        ]

    def find(self, name: str, *filenames: str) -> Path | None:
        """The first of these files in the first folder that has one of them."""
        for folder in self.folders(name):
            for filename in filenames:
                if (folder / filename).is_file():
                    return folder / filename
        return None

    def fetch(self, name: str, filename: str, check: Callable[[bytes, str], bytes]) -> bytes:
        """``check(content, where)`` of a file from the official source; kept in ``$SLIMWIRE_DATA/<name>``
        where that can be written to.

        Raises DataMissingError when the source does not answer, and what ``check`` raises.
        """
        url = self.url + filename
        looked = ", ".join(str(folder) for folder in self.folders(name))
        package = f"install the Debian package dataset-{name} or " if self.debian else ""
        remedy = f"{package}set SLIMWIRE_DATA to a folder with {filename}"
        if not self.url:
            raise DataMissingError(f"{self.title} was not found in {looked}; {remedy}")
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                packed: bytes = response.read(DOWNLOAD_LIMIT)
        except (OSError, HTTPException) as error:
            raise DataMissingError(
                f"{self.title} was not found in {looked} and {url} did not answer ({error}); {remedy}"
            ) from error
        content = check(packed, url)
        own = os.environ.get("SLIMWIRE_DATA")
        if own:
            with suppress(OSError):
                _keep(Path(own) / name / filename, packed)
        return content


def _keep(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: another process may be looking for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)


def verified(content: bytes, where: str, digest: str, what: str = "") -> bytes:
    """``content`` itself; raises BundleError unless its SHA-256 is ``digest``."""
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise BundleError(f"{where} has SHA-256 {found}{what}; expected {digest}")
    return content
