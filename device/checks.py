"""Whether this machine can be a device: what runs here, and whether its head computes what a board's does."""

import importlib
import importlib.metadata
import platform
import sys

import numpy as np

from device.head import LiteRtHead
from models.head import Head
from models.headfile import HeadFile
from slimwire.checks import Check
from slimwire.errors import SlimwireError

_IMAGES = 4
_EXTRA = "pip install 'slimwire[device]'"


def environment() -> list[Check]:
    """Python and the packages that a device needs."""
    checks = [
        _needed(
            "python",
            sys.version_info >= (3, 11),
            f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}",
            "install Python 3.11 or later",
        )
    ]
    runtimes = [found for name in ("ai-edge-litert", "tflite-runtime") if (found := _version(name))]
    checks.append(_needed("runtime", bool(runtimes), ", ".join(runtimes) or "no LiteRT", _EXTRA))
    for name in ("numpy", "flatbuffers", "cryptography"):
        found = _version(name)
        checks.append(_needed(name, bool(found), found or "missing", _EXTRA))
    return checks


def head(data: bytes) -> Check:
    """Whether the head gives the reference's symbols here, at every width, on a few images.

    Raises SlimwireError: the bytes are no head.
    """
    parsed = HeadFile.parse(data)
    ours = LiteRtHead(data, 0)
    images = np.random.default_rng(0).integers(0, 256, (_IMAGES, *parsed.input), dtype=np.uint8)
    wrong = []
    for index, width in enumerate(parsed.widths):
        ours.set_width(index)
        expected = Head(parsed).run(images, index)
        if any(
            ours.run(image.tobytes()) != row.tobytes() for image, row in zip(images, expected, strict=True)
        ):
            wrong.append(f"{width.width:g}")
    return _needed(
        "head",
        not wrong,
        f"width {', '.join(wrong)} differs from the reference"
        if wrong
        else f"model {parsed.model_tag}: {len(parsed.widths)} widths give the reference's bytes",
        "use the LiteRT release that pyproject.toml names: pip install --upgrade 'slimwire[device]'",
    )


def refuse_failed(checks: list[Check]) -> None:
    """Raise SlimwireError for the first check that failed."""
    for check in checks:
        if not check.good:
            raise SlimwireError(
                f"this machine cannot be a device as it is: {check.name}: {check.found}", remedy=check.remedy
            )


def _needed(name: str, good: bool, found: str, remedy: str) -> Check:
    return Check(name, found, good, "" if good else remedy)


def _version(name: str) -> str:
    """A distribution's name and version, "" where it is missing."""
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""
