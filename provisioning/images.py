"""MicroPython images to flash: the user's file, or a URL with a pinned digest; checked before use."""

import hashlib
import os
import secrets
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provisioning.errors import FlashError
from provisioning.profiles import Profile

#: Chip numbers in the header of an ESP image (Espressif, "Firmware Image Format": extended header).
_ESP_CHIPS = {
    0: "esp32",
    2: "esp32s2",
    5: "esp32c3",
    9: "esp32s3",
    12: "esp32c2",
    13: "esp32c6",
    16: "esp32h2",
}
_ESP_MAGIC = 0xE9
_LIMIT = 64 << 20
_CHUNK = 1 << 20

# UF2 (github.com/microsoft/uf2): blocks of 512 bytes, of which up to 476 are payload.
_UF2_BLOCK = 512
_UF2_MAGIC = 0x0A324655, 0x9E5D5157
_UF2_END = 0x0AB16F30
_UF2_NOT_FLASH = 0x0001
_UF2_FAMILY = 0x2000


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was checked. `path`: the file; `sha256`: of it, in hex; `size`: bytes."""

    path: Path
    sha256: str
    size: int


def fetch(source: str, sha256: str | None, cache: Path | None = None) -> Image:
    """The image at a path or URL.

    Args:
        source: a file, or a URL, which needs `sha256`.
        sha256: what it must have, in hex; None: a file is taken as it is.
        cache: where downloads are kept, None: `~/.cache/slimwire/images` (`$XDG_CACHE_HOME`).

    Raises:
        FlashError: it cannot be had, or it is not what the digest says.
    """
    if "://" not in source:
        return _checked(Path(source), source, sha256)
    if sha256 is None:
        raise FlashError(
            f"the image {source} comes from elsewhere and its digest is not pinned",
            remedy="name its SHA-256 (--image-sha256, or sha256 in the site file), or download it yourself "
            "and name the file",
        )
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = cache or Path(base) / "slimwire" / "images"
    kept = folder / sha256.lower()
    if not kept.exists():
        _download(source, kept)
    try:
        return _checked(kept, source, sha256)
    except FlashError:
        kept.unlink(missing_ok=True)
        raise


def _download(url: str, to: Path) -> None:
    part = to.with_name(f".{to.name}.{secrets.token_hex(4)}")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=60) as response, part.open("wb") as file:
            size = 0
            while chunk := response.read(_CHUNK):
                size += len(chunk)
                if size > _LIMIT:
                    raise FlashError(f"the image {url} has more than {_LIMIT >> 20} MiB")
                file.write(chunk)
        part.replace(to)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise FlashError(
            f"the image {url} cannot be had: {error}", remedy="download it and name the file: --image FILE"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _checked(path: Path, source: str, sha256: str | None) -> Image:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FlashError(f"the image {source} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise FlashError(
            f"the image {source} has the SHA-256 {digest}",
            expected=sha256.lower(),
            remedy="see that it is the version meant, and that nobody changed it on the way",
        )
    return Image(path, digest, len(content))


def check_esp(image: Image, profile: Profile) -> None:
    """See that it is an image for the profile's chip. Raises FlashError."""
    head = image.path.read_bytes()[:24]
    if len(head) < 24 or head[0] != _ESP_MAGIC:
        raise FlashError(
            f"{image.path} is no image for ESP32 chips", expected=f"a .bin from {profile.flash.images}"
        )
    number = struct.unpack_from("<H", head, 12)[0]
    chip = _ESP_CHIPS.get(number, f"number {number}")
    if chip != profile.chip:
        raise FlashError(
            f"{image.path} is for the chip {chip}",
            expected=f"one for {profile.chip}: {profile.flash.images}",
            fault="wrong-chip",
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes for one stretch of a chip's memory."""

    address: int
    content: bytes


def read_uf2(image: Image, profile: Profile) -> list[Segment]:
    """What a UF2 file puts into flash, contiguous stretches joined. Raises FlashError: it is damaged, or
    another chip's.
    """
    content = image.path.read_bytes()
    segments: list[Segment] = []
    run: list[bytes] = []
    start = end = -1
    for address, payload in _blocks(content, image.path, profile):
        if address != end:
            if run:
                segments.append(Segment(start, b"".join(run)))
            run, start = [], address
        run.append(payload)
        end = address + len(payload)
    if not run:
        raise FlashError(
            f"{image.path} holds nothing for {profile.title}",
            expected=f"a .uf2 of the family 0x{profile.flash.family:08X}: {profile.flash.images}",
            fault="wrong-chip",
        )
    return [*segments, Segment(start, b"".join(run))]


def _blocks(content: bytes, path: Path, profile: Profile) -> Iterator[tuple[int, bytes]]:
    """(address, payload) of each block for the profile's chip."""
    if not content or len(content) % _UF2_BLOCK:
        raise FlashError(f"{path} is no UF2 file: {len(content)} bytes", expected="blocks of 512 bytes")
    for at in range(0, len(content), _UF2_BLOCK):
        block = content[at : at + _UF2_BLOCK]
        magic, magic2, flags, address, size, number, count, family = struct.unpack_from("<8I", block)
        if (magic, magic2) != _UF2_MAGIC or struct.unpack_from("<I", block, 508)[0] != _UF2_END:
            raise FlashError(f"{path}: block {at // _UF2_BLOCK} is no UF2 block")
        if size > 476 or number >= count:
            raise FlashError(f"{path}: block {at // _UF2_BLOCK} says {size} bytes, {number} of {count}")
        if flags & _UF2_NOT_FLASH or not flags & _UF2_FAMILY or family != profile.flash.family:
            continue
        yield address, block[32 : 32 + size]
