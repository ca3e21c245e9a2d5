"""The registry as the service meets it: files it may not read, files that are something else."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.enrolment import Enrolment
from gateway.errors import GatewayError
from security.signed import SigningKey
from tests.gateway.kit import Node, registry, save_registry

NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as somebody else")
@pytest.mark.parametrize("own_directory", [False, True])
def test_a_registry_of_root_is_refused_to_the_services_user_with_the_command_that_mends_it(
    tmp_path: Path, own_directory: bool
) -> None:
    path = save_registry(tmp_path / "registry.json", Node(1))
    for directory in (tmp_path, *tmp_path.parents):
        if not directory.stat().st_mode & stat.S_IXOTH and str(directory).startswith("/tmp/"):
            directory.chmod(0o755)
    if own_directory:  # as a service's state directory is
        os.chown(tmp_path, NOBODY, NOBODY)
    ask = (
        "import os, sys; from pathlib import Path; from gateway.enrolment import Enrolment\n"
        "from gateway.errors import GatewayError\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try: Enrolment(Path(sys.argv[1]), create=False)\n"
        "except GatewayError as error: print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", ask, str(path)], capture_output=True, text=True, check=True
    ).stdout
    what, remedy = told.strip().split("\n  ")
    assert what == f"registry {path} cannot be read: Permission denied"
    owner = f"--reference={tmp_path}/" if own_directory else str(NOBODY)
    assert f"sudo chown {owner} {path} " in remedy
    assert path.stat().st_uid == 0


def test_a_directory_in_the_registrys_place_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "registry.json").mkdir(mode=0o700)
    with pytest.raises(
        GatewayError, match=r"cannot be read: Is a directory\n  remedy: restore it from a backup"
    ):
        Enrolment(tmp_path / "registry.json", create=False)


KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(1, 33)))


def write(path: Path, version: int, *nodes: Node, signer: SigningKey | None = KEY) -> None:
    made = registry(*nodes)
    made.version = version
    made.save(path, signer)


def test_a_running_gateway_takes_only_what_its_site_signed_and_goes_forward_only(tmp_path: Path) -> None:
    path, memory = tmp_path / "registry.json", tmp_path / "state" / "floor.json"
    write(path, 3, Node(1))
    enrolment = Enrolment(path, create=True, key=KEY.public.raw.hex(), memory=memory)
    for version, signer, reason in (
        (4, None, "registry-unsigned"),
        (4, OTHER, "registry-wrong-key"),
        (2, KEY, "registry-rollback"),
        (3, KEY, "registry-conflict"),
    ):
        write(path, version, Node(1), Node(2), signer=signer)
        assert enrolment.changed() is None
        assert enrolment.refused[reason] == 1
        assert enrolment.problem is not None
        assert len(enrolment.registry.devices) == 1
    write(path, 4, Node(1), Node(2))
    changed = enrolment.changed()
    assert changed is not None
    assert (len(changed.devices), enrolment.problem) == (2, None)
    # And after a restart.
    write(path, 3, Node(1))
    with pytest.raises(GatewayError, match="was accepted before"):
        Enrolment(path, create=True, key=KEY.public.raw.hex(), memory=memory)
    write(path, 5, Node(1))
    with pytest.raises(GatewayError, match="is told no public key now"):
        Enrolment(path, create=True, memory=memory)


def test_no_empty_registry_is_made_where_a_signature_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="there is no registry"):
        Enrolment(tmp_path / "registry.json", create=True, key=KEY.public.raw.hex())
    assert not (tmp_path / "registry.json").exists()


def test_a_gateway_that_is_told_no_key_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "registry.json", 1, Node(1))
    Enrolment(tmp_path / "registry.json", create=False)
    assert "no public key was given" in caplog.text
