"""A fleet's identities: no root is written twice, nothing undone comes back, nothing secret comes out."""

import contextlib
import io
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from provisioning import fleet, site_file
from provisioning.errors import ProvisionError
from provisioning.identity import EDGE_FILE, GATEWAY_FILE, PUBLIC_FILE, SIGNING_FILE, Site, create_device
from provisioning.secret import KEY_FILE, PASSPHRASE, Cost, Secret
from provisioning.vault import FILE, Vault, VaultError, VaultSecretError
from security.keys import derive_edge, derive_gateway
from security.registry import EdgeRegistry, GatewayRegistry
from security.signed import Gate, VerifyKey
from slimwire.cli import main

A, B, C = (bytes.fromhex(f"020000000000000{n}") for n in (1, 2, 3))


def secret() -> Secret:
    return Secret(b"correct horse battery", cost=Cost(2))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A site with a vault."""
    fleet.make_vault(tmp_path / "site", secret(), name="lab")
    return tmp_path / "site"


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[Site]:
    with Site.open(directory, secret=secret()) as site:
        yield site


def enrol(directory: Path, eui: bytes, name: str = "") -> dict[str, Any]:
    return create_device(directory, eui=eui, name=name, secret=secret())


def published(directory: Path) -> tuple[GatewayRegistry, EdgeRegistry]:
    """Both registries, as services that know the site's key take them."""
    key = VerifyKey.load(directory / PUBLIC_FILE)
    return (
        GatewayRegistry.load(directory / GATEWAY_FILE, Gate("gateway", key)),
        EdgeRegistry.load(directory / EDGE_FILE, Gate("edge", key)),
    )


def test_a_vault_holds_the_root_and_no_file_beside_it_does(directory: Path) -> None:
    settings = enrol(directory, A, "pump")
    gateway, edge = published(directory)
    root, epoch = bytes.fromhex(settings["root"]), settings["epoch"]
    assert gateway.devices[A].epochs == {epoch: derive_gateway(root, A, epoch, "lab")}
    assert edge.devices[A].epochs == {epoch: derive_edge(root, A, epoch)}
    assert not (directory / SIGNING_FILE).exists()
    for file in directory.iterdir():
        assert settings["root"].encode() not in file.read_bytes()
        assert root not in file.read_bytes()


def test_each_service_gets_its_own_keys_only(directory: Path) -> None:
    enrol(directory, A)
    body = json.loads((directory / GATEWAY_FILE).read_text())["body"]
    assert re.findall("frag_up|frag_dn|msg_up|msg_dn|salt", body) == ["frag_up", "frag_dn"]
    body = json.loads((directory / EDGE_FILE).read_text())["body"]
    assert re.findall("frag_up|frag_dn|msg_up|msg_dn|salt", body) == ["msg_up", "msg_dn", "salt"]


def test_a_site_that_had_no_vault_keeps_its_key_and_its_devices(tmp_path: Path) -> None:
    create_device(tmp_path, eui=A)
    before, key = published(tmp_path)[0], VerifyKey.load(tmp_path / PUBLIC_FILE)
    assert fleet.make_vault(tmp_path, secret()) == key
    assert published(tmp_path)[0].devices == before.devices
    with opened(tmp_path) as site, pytest.raises(ProvisionError, match="not in the vault"):
        fleet.rotate(site, [A], {})
    epoch = enrol(tmp_path, A)["epoch"]
    with opened(tmp_path) as site:
        assert fleet.rotate(site, [A], {}) == [(A, epoch, epoch + 1)]
    with pytest.raises(VaultError, match="a vault already"):
        fleet.make_vault(tmp_path, secret())


def test_a_site_with_a_vault_changes_nothing_without_its_secret(directory: Path) -> None:
    enrol(directory, A)
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    with pytest.raises(VaultSecretError, match="nothing to open it with"):
        create_device(directory, eui=B)
    with pytest.raises(VaultSecretError, match="does not open"):
        create_device(directory, eui=B, secret=Secret(b"wrong"))
    with Site.open(directory, create=False) as looked, pytest.raises(ProvisionError, match="to look at it"):
        fleet.revoke(looked, A)
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == before


