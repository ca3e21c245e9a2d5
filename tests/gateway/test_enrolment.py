"""The registry as the service meets it: files it may not read, files that are something else."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.enrolment import Enrolment
from gateway.errors import GatewayError
from tests.gateway.kit import Node, save_registry

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
