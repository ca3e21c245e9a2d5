"""Real brokers for tests: amqtt, which every environment has, and mosquitto where it is installed."""

import asyncio
import contextlib
import ctypes
import datetime
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_AMQTT = """
import asyncio, sys
from gateway.embedded import EmbeddedBroker
async def main():
    await EmbeddedBroker("127.0.0.1", int(sys.argv[1]), "slimwire-gateway-0200000000000001").start()
    await asyncio.Event().wait()
asyncio.run(main())
"""
_PLAIN = "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_inflight_messages 0\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(done: Callable[[], bool], seconds: float = 30.0) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not done():
        assert asyncio.get_running_loop().time() < end, "it did not happen"
        await asyncio.sleep(0.01)


def _nodelay_of(pid: int, number: int) -> bool:
    """TCP_NODELAY of another process's descriptor (pidfd_getfd(2))."""
    pidfd = os.pidfd_open(pid)
    try:
        copied = ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, number, 0)
        if copied < 0:
            pytest.skip("this system does not let a test look at another process's sockets (pidfd_getfd)")
        with socket.socket(fileno=copied) as sock:
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    finally:
        os.close(pidfd)


def connections_of(pid: int, port: int, *, remote: bool = False) -> list[bool]:
    """TCP_NODELAY of each established IPv4 connection of a process from this port, or to it."""
    established = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "01" and int(fields[2 if remote else 1].partition(":")[2], 16) == port:
            established.add(f"socket:[{fields[9]}]")
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(entry) in established:
                found.append(_nodelay_of(pid, int(entry.name)))
    return found


@dataclass
class Server:
    """A broker's process, which can be stopped and started again on its port."""

    command: list[str]
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, f"{self.command} ended with {self.process.returncode}"
            assert time.monotonic() < end, f"{self.command} does not listen"
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None


@contextlib.contextmanager
def broker(kind: str, directory: Path, config: str | None = None, port: int = 0) -> Iterator[Server]:
    """A running broker; `kind` is "amqtt" or "mosquitto", `config` replaces mosquitto's own."""
    port = port or free_port()
    if kind == "amqtt":
        command = [sys.executable, "-c", _AMQTT, str(port)]
    else:
        path = directory / "mosquitto.conf"
        path.write_text(config or _PLAIN.format(port=port))
        command = ["mosquitto", "-c", str(path)]
    server = Server(command, port)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.kill()


class Authority:
    """Issues certificates into a directory, and revokes them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site authority")])
        self._revoked: list[int] = []
        certificate = self._builder(self._name, self._key, 3650).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))
        self.crl = directory / "crl.pem"
        self._write_crl()

    def issue(self, name: str, *, days: int = 30) -> tuple[Path, Path]:
        """A certificate for `name` and its key; negative days: one that expired so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(subject, key, days)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
            )
            .sign(self._key, hashes.SHA256())
        )
        paths = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        paths[0].write_bytes(_pem(certificate))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    def revoke(self, certificate: Path) -> None:
        """Put a certificate on the list."""
        self._revoked.append(x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number)
        self._write_crl()

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=400))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    def _write_crl(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - datetime.timedelta(days=1))
            .next_update(now + datetime.timedelta(days=30))
        )
        for serial in self._revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        self.crl.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