def test_rotation_adds_the_next_epoch_of_the_same_root_and_locks_nobody_out(directory: Path) -> None:
    first = enrol(directory, A)
    root, a = bytes.fromhex(first["root"]), first["epoch"]
    b = enrol(directory, B)["epoch"]
    with opened(directory) as site:
        fleet.rotate(site, [A, B], {})
        fleet.rotate(site, [A], {})
        with pytest.raises(ProvisionError, match="lock it out"):
            fleet.rotate(site, [B, A], {})  # A was never heard above its first
    gateway, edge = published(directory)
    assert [sorted(gateway.devices[eui].epochs) for eui in (A, B)] == [[a, a + 1, a + 2], [b, b + 1]]
    assert all(edge.devices[A].epochs[e] == derive_edge(root, A, e) for e in (a, a + 1, a + 2))
    with opened(directory) as site:
        fleet.rotate(site, [A], {A: a + 2})
    assert sorted(published(directory)[1].devices[A].epochs) == [a + 1, a + 2, a + 3]


def test_revoked_stays_revoked_until_it_is_enrolled_under_a_new_root(directory: Path) -> None:
    old = enrol(directory, A, "pump")
    with opened(directory) as site:
        fleet.revoke(site, fleet.find(site, "pump"))
    assert all(registry.devices[A].revoked for registry in published(directory))
    with pytest.raises(ProvisionError, match="is revoked"):
        enrol(directory, A)
    with opened(directory) as site:
        new = fleet.re_enrol(site, A)
    device = published(directory)[0].devices[A]
    assert (device.revoked, device.name, sorted(device.epochs)) == (False, "pump", [new["epoch"]])
    assert new["epoch"] > old["epoch"]
    assert new["root"] != old["root"]


def test_a_restored_backup_never_gives_a_counter_to_an_old_key(directory: Path, tmp_path: Path) -> None:
    """Whatever is written after a restore: no root comes twice, and no (device, epoch) either."""
    given = [enrol(directory, eui) for eui in (A, B)]
    with opened(directory) as site:
        fleet.backup(site, tmp_path / "backup")
    given += [enrol(directory, eui) for eui in (A, C)]
    versions = [published(directory)[0].version]
    for _ in range(2):  # the same backup twice
        fleet.restore(directory, tmp_path / "backup", secret())
        given += [enrol(directory, eui) for eui in (A, B, C)]
        versions.append(published(directory)[0].version)
    assert len({one["root"] for one in given}) == len(given)
    assert len({(one["eui64"], one["epoch"]) for one in given}) == len(given)
    assert versions == sorted(set(versions))


def test_a_restore_does_not_undo_what_happened_since_the_backup(directory: Path, tmp_path: Path) -> None:
    for eui in (A, B, C):
        enrol(directory, eui)
    with opened(directory) as site:
        fleet.backup(site, tmp_path / "backup")
        fleet.revoke(site, A)
        fleet.re_enrol(site, B)  # its root was stolen
        fleet.rotate(site, [C], {})
    before = published(directory)
    report = fleet.restore(directory, tmp_path / "backup", secret(), now=2_000_000_000)
    after = published(directory)
    assert [registry.devices for registry in after] == [registry.devices for registry in before]
    assert report[:4] == (2_000_000_000, 3, True, 1)
    assert report.aside is not None
    assert report.aside.exists()
    with opened(directory) as site:
        epochs = sorted(before[0].devices[C].epochs)
        free = [e for e in range(2_000_000_001, 2_000_000_005) if e & 3 not in {e & 3 for e in epochs}]
        assert fleet.rotate(site, [C], {}) == [(C, epochs[-1], free[0])]  # others are taken on the air
        with pytest.raises(ProvisionError, match="not in the vault"):
            fleet.rotate(site, [B], {})


