"""The fleet vault: nothing lost, nothing readable, nothing passed off as the newest."""

import os
import re
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning import secret as secrets
from provisioning.errors import ProvisionError
from provisioning.secret import Cost, Secret
from provisioning.vault import Vault, VaultError

#: As weak as scrypt allows: tests need no strength.
CHEAP = Cost(2)
ROOT = "00112233445566778899aabbccddeeff" * 2


def key(text: str = "correct horse") -> Secret:
    return Secret(text.encode(), cost=CHEAP)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Vault.create(tmp_path / "fleet.vault", key()) as vault, vault.writing():
        for number in range(40):
            vault.put("root", f"{number:016x}", {"root": ROOT, "note": "x" * 50})
    return tmp_path / "fleet.vault"


def roots(path: Path) -> int:
    with Vault.open(path, key()) as vault:
        return sum(value["root"] == ROOT for _, value in vault.items("root"))


def test_what_is_put_is_there_and_nothing_of_it_can_be_read_without_the_secret(path: Path) -> None:
    assert roots(path) == 40
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for text in (ROOT.encode(), bytes.fromhex(ROOT), b'"root":', b"correct horse"):
        assert text not in content


def test_a_wrong_secret_is_told_and_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(VaultError, match="does not open the vault") as caught:
        Vault.open(path, key("wrong horse"))
    assert "wrong horse" not in str(caught.value)
    assert path.read_bytes() == before
    assert roots(path) == 40


def test_no_truncated_file_opens(path: Path) -> None:
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 509), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(VaultError, match="damaged or truncated") as caught:
            Vault.open(path, key())
        assert "restore" in caught.value.remedy
    path.write_bytes(whole)
    assert roots(path) == 40


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_flipped_bit_gives_another_secret(tmp_path_factory, data) -> None:
    path = tmp_path_factory.mktemp("vault") / "v"
    with Vault.create(path, key()) as vault, vault.writing():
        vault.put("root", "a", {"root": ROOT})
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        with Vault.open(path, key()) as vault:
            assert vault.get("root", "a") == {"root": ROOT}
    except VaultError:
        pass


@pytest.mark.parametrize(
    "forgery",
    [
        "DELETE FROM entry WHERE name = '0000000000000003'",
        "UPDATE entry SET sealed = (SELECT sealed FROM entry WHERE name = '0000000000000004') "
        "WHERE name = '0000000000000003'",
        "UPDATE entry SET name = 'ffffffffffffffff' WHERE name = '0000000000000003'",
        "INSERT INTO entry SELECT 'other', name, sealed FROM entry",
        "DELETE FROM head",
        "UPDATE header SET n = 4",
        "UPDATE header SET n = 1073741824",
        "UPDATE header SET salt = 'text'",
        "DELETE FROM header",
    ],
)
def test_entries_moved_dropped_or_doubled_behind_its_back_are_noticed(path: Path, forgery: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(forgery)
    with pytest.raises(VaultError):
        Vault.open(path, key())


def test_an_older_entry_put_back_is_noticed(path: Path) -> None:
    with sqlite3.connect(path) as db:
        old = db.execute("SELECT sealed FROM entry WHERE name = '0000000000000001'").fetchone()[0]
    with Vault.open(path, key()) as vault, vault.writing():
        vault.put("root", "0000000000000001", {"root": "new"})
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entry SET sealed = ? WHERE name = '0000000000000001'", (old,))
    with pytest.raises(VaultError, match="older than its head"):
        Vault.open(path, key())


def spoil(vault: Vault) -> None:
    with vault.writing():
        vault.put("root", "0000000000000001", None)
        vault.put("root", "0000000000000002", b"no JSON")


def test_a_failed_transaction_leaves_everything_as_it_was(path: Path) -> None:
    with Vault.open(path, key()) as vault:
        revision = vault.revision
        with pytest.raises(TypeError, match="JSON serializable"):
            spoil(vault)
        assert vault.revision == revision
        assert vault.get("root", "0000000000000001")["root"] == ROOT
    assert roots(path) == 40


def test_a_writer_that_is_killed_in_the_middle_loses_only_its_own_transaction(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from provisioning.vault import Vault; from provisioning.secret import Secret\n"
        "vault = Vault.open(Path(sys.argv[1]), Secret(b'correct horse'))\n"
        "with vault.writing():\n"
        "    for n in range(40): vault.put('root', f'{n:016x}', {'root': 'half', 'pad': 'y' * 4000})\n"
        "    vault._db.execute('PRAGMA cache_spill = 1')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert (
        subprocess.run([sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[2]).returncode < 0
    )
    assert roots(path) == 40


def test_two_writers_at_once_lose_nothing(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from provisioning.vault import Vault; from provisioning.secret import Secret\n"
        "with Vault.open(Path(sys.argv[1]), Secret(b'correct horse')) as vault:\n"
        "    for n in range(15):\n"
        "        with vault.writing():\n"
        "            vault.put('by', f'{sys.argv[2]} {n}', n)\n"
        "            vault.put('sum', 'sum', (vault.get('sum', 'sum') or 0) + 1)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), who], cwd=Path(__file__).parents[2])
        for who in ("a", "b")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with Vault.open(path, key()) as vault:
        assert len(list(vault.items("by"))) == 30
        assert vault.get("sum", "sum") == 30


def test_a_backup_is_whole_sealed_and_its_owners_alone(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    with Vault.open(path, key()) as vault:
        vault.copy_to(backup)
        with pytest.raises(VaultError, match="exists"):
            vault.copy_to(backup)
    assert roots(backup) == 40
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600


def test_a_vault_is_never_overwritten_nor_opened_where_others_read_it(path: Path) -> None:
    with pytest.raises(VaultError, match="already"):
        Vault.create(path, key())
    path.chmod(0o644)
    with pytest.raises(VaultError, match="mode 0644"):
        Vault.open(path, key())
    with pytest.raises(VaultError, match="cannot be read"):
        Vault.open(path.with_name("none"), key())


def test_where_the_secret_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, raw = tmp_path / "p", tmp_path / "k"
    file.write_text("from a file\r\nand more\n")
    raw.write_bytes(bytes(range(32)))
    raw.chmod(0o600)
    monkeypatch.setenv(secrets.PASSPHRASE, "from the environment")
    assert secrets.find(key=raw).material == bytes(range(32))
    assert secrets.find(file=file).material == b"from a file"
    assert secrets.find().material == b"from the environment"
    monkeypatch.delenv(secrets.PASSPHRASE)
    monkeypatch.setenv(secrets.KEY_FILE, str(raw))
    assert secrets.find().material == bytes(range(32))
    monkeypatch.delenv(secrets.KEY_FILE)
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(ProvisionError, match="no terminal"):
        secrets.find()
    raw.chmod(0o640)
    with pytest.raises(ProvisionError, match="mode 0640"):
        secrets.find(key=raw)
    file.write_text("short")
    with pytest.raises(ProvisionError, match="has 5 characters") as caught:
        secrets.find(file=file)
    assert "short" not in str(caught.value)


def test_no_repr_shows_a_secret() -> None:
    secret = key()
    secret.key(bytes(16), CHEAP)
    assert not re.search("correct|horse|636f7272", repr(secret))


def test_a_passphrase_costs_what_it_must() -> None:
    assert secrets.passphrase("correct horse").cost == Cost(1 << 17, 8, 1)
