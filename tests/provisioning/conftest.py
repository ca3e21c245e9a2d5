"""What the tests of boards share: a site with a running gateway, and boards of it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning import site_file, watch
from provisioning.errors import GatewayAwayError
from provisioning.site_file import SiteFile
from provisioning.sites import found_site


class RunningSite:
    """A site file, its directory, and a gateway process that serves it.

    Attributes:
        path: of the site file. site: loaded. log: what the gateway says.
    """

    def __init__(self, directory: Path, port: int) -> None:
        self.path = directory / "sites" / "lab.toml"
        self.admin = directory / "gw.sock"
        site_file.write(self.path, host="127.0.0.1", port=port, admin=self.admin)
        with self.path.open("a") as file:
            file.write("\n[device]\nimages = 1\nperiod_ms = 50\n")
        self.site = SiteFile.load(str(self.path))
        found_site(self.site)
        self.log = directory / "gateway.log"
        registry = self.site.directory / "registry.json"
        command = [sys.executable, "-m", "slimwire", "gateway", "run", "--registry", str(registry)]
        command += ["--registry-key", str(self.site.directory / "registry.pub")]
        command += ["--listen", f"127.0.0.1:{port}", "--admin", str(self.admin)]
        command += ["--state", str(directory / "state"), "--edge", "http://127.0.0.1:9"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.gateway = watch.Gateway([self.admin])

    def wait(self) -> None:
        """Until the gateway answers."""
        end = time.monotonic() + 60
        while True:
            try:
                self.gateway.status()
                return
            except GatewayAwayError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        """End the gateway."""
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Iterator[RunningSite]:
    """One site and gateway for all tests of boards."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.pop("SLIMWIRE_WIFI_KEY", None)
    site = RunningSite(tmp_path_factory.mktemp("site"), port)
    try:
        site.wait()
        yield site
    finally:
        site.stop()
