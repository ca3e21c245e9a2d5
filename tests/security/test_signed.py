"""Signed registries: only what the site's key signed, for this service, and never an older one again."""

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.errors import RegistryError
from security.keys import derive_edge, derive_gateway
from security.registry import Device, EdgeRegistry, GatewayRegistry
from security.signed import REASONS, Gate, SigningKey, VerifyKey
from tests.vectors.registry import case_name, claim

ROOT = bytes(range(32))
A = bytes.fromhex("0200000000000001")
GATEWAY = bytes.fromhex("02000000000000fe")
KEY = SigningKey(bytes(range(100, 132)))
OTHER = SigningKey(bytes(range(50, 82)))


def gateway(version: int = 3, name: str = "pump") -> GatewayRegistry:
    keys = {0: derive_gateway(ROOT, A, 0, "demo")}
    return GatewayRegistry(GATEWAY, "demo", version, {A: Device(A, name, keys)})


def edge(version: int = 3) -> EdgeRegistry:
    return EdgeRegistry(version, {A: Device(A, "pump", {0: derive_edge(ROOT, A, 0)})})


def reason_of(path: Path, gate: Gate, kind: type = GatewayRegistry) -> str:
    with pytest.raises(RegistryError) as caught:
        kind.load(path, gate)
    assert caught.value.reason in REASONS
    assert caught.value.remedy
    assert ROOT.hex() not in str(caught.value)
    return str(caught.value.reason)


@pytest.mark.parametrize("case", claim("registry-signature.json", "security"), ids=case_name)
def test_signature_vectors(case: dict) -> None:
    key = SigningKey(bytes.fromhex(case["seed"]))
    assert key.public.raw.hex() == case["public"]
    assert key.public.id == case["key"]
    assert key.sign(case["kind"], case["body"].encode()).hex() == case["signature"]
    assert key.public.check(case["kind"], case["body"].encode(), bytes.fromhex(case["signature"]))


def test_what_is_signed_loads_with_and_without_the_key(tmp_path: Path) -> None:
    gateway().save(tmp_path / "g", KEY)
    edge().save(tmp_path / "e", KEY)
    assert GatewayRegistry.load(tmp_path / "g") == gateway()
    assert GatewayRegistry.load(tmp_path / "g", Gate("gateway", KEY.public)) == gateway()
    assert EdgeRegistry.load(tmp_path / "e", Gate("edge", KEY.public)) == edge()


def test_an_unsigned_registry_passes_only_where_no_key_was_told(tmp_path: Path) -> None:
    gateway().save(tmp_path / "g")
    assert GatewayRegistry.load(tmp_path / "g", Gate("gateway", None)) == gateway()
    assert reason_of(tmp_path / "g", Gate("gateway", KEY.public)) == "registry-unsigned"


def test_one_services_file_is_not_the_others(tmp_path: Path) -> None:
    edge().save(tmp_path / "e", KEY)
    assert reason_of(tmp_path / "e", Gate("gateway", KEY.public)) == "registry-wrong-kind"
    tree = json.loads((tmp_path / "e").read_text())
    (tmp_path / "e").write_text(json.dumps({**tree, "kind": "gateway"}))
    assert reason_of(tmp_path / "e", Gate("gateway", KEY.public)) == "registry-bad-signature"


def test_another_key_is_refused_even_under_the_right_name(tmp_path: Path) -> None:
    gateway().save(tmp_path / "g", OTHER)
    assert reason_of(tmp_path / "g", Gate("gateway", KEY.public)) == "registry-wrong-key"
    tree = json.loads((tmp_path / "g").read_text())
    (tmp_path / "g").write_text(json.dumps({**tree, "key": KEY.public.id}))
    assert reason_of(tmp_path / "g", Gate("gateway", KEY.public)) == "registry-bad-signature"