@pytest.mark.parametrize("stale", [GATEWAY_FILE, EDGE_FILE])
def test_a_restore_does_not_sign_an_older_half_anew(directory: Path, tmp_path: Path, stale: str) -> None:
    """One service may have held back its copy: what was revoked would be good again there."""
    enrol(directory, A)
    older = (directory / stale).read_bytes()
    with opened(directory) as site:
        fleet.backup(site, tmp_path / "backup")
        fleet.revoke(site, A)
    (directory / stale).write_bytes(older)
    with pytest.raises(ProvisionError, match=f"disagree about {A.hex()}"):
        fleet.restore(directory, tmp_path / "backup", secret())
    assert (directory / stale).read_bytes() == older


def test_a_lost_host_comes_back_from_the_backup_alone(directory: Path, tmp_path: Path) -> None:
    enrol(directory, A)
    with opened(directory) as site:
        fleet.backup(site, tmp_path / "backup")
    version = published(directory)[0].version
    other = tmp_path / "other host"
    with pytest.raises(ProvisionError, match="no registries to compare"):
        fleet.restore(other, tmp_path / "backup", secret())
    fleet.restore(other, tmp_path / "backup", secret(), without_registries=True)
    assert published(other)[0].devices == published(directory)[0].devices
    assert published(other)[0].version > version
    assert VerifyKey.load(other / PUBLIC_FILE) == VerifyKey.load(directory / PUBLIC_FILE)


@pytest.mark.parametrize("spoil", ["truncated", "wrong secret", "another site's registries"])
def test_a_restore_that_cannot_be_leaves_everything_as_it_was(
    directory: Path, tmp_path: Path, spoil: str
) -> None:
    enrol(directory, A)
    backup = tmp_path / "backup"
    with opened(directory) as site:
        fleet.backup(site, backup)
    if spoil == "truncated":
        backup.write_bytes(backup.read_bytes()[:-4096])
    if spoil == "another site's registries":
        create_device(tmp_path / "elsewhere", eui=A)
        for name in (GATEWAY_FILE, EDGE_FILE):
            (directory / name).write_bytes((tmp_path / "elsewhere" / name).read_bytes())
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    with pytest.raises(ProvisionError):
        fleet.restore(directory, backup, Secret(b"no") if spoil == "wrong secret" else secret())
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == before


def test_an_older_vault_in_the_place_of_the_newest_is_noticed(directory: Path) -> None:
    enrol(directory, A)
    old = (directory / FILE).read_bytes()
    enrol(directory, B)
    (directory / FILE).write_bytes(old)
    with pytest.raises(ProvisionError, match="an older copy"):
        enrol(directory, C)


def test_registries_that_a_crash_left_behind_are_published_at_the_next_opening(directory: Path) -> None:
    enrol(directory, A)
    old = (directory / GATEWAY_FILE).read_bytes()
    enrol(directory, B)
    (directory / GATEWAY_FILE).write_bytes(old)
    with opened(directory):
        pass
    assert set(published(directory)[0].devices) == {A, B}


def test_two_people_enrol_at_once_and_nothing_is_lost(directory: Path) -> None:
    def work(first: int) -> None:
        for number in range(first, first + 8):
            enrol(directory, bytes((2, 0, 0, 0, 0, 0, 1, number)))

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    gateway, edge = published(directory)
    assert len(gateway.devices) == len(edge.devices) == 16
    assert gateway.version == edge.version == 16
    with Vault.open(directory / FILE, secret()) as vault:
        assert len(list(vault.items("root"))) == 16


