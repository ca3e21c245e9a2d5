"""Registry files: what is written is read, what is wrong is refused in words, and no key is ever shown."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from security import keys
from security.errors import RegistryError
from security.registry import Device, EdgeRegistry, GatewayRegistry

ROOT = bytes(range(32))
A = bytes.fromhex("0200000000000001")
B = bytes.fromhex("0200000000000002")
GATEWAY = bytes.fromhex("02000000000000fe")
KEYS = {epoch: keys.derive_gateway(ROOT, A, epoch, "demo") for epoch in (4, 5, 8)}


def gateway_registry() -> GatewayRegistry:
    devices = {
        A: Device(A, "pump 1", {4: KEYS[4], 5: KEYS[5]}),
        B: Device(B, "Wärme", {0: keys.derive_gateway(ROOT, B, 0, "demo")}, revoked=True),
    }
    return GatewayRegistry(gateway=GATEWAY, site="demo", version=3, devices=devices)


def edge_registry() -> EdgeRegistry:
    return EdgeRegistry(version=3, devices={A: Device(A, "pump 1", {0: keys.derive_edge(ROOT, A, 0)})})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "registry.json"
    gateway_registry().save(path)
    return path


def change(path: Path, *where: str | int, to: Any) -> None:
    tree = json.loads(path.read_text())
    inner = tree
    for key in where[:-1]:
        inner = inner[key]
    if to is None:
        del inner[where[-1]]
    else:
        inner[where[-1]] = to
    path.write_text(json.dumps(tree))


def test_what_is_saved_loads(tmp_path: Path) -> None:
    gateway_registry().save(tmp_path / "g.json")
    edge_registry().save(str(tmp_path / "e.json"))
    assert GatewayRegistry.load(tmp_path / "g.json") == gateway_registry()
    assert EdgeRegistry.load(str(tmp_path / "e.json")) == edge_registry()


def test_the_format_on_disk(written: Path) -> None:
    tree = json.loads(written.read_text())
    assert {name: tree[name] for name in ("format", "version", "site", "gateway")} == {
        "format": 1,
        "version": 3,
        "site": "demo",
        "gateway": "02000000000000fe",
    }
    assert tree["devices"]["0200000000000001"] == {
        "name": "pump 1",
        "epochs": {
            str(e): {"frag_up": KEYS[e].frag_up.hex(), "frag_dn": KEYS[e].frag_dn.hex()} for e in (4, 5)
        },
        "revoked": False,
    }


def test_lookup_is_by_the_epochs_two_low_bits() -> None:
    registry = gateway_registry()
    assert registry.lookup(A, 0) == (4, KEYS[4])
    assert registry.lookup(A, 1) == (5, KEYS[5])
    assert registry.lookup(A, 2) is None
    assert registry.lookup(bytes(8), 0) is None
    assert registry.lookup(B, 0) is None  # revoked
    assert registry.devices[B].revoked
    assert edge_registry().lookup(A, 0) == (0, keys.derive_edge(ROOT, A, 0))


def test_a_registry_is_its_owners_alone(written: Path) -> None:
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    for mode in (0o640, 0o604, 0o660, 0o601):
        written.chmod(mode)
        with pytest.raises(RegistryError, match=f"mode is {mode:04o}") as caught:
            GatewayRegistry.load(written)
        assert "chmod 600" in caught.value.remedy
    written.chmod(0o400)
    GatewayRegistry.load(written)


def test_a_wide_umask_changes_nothing(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        gateway_registry().save(tmp_path / "g.json")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "g.json").stat().st_mode) == 0o600


def test_a_save_replaces_the_whole_file_or_nothing(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written.read_bytes()
    bigger = gateway_registry()
    bigger.version = 4

    def no_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("security.registry.os.fsync", no_disk)
        with pytest.raises(RegistryError, match="cannot be written: No space left"):
            bigger.save(written)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]
    bigger.save(written)
    assert GatewayRegistry.load(written).version == 4
    assert list(written.parent.iterdir()) == [written]


def test_a_missing_file_and_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="there is no registry") as caught:
        GatewayRegistry.load(tmp_path / "registry.json")
    assert caught.value.remedy
    with pytest.raises(RegistryError, match="cannot be read"):
        GatewayRegistry.load(tmp_path)
    with pytest.raises(RegistryError, match="cannot be written"):
        gateway_registry().save(tmp_path / "absent" / "registry.json")


@pytest.mark.parametrize(
    ("where", "to", "message"),
    [
        (("format",), 3, "has format '3'"),
        (("format",), 2, "is no signed registry"),
        (("format",), "1", "has format '1'"),
        (("format",), True, "has format 'True'"),
        (("format",), None, "top level"),
        (("version",), -1, "version"),
        (("version",), 1.5, "version"),
        (("site",), 5, "site"),
        (("site",), None, "top level"),
        (("gateway",), "02", "gateway"),
        (("extra",), 1, "top level"),
        (("devices",), [], "devices"),
        (("devices", "02:00"), {}, "device's name"),
        (("devices", "020000000000000A"), {}, "device's name"),
        (("devices", A.hex()), [], "device 0200000000000001"),
        (("devices", A.hex(), "revokd"), True, "device 0200000000000001"),
        (("devices", A.hex(), "revoked"), 0, "revoked"),
        (("devices", A.hex(), "name"), 7, "name"),
        (("devices", A.hex(), "epochs"), {}, "epochs"),
        (("devices", A.hex(), "epochs", "x"), {}, "epoch x"),
        (("devices", A.hex(), "epochs", "04"), {}, "epoch 04"),
        (("devices", A.hex(), "epochs", "4294967296"), {}, "epoch 4294967296"),
        (("devices", A.hex(), "epochs", "4"), {}, "epoch 4"),
        (("devices", A.hex(), "epochs", "4", "frag_up"), "00", "epoch 4, a key"),
        (("devices", A.hex(), "epochs", "4", "frag_up"), "x" * 64, "epoch 4, a key"),
        (("devices", A.hex(), "epochs", "4", "frag_up"), 7, "epoch 4, a key"),
        (
            ("devices", A.hex(), "epochs", "8"),
            {"frag_up": KEYS[8].frag_up.hex(), "frag_dn": KEYS[8].frag_dn.hex()},
            "epochs",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    written: Path, where: tuple[str, ...], to: Any, message: str
) -> None:
    change(written, *where, to=to)
    with pytest.raises(RegistryError) as caught:
        GatewayRegistry.load(written)
    assert message in caught.value.what
    assert str(written) in caught.value.what
    assert caught.value.expected
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "\xff", "[" * 100_000, '{"format": 1, "format": 1}'])
def test_what_is_no_registry_at_all_is_refused(written: Path, text: str) -> None:
    written.write_bytes(text.encode("latin-1"))
    with pytest.raises(RegistryError):
        GatewayRegistry.load(written)


def test_a_gateways_registry_is_not_an_edge_servers(written: Path) -> None:
    with pytest.raises(RegistryError, match="top level"):
        EdgeRegistry.load(written)


def test_no_key_is_shown_by_repr_or_by_a_refusal(written: Path) -> None:
    secrets = [key.hex() for k in KEYS.values() for key in (k.frag_up, k.frag_dn)]
    shown = repr(gateway_registry()) + repr(edge_registry()) + str(gateway_registry().devices[A])
    change(written, "devices", A.hex(), "epochs", "5", "frag_dn", to=KEYS[5].frag_dn.hex()[:-1])
    with pytest.raises(RegistryError) as caught:
        GatewayRegistry.load(written)
    shown += str(caught.value) + repr(caught.value) + str(caught.value.__cause__)
    assert not [secret for secret in secrets if secret[:16] in shown]
    assert "pump 1" in shown