@given(st.data())
def test_no_changed_byte_of_a_signed_file_is_accepted(tmp_path_factory, data) -> None:
    path = tmp_path_factory.mktemp("signed") / "g"
    gateway().save(path, KEY)
    text = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(text) - 2))  # the last one is the end of the line
    text[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(text)
    try:
        loaded = GatewayRegistry.load(path, Gate("gateway", KEY.public))
    except RegistryError:
        return
    assert loaded == gateway()  # white space, or another spelling of the same text


def test_versions_go_forward_only_and_over_restarts(tmp_path: Path) -> None:
    path, memory = tmp_path / "g", tmp_path / "state" / "floor.json"
    gate = Gate("gateway", KEY.public, memory)
    for version in (3, 3, 5):
        gateway(version).save(path, KEY)
        GatewayRegistry.load(path, gate)
    gateway(4).save(path, KEY)
    assert reason_of(path, gate) == "registry-rollback"
    assert reason_of(path, Gate("gateway", KEY.public, memory)) == "registry-rollback"
    gateway(5, "another").save(path, KEY)
    assert reason_of(path, Gate("gateway", KEY.public, memory)) == "registry-conflict"
    gateway(6).save(path, KEY)
    assert GatewayRegistry.load(path, Gate("gateway", KEY.public, memory)).version == 6


def test_no_text_of_a_file_ends_a_service(tmp_path: Path) -> None:
    """What Python cannot turn into a number, or a text into bytes, is refused as any other damage."""
    path = tmp_path / "g"
    gateway().save(path, KEY)
    path.write_text('{"format": ' + "1" * 5000 + "}")
    assert reason_of(path, Gate("gateway", KEY.public)) == "registry-damaged"
    body = json.dumps({**gateway().body(), "site": "SITE"}).replace("SITE", "\ud800")
    path.write_text(json.dumps({**KEY.envelope("gateway", "{}"), "body": body}))
    assert reason_of(path, Gate("gateway", None)) == "registry-damaged"
    assert reason_of(path, Gate("gateway", KEY.public)) == "registry-bad-signature"


def test_the_highest_version_is_on_disk_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename is durable once its directory is: before that, a power cut would let an older file in."""
    synced, fsync = [], os.fsync

    def noted(handle: int) -> None:
        there = stat.S_ISDIR(os.fstat(handle).st_mode)
        synced.append((there, (tmp_path / "floor.json").exists()))
        fsync(handle)

    gateway().save(tmp_path / "g", KEY)
    monkeypatch.setattr(os, "fsync", noted)
    GatewayRegistry.load(tmp_path / "g", Gate("gateway", KEY.public, tmp_path / "floor.json"))
    assert synced == [(False, False), (True, True)]


def test_without_a_key_a_lower_version_is_refused_while_the_service_runs(tmp_path: Path) -> None:
    path, gate = tmp_path / "g", Gate("gateway", None, tmp_path / "floor.json")
    gateway(3).save(path)
    GatewayRegistry.load(path, gate)
    gateway(2).save(path)
    assert reason_of(path, gate) == "registry-rollback"
    assert not (tmp_path / "floor.json").exists()


@pytest.mark.parametrize("told", [None, OTHER.public])
def test_a_service_that_had_a_key_does_not_start_without_it(tmp_path: Path, told: VerifyKey | None) -> None:
    gateway().save(tmp_path / "g", KEY)
    GatewayRegistry.load(tmp_path / "g", Gate("gateway", KEY.public, tmp_path / "floor.json"))
    with pytest.raises(RegistryError, match="is told") as caught:
        Gate("gateway", told, tmp_path / "floor.json")
    assert caught.value.reason == "registry-wrong-key"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "a", "version": "x", "sha256": ""}'])
def test_a_damaged_memory_is_no_beginning(tmp_path: Path, text: str) -> None:
    (tmp_path / "floor.json").write_text(text)
    with pytest.raises(RegistryError, match="cannot be read"):
        Gate("gateway", KEY.public, tmp_path / "floor.json")


def test_public_keys_are_told_as_text_or_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "registry.pub").write_text(KEY.public.raw.hex() + "\n")
    assert VerifyKey.of(KEY.public.raw.hex()) == VerifyKey.of(str(tmp_path / "registry.pub")) == KEY.public
    for bad in ("", "xyz", "ab" * 31, str(tmp_path / "none")):
        with pytest.raises(RegistryError):
            VerifyKey.of(bad)


def test_no_secret_in_a_repr() -> None:
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY.seed) not in repr(KEY)