# The command line, as a person and as a script use it.


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "sites" / "lab.toml"
    site_file.write(path, host="127.0.0.1", admin=tmp_path / "none.sock")
    (tmp_path / "key").write_bytes(os.urandom(32))
    (tmp_path / "key").chmod(0o600)
    return path


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str
    args: list[str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """`slimwire provision` with these arguments, as its entry point runs it."""
    for name in (PASSPHRASE, KEY_FILE):
        monkeypatch.delenv(name, raising=False)

    def run(site: Path, *arguments: str, given: str = "") -> Done:
        argv = ["slimwire", "provision", *arguments, "--site", str(site)]
        out, err, code = io.StringIO(), io.StringIO(), 0
        with monkeypatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "argv", argv)
            patch.setattr(sys, "stdin", io.StringIO(given))
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Done(code, out.getvalue(), err.getvalue(), argv)

    return run


def test_no_verb_tells_a_secret(
    site: Path, tmp_path: Path, command: Callable[..., Done], caplog: pytest.LogCaptureFixture
) -> None:
    """Roots, seeds, derived keys and the key file: in no output, no log, no argument."""
    key = ["--key-file", str(tmp_path / "key")]
    caplog.set_level(logging.DEBUG)
    outputs = [command(site, "vault", *key, "--json")]
    secret_of = Secret((tmp_path / "key").read_bytes())
    folder = site.parent / "lab"
    with Site.open(folder, secret=secret_of) as opened_site:
        settings = opened_site.new_identity(A)
        opened_site.enrol(settings, "pump")
    outputs += [
        command(site, "rotate", "pump", *key, "--json"),
        command(site, "backup", str(tmp_path / "b"), *key, "--json"),
        command(site, "re-enrol", "pump", "--yes", "--settings-file", str(tmp_path / "d"), *key, "--json"),
        command(site, "ca", "pump", "--out", str(tmp_path / "tls"), "--server", "localhost", *key, "--json"),
        command(site, "revoke", "pump", "--yes", *key, "--json"),
        command(site, "restore", str(tmp_path / "b"), *key, "--json"),
        command(site, "key", "--json"),
    ]
    for done in outputs:
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)
    outputs += [
        command(site, "rotate", "pump", *key),
        command(site, "rotate", "nobody", *key),
        command(site, "restore", str(tmp_path / "b"), "--passphrase-stdin", given="wrong passphrase\n"),
    ]
    assert [done.returncode for done in outputs[-3:]] == [2, 13, 12]

    secrets = {settings["root"], json.loads((tmp_path / "d").read_text())["root"], "wrong passphrase"}
    secrets.add((tmp_path / "key").read_bytes().hex())
    with Vault.open(folder / FILE, secret_of) as vault:
        secrets.add(vault.get("site", "signing")["seed"])
    for name in (GATEWAY_FILE, EDGE_FILE):
        body = json.loads((folder / name).read_text())["body"]
        secrets.update(re.findall(r'"(?:frag_up|frag_dn|msg_up|msg_dn|salt)":"([0-9a-f]+)"', body))
    secrets.update(re.findall("[A-Za-z0-9+/]{60,}", (tmp_path / "tls" / f"{A.hex()}.key").read_text()))
    assert len(secrets) >= 12
    for done in outputs:
        for value in secrets:
            assert value not in done.stdout + done.stderr + " ".join(done.args) + caplog.text
    for private in (tmp_path / "d", tmp_path / "b", tmp_path / "tls" / f"{A.hex()}.key", folder / FILE):
        assert private.stat().st_mode & 0o777 == 0o600


def test_a_passphrase_comes_by_stdin_and_is_asked_for_nowhere_else(
    site: Path, command: Callable[..., Done]
) -> None:
    done = command(site, "vault", "--passphrase-stdin", "--json", given="correct horse battery\n")
    assert done.returncode == 0, done.stderr
    refused = command(site, "rotate", "--all")
    assert refused.returncode == 2
    assert "no terminal to ask on" in refused.stderr
    assert (
        command(site, "rotate", "--all", "--passphrase-stdin", given="correct horse battery\n").returncode
        == 0
    )
