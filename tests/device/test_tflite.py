"""The same device on tflite-runtime 2.14, LiteRT's predecessor, in an environment of its own.

It has wheels for Python 3.11 at most, and needs numpy 1. `make setup-tflite` makes the environment,
`.venv-tflite`; where it is missing, the first test makes it, and is skipped, visibly, where it cannot.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from models.bundle import SHIPPED, Bundle
from models.head import Head
from models.headfile import HeadFile
from tests.device.conftest import WITHOUT_REPORT
from tests.device.test_same_bytes import served
from tests.firmware.loopback import REPOSITORY, Hub

ENVIRONMENT = REPOSITORY / ".venv-tflite"

_ON_TFLITE = """\
import hashlib, json, sys
import numpy as np
from importlib.metadata import version
from models.headfile import HeadFile
from models.litert_head import LiteRtHead, build, litert

head = HeadFile.parse(open(sys.argv[1], "rb").read())
images = np.load(sys.argv[2])
digests = []
for width in range(len(head.widths)):
    symbols = LiteRtHead(build(head, width), head.levels, head.center, reference=True).run(images)
    digests.append(hashlib.sha256(symbols.tobytes()).hexdigest())
print(json.dumps([litert.__name__, version("tflite-runtime"), np.__version__, digests]))
"""


@pytest.fixture(scope="session")
def python() -> str:
    """The environment's interpreter."""
    path = ENVIRONMENT / "bin/python"
    ready = "import slimwire, tflite_runtime.interpreter, flatbuffers, cryptography"
    if not path.exists() or subprocess.run([path, "-c", ready], capture_output=True).returncode:
        if not shutil.which("python3.11"):
            pytest.skip("there is no python3.11, the last one that tflite-runtime has wheels for")
        made = subprocess.run(["make", "setup-tflite"], cwd=REPOSITORY, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"tflite-runtime does not install here: {made.stderr.strip().splitlines()[-1:]}")
    return str(path)


@pytest.mark.parametrize("bundle", sorted(path.parent.name for path in SHIPPED.glob("*/head.bin")))
def test_64_images_give_the_references_bytes_at_every_width(python: str, tmp_path: Path, bundle: str):
    path = SHIPPED / bundle / "head.bin"
    head = HeadFile.parse(path.read_bytes())
    images = np.random.default_rng(64).integers(0, 256, (64, *head.input), dtype=np.uint8)
    pictures = Bundle.load(bundle).pictures().x[:32]
    images[: len(pictures)] = pictures
    np.save(tmp_path / "images.npy", images)
    result = subprocess.run(
        [python, "-c", _ON_TFLITE, path, tmp_path / "images.npy"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    runtime, release, numpy_release, digests = json.loads(result.stdout)
    assert (runtime, release) == ("tflite_runtime.interpreter", "2.14.0")
    assert numpy_release.startswith("1.")
    expected = [Head(head).run(images, width).tobytes() for width in range(len(head.widths))]
    assert digests == [hashlib.sha256(symbols).hexdigest() for symbols in expected]


def test_its_frames_are_those_of_a_device_on_litert(python: str, both, hub: Hub):
    first, second = both(hub.port, deadline_ms=10_000, period_ms=10)
    ours = served(hub, first.start(script=WITHOUT_REPORT), 24, 4)
    theirs = served(hub, second.start(script=WITHOUT_REPORT, python=python), 24, 4)
    assert len(ours) == len(theirs) == 24
    assert {message.header.width for message in ours} == {0, 1, 2, 3}
    assert [message.frames for message in ours] == [message.frames for message in theirs]
