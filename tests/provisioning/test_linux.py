"""Enrolling a Linux device: a directory that `slimwire device install` takes, and what the site learns."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from device.install import install
from device.unit import IDENTITY
from models.bundle import Bundle
from provisioning import entries, linux, site_file
from provisioning.errors import ProvisionError
from provisioning.site_file import SiteFile
from provisioning.sites import open_site
from slimwire.systemd import Staged

EUI = bytes.fromhex("0200000000000042")


@pytest.fixture
def site(tmp_path: Path) -> SiteFile:
    path = tmp_path / "sites" / "lab.toml"
    site_file.write(path, host="192.0.2.10", port=17000)
    return SiteFile.load(str(path))


def test_a_directory_that_installs_once_and_keys_in_both_registries(site: SiteFile, tmp_path: Path) -> None:
    report = linux.enrol(site, tmp_path / "hall", eui=EUI)
    settings = json.loads((tmp_path / "hall/device.json").read_text())
    assert (tmp_path / "hall").stat().st_mode & 0o777 == 0o700
    assert (settings["link"]["host"], settings["link"]["port"], settings["log"]) == ("192.0.2.10", 17000, "")
    assert settings["root"] not in json.dumps(report)
    assert report | {"directory": ""} == {
        "eui64": EUI.hex(),
        "epoch": settings["epoch"],
        "name": "hall",
        "bundle": "fashion-mnist",
        "model_tag": f"{Bundle.load('fashion-mnist').headfile.model_tag:04x}",
        "directory": "",
    }
    with open_site(site, create=False) as opened:
        assert opened.gateway.devices[EUI].name == opened.edge.devices[EUI].name == "hall"
    entry = entries.read(site.directory, EUI.hex())
    assert entry is not None
    assert (entry.board, entry.name, entry.epoch) == ("linux", "hall", settings["epoch"])
    install(tmp_path / "hall", Staged(tmp_path / "root"))
    assert json.loads((tmp_path / "root" / IDENTITY).read_text())["root"] == settings["root"]


def test_the_same_device_again_gets_another_root_under_a_later_epoch(site: SiteFile, tmp_path: Path) -> None:
    first, second = (linux.enrol(site, tmp_path / name, eui=EUI) for name in ("one", "two"))
    assert first["epoch"] < second["epoch"]
    roots = {json.loads((tmp_path / name / "device.json").read_text())["root"] for name in ("one", "two")}
    assert len(roots) == 2


def test_a_directory_that_holds_an_identity_is_left_alone(site: SiteFile, tmp_path: Path) -> None:
    linux.enrol(site, tmp_path / "hall", eui=EUI)
    before = (tmp_path / "hall/device.json").read_bytes()
    with pytest.raises(ProvisionError, match="holds an identity already"):
        linux.enrol(site, tmp_path / "hall", eui=EUI)
    with pytest.raises(ProvisionError, match="bundle cannot be installed"):
        linux.enrol(site, tmp_path / "other", bundle="no-such-bundle")
    assert (tmp_path / "hall/device.json").read_bytes() == before
    with open_site(site, create=False) as opened:
        assert list(opened.gateway.devices) == [EUI]


def test_on_the_command_line(site: SiteFile, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slimwire", "provision", "linux", str(tmp_path / "hall"), "--json"]
    done = subprocess.run(
        [*command, "--site", str(site.path), "--name", "Hall"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "Hall"
    secret = json.loads((tmp_path / "hall/device.json").read_text())["root"]
    assert secret not in done.stdout + done.stderr
