"""A bundle: head, tail, test images and measured figures in one directory.

``bundle.json`` (format 1) names each file with its SHA-256. `Bundle.load` checks everything it reads; what
comes out of it can be used without further checks. The camera may be a draw from a named data set instead
of a file (`models.camera`). ``heap_kib`` says what heap a device needs for the head, in KiB; absent, 64.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import camera as cameras
from models.camera import Pictures
from models.errors import BundleError, DataMissingError
from models.headfile import HeadFile

FORMAT = 1
SHIPPED = Path(__file__).parent / "bundles"
LARGEST_FILE = 64 << 20
HEAP_KIB = 64
_FIELDS: dict[str, type] = {
    "name": str,
    "version": str,
    "licence": str,
    "data": dict,
    "classes": list,
    "input": dict,
    "latent": dict,
    "head": dict,
    "tail": dict,
    "camera": dict,
    "widths": list,
    "training": dict,
}
#: What each width's entry says, and the least and most it can be.
_FIGURES = (
    (("macs",), 1, 1e12),
    (("top1",), 0, 1),
    (("bytes", "mean"), 0, 1280),
    (("frames", "mean"), 1, 32),
)


def shipped() -> list[str]:
    """Names of the bundles that come with Slimwire, sorted."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/bundle.json"))


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: ``info`` is its bundle.json, ``digest`` that file's SHA-256, which covers all."""

    path: Path
    info: dict[str, Any]
    digest: str
    headfile: HeadFile
    head_bytes: bytes

    @classmethod
    def load(cls, name_or_path: str | Path) -> Bundle:
        """Loads a shipped bundle by its name, or any bundle by its directory.

        Raises BundleError, saying what was found and expected, when there is no bundle, its format is
        unknown, a file is missing, damaged or not the one ``bundle.json`` names, or the parts do not fit each
        other.
        """
        path = _directory(name_or_path)
        raw = _read(path / "bundle.json")
        info = _checked_info(path, raw)
        head_bytes = _file(path, info, "head")
        _file(path, info, "tail")
        if "data" not in info["camera"]:
            _file(path, info, "camera")
        headfile = HeadFile.parse(head_bytes)
        _check_fit(path, info, headfile)
        return cls(path, info, hashlib.sha256(raw).hexdigest(), headfile, head_bytes)

    @property
    def name(self) -> str:
        """The bundle's name."""
        return str(self.info["name"])

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return list(self.info["classes"])

    @property
    def widths(self) -> list[dict[str, Any]]:
        """Measured figures of each width, narrowest first: width, channels, macs, top1, bytes, frames."""
        return list(self.info["widths"])

    @property
    def heap_kib(self) -> int:
        """KiB of heap that a device needs to run this head with everything else."""
        return int(self.info.get("heap_kib", HEAP_KIB))

    @property
    def full_model(self) -> dict[str, Any] | None:
        """What training recorded of head and tail at full width without bottleneck and quantisation.

        ``top1`` and ``macs``, with whatever stands beside them (``teacher_top1``); None where nothing was
        recorded.
        """
        found: dict[str, Any] | None = self.info["training"].get("full_model")
        return found

    @cached_property
    def _camera(self) -> Pictures:
        camera = self.info["camera"]
        found = (
            cameras.from_data(camera) if "data" in camera else cameras.from_file(self.path / camera["file"])
        )
        x, y = found.x, found.y
        if x.shape[1:] != self.headfile.input:
            raise BundleError(f"{self.path}: camera images are {x.shape[1:]}; expected {self.headfile.input}")
        if y is not None and (y.min() < 0 or y.max() >= len(self.classes)):
            last = len(self.classes) - 1
            raise BundleError(
                f"{self.path}: camera labels go from {y.min()} to {y.max()}; expected 0 to {last}"
            )
        return found

    def camera(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Test images for demonstrations: ``x`` uint8 (N,H,W,C) and their classes ``y`` (N,).

        Raises DataMissingError where the camera is a draw from a data set that is not on this machine.
        """
        found = self._camera
        assert found.y is not None
        return found.x, found.y

    def pictures(self) -> Pictures:
        """What `camera` gives; generated pictures without classes where that is not on this machine."""
        try:
            return self._camera
        except DataMissingError:
            return cameras.generated(self.headfile.input)

    def tail(self, num_threads: int = 1) -> Any:
        """A new `models.tail.Tail` of this bundle; each thread needs its own."""
        from models.tail import Tail  # noqa: PLC0415  (LiteRT loads only where a tail runs)

        return Tail(_file(self.path, self.info, "tail"), self.headfile, len(self.classes), num_threads)


def _directory(name_or_path: str | Path) -> Path:
    own, known = Path(name_or_path), SHIPPED / str(name_or_path)
    if (own / "bundle.json").is_file():
        return own
    if Path(name_or_path).name == str(name_or_path) and (known / "bundle.json").is_file():
        return known
    known_names = ", ".join(shipped())
    raise BundleError(
        f"{name_or_path} is no bundle; expected a directory with a bundle.json or one of: {known_names}"
    )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise BundleError(f"{path} has {size} bytes; expected at most {LARGEST_FILE}")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} can't be read ({error.strerror})") from error


def _checked_info(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        info = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}/bundle.json is not JSON ({error})") from error
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        found = info.get("format") if isinstance(info, dict) else type(info).__name__
        raise BundleError(f"{path}/bundle.json has format {found!r}; expected {FORMAT}")
    for field, kind in _FIELDS.items():
        if not isinstance(info.get(field), kind):
            raise BundleError(
                f"{path}/bundle.json: {field!r} is {info.get(field)!r}; expected a {kind.__name__}"
            )
    if not info["classes"] or not all(isinstance(name, str) for name in info["classes"]):
        raise BundleError(f"{path}/bundle.json: 'classes' is {info['classes']!r}; expected a list of names")
    heap = info.get("heap_kib", HEAP_KIB)
    if type(heap) is not int or not 16 <= heap <= 1 << 16:
        raise BundleError(f"{path}/bundle.json: 'heap_kib' is {heap!r}; expected 16 to 65536")
    files = ["head", "tail", "camera"]
    if "data" in info["camera"]:
        cameras.check(f"{path}/bundle.json", info["camera"])
        files.remove("camera")
    for part in files:
        name, digest = info[part].get("file"), info[part].get("sha256")
        if not isinstance(name, str) or not isinstance(digest, str) or Path(name).name != name:
            raise BundleError(
                f"{path}/bundle.json: {part!r} is {info[part]!r}; expected a file name and its sha256"
            )
    return info


def _file(path: Path, info: dict[str, Any], part: str) -> bytes:
    """The bytes of one file of the bundle, whose digest is the named one."""
    content = _read(path / info[part]["file"])
    found = hashlib.sha256(content).hexdigest()
    if found != info[part]["sha256"]:
        raise BundleError(f"{path / info[part]['file']} has SHA-256 {found}; expected {info[part]['sha256']}")
    return content


def _check_fit(path: Path, info: dict[str, Any], headfile: HeadFile) -> None:
    """What bundle.json says of input, latent and widths is what the head file does."""
    height, width, _ = headfile.latent_shape(0)
    said = {
        "input": dict(zip(("height", "width", "channels"), headfile.input, strict=True)),
        "latent": {"height": height, "width": width, "levels": headfile.levels, "center": headfile.center},
    }
    for field, expected in said.items():
        if info[field] != expected:
            raise BundleError(f"{path}/bundle.json: {field!r} is {info[field]!r}; its head has {expected!r}")
    found = [entry.get("width") if isinstance(entry, dict) else entry for entry in info["widths"]]
    if found != [entry.width for entry in headfile.widths]:
        expected_widths = [entry.width for entry in headfile.widths]
        raise BundleError(
            f"{path}/bundle.json has figures for widths {found}; its head has {expected_widths}"
        )
    for entry in info["widths"]:
        _check_figures(path, entry)
    full = info["training"].get("full_model")
    if full is not None:
        for figure, low, high in (("top1", 0, 1), ("macs", 1, 1e12)):
            value = full.get(figure) if isinstance(full, dict) else None
            _check_number(f"{path}/bundle.json: {figure!r} of 'full_model'", value, low, high)


def _check_figures(path: Path, entry: dict[str, Any]) -> None:
    """The measured figures of a width that others count on are there, and can be what they say."""
    for names, low, high in _FIGURES:
        value: Any = entry
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        _check_number(f"{path}/bundle.json: {'.'.join(names)!r} of width {entry['width']}", value, low, high)


def _check_number(what: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BundleError(f"{what} is {value!r}; expected a number from {low:g} to {high:g}")
