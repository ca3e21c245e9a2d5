"""A tiny bundle, an enrolled device and what it would send, for the tests of this room."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

from models.bundle import Bundle
from models.head import Head
from security import seal
from security.keys import EdgeKeys, derive_edge
from security.registry import Device, EdgeRegistry
from wire import latent, rans
from wire.batch import IngestItem
from wire.latent import InnerHeader, LinkReport
from wire.message import Kind, octet0
from wire.reply import Answer

EUI = bytes.fromhex("0200000000000001")
ROOT = bytes(range(32))
EPOCH = 4  # 0 mod 4, and not 0


def _tiny() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_bundle() -> Callable[..., Path]:
    """Writes a tiny bundle: write_bundle(directory, name=..., seed=...)."""
    return _tiny().write_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, write_bundle: Callable[..., Path]) -> Bundle:
    return Bundle.load(write_bundle(tmp_path_factory.mktemp("bundles") / "tiny"))


class Sender(NamedTuple):
    """A device as the edge server sees it: it seals latents and opens answers."""

    bundle: Bundle
    eui: bytes = EUI
    root: bytes = ROOT
    epoch: int = EPOCH

    @property
    def keys(self) -> EdgeKeys:
        return derive_edge(self.root, self.eui, self.epoch)

    def coded(self, image: int = 0, width: int = 1) -> bytes:
        x, _ = self.bundle.camera()
        symbols = Head(self.bundle.headfile).run(x[image : image + 1], width)[0]
        return rans.encode(symbols, self.bundle.headfile.widths[width].tables)

    def item(
        self,
        counter: int,
        *,
        image: int = 0,
        width: int = 1,
        report: LinkReport | None = None,
        tag: int | None = None,
        plaintext: bytes | None = None,
        kind: Kind = Kind.DATA,
    ) -> IngestItem:
        if plaintext is None:
            model_tag = self.bundle.headfile.model_tag if tag is None else tag
            header = InnerHeader(model_tag, width, report=report or LinkReport())
            plaintext = latent.emit(header, self.coded(image, width))
        octet = octet0(kind, self.epoch)
        sealed = seal.seal_up(self.keys, self.eui, octet, counter, plaintext)
        return IngestItem(self.eui, octet, counter, 5, sealed, self.epoch)

    def open(self, counter: int, sealed: bytes) -> Answer:
        return Answer.parse(seal.open_down(self.keys, octet0(Kind.REPLY, self.epoch), counter, sealed))


@pytest.fixture
def sender(bundle: Bundle) -> Sender:
    return Sender(bundle)


@pytest.fixture
def enrol(tmp_path: Path) -> Callable[..., Path]:
    """Writes edge-registry.json for senders: enrol(sender, ..., revoked=())."""

    def write(*senders: Sender, revoked: tuple[bytes, ...] = ()) -> Path:
        path = tmp_path / "edge-registry.json"
        devices = {s.eui: Device(s.eui, "", {s.epoch: s.keys}, s.eui in revoked) for s in senders}
        EdgeRegistry(devices=devices).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def labels(bundle: Bundle) -> np.ndarray:
    return bundle.camera()[1]
