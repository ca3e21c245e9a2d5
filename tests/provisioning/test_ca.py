"""The site's certificate authority, judged by TLS itself."""

import datetime
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from provisioning import ca, fleet
from provisioning.errors import ProvisionError
from provisioning.identity import Site, create_device
from provisioning.secret import Cost, Secret

A, B = (bytes.fromhex(f"020000000000000{n}") for n in (1, 2))


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """The client's common name as the server saw it, or why there was no connection."""
    ours, theirs = socket.socketpair()
    said = []

    def serve() -> None:
        try:
            with server.wrap_socket(ours, server_side=True) as connection:
                subject = dict(pair[0] for pair in connection.getpeercert()["subject"])
                said.append(subject["commonName"])
                connection.sendall(b"!")
        except (ssl.SSLError, OSError) as error:
            said.append(str(getattr(error, "verify_message", error)))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(theirs, server_hostname="broker.example") as connection:
            connection.recv(1)
    except (ssl.SSLError, OSError):
        pass
    thread.join(10)
    return said[0]


def contexts(directory: Path, eui: bytes) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(directory / ca.CA_FILE))
    server.load_cert_chain(directory / ca.SERVER_FILE, directory / ca.SERVER_KEY)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(str(directory / ca.CRL_FILE))
    server.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    client = ssl.create_default_context(cafile=str(directory / ca.CA_FILE))
    client.load_cert_chain(directory / f"{eui.hex()}.pem", directory / f"{eui.hex()}.key")
    return server, client


@pytest.mark.parametrize("vault", [False, True])
def test_a_broker_knows_devices_by_their_name_until_they_are_revoked(tmp_path: Path, vault: bool) -> None:
    secret = Secret(b"correct horse", cost=Cost(2)) if vault else None
    if secret is not None:
        fleet.make_vault(tmp_path / "site", secret)
    for eui in (A, B):
        create_device(tmp_path / "site", eui=eui, secret=secret)
    out = tmp_path / "tls"
    with Site.open(tmp_path / "site", secret=secret) as site:
        files = ca.write_site(site, out, devices=[A, B], servers=["broker.example", "127.0.0.1"])
    assert {file.name for file in files} == {file.name for file in out.iterdir()}
    assert {stat.S_IMODE(file.stat().st_mode) for file in out.glob("*.key")} == {0o600}
    assert (tmp_path / "site" / ca.STATE_FILE).exists() is not vault
    assert handshake(*contexts(out, A)) == A.hex()

    with Site.open(tmp_path / "site", secret=secret) as site:
        fleet.revoke(site, A)
        ca.write_site(site, out)
        with pytest.raises(ProvisionError, match="revoked"):
            ca.write_site(site, out, devices=[A])
    assert "revoked" in handshake(*contexts(out, A))
    assert handshake(*contexts(out, B)) == B.hex()


def test_a_new_certificate_ends_the_old_one(tmp_path: Path) -> None:
    create_device(tmp_path / "site", eui=A)
    with Site.open(tmp_path / "site") as site:
        ca.write_site(site, tmp_path / "old", devices=[A], servers=["broker.example"])
        ca.write_site(site, tmp_path / "new", devices=[A], servers=["broker.example"])
    server, _ = contexts(tmp_path / "new", A)
    assert "revoked" in handshake(server, contexts(tmp_path / "old", A)[1])
    assert handshake(server, contexts(tmp_path / "new", A)[1]) == A.hex()


def test_another_sites_device_is_nobody(tmp_path: Path) -> None:
    for name in ("one", "two"):
        create_device(tmp_path / name, eui=A)
        with Site.open(tmp_path / name) as site:
            ca.write_site(site, tmp_path / f"tls {name}", devices=[A], servers=["broker.example"])
    server, _ = contexts(tmp_path / "tls one", A)
    _, client = contexts(tmp_path / "tls two", A)
    client.load_verify_locations(str(tmp_path / "tls one" / ca.CA_FILE))
    assert handshake(server, client) != A.hex()


def test_what_the_certificates_say() -> None:
    now = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)
    authority = ca.CertificateAuthority.create("north field", now=now)
    issued = x509.load_pem_x509_certificate(authority.issue_device(A, days=10, now=now).certificate)
    assert (issued.not_valid_after_utc - now).days == 10
    assert issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert (
        issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value[0]
        == ca.ExtendedKeyUsageOID.CLIENT_AUTH
    )
    lists = [x509.load_pem_x509_crl(authority.crl(now=now)) for _ in range(2)]
    numbers = [one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for one in lists]
    assert numbers == [1, 2]
    again = ca.CertificateAuthority.of_state(authority.state())
    assert again == authority
    assert "PRIVATE" not in repr(authority)
