"""A site's small certificate authority: client certificates for MQTT devices, the broker's own, and a CRL.

ECDSA on P-256 with SHA-256 throughout, which the mbed TLS of MicroPython boards speaks. A device's common
name is its EUI-64 in hex, so a broker that takes it as the user name (mosquitto: `use_identity_as_username`)
can confine each device to its own topics. TLS guards the way to the broker; what is in a message is sealed
and MACed whatever the broker does.

The authority's key lies in the fleet vault, or in `ca.key` (0600) of a site without one. A device's key is
made here, written once, and not kept.

    files = write_site(site, Path("mqtt-tls"), devices=[eui], servers=["broker.example"])

Public: `CertificateAuthority`, `write_site`, and `issue`, which gives the same files to a caller instead.
"""

import datetime
import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning.errors import ProvisionError
from provisioning.identity import Site
from security import durable

CA_FILE = "ca.pem"
CRL_FILE = "crl.pem"
SERVER_FILE = "server.pem"
SERVER_KEY = "server.key"
#: State of the authority of a site without a vault.
STATE_FILE = "ca.key"

_CA_DAYS = 3650
_CRL_DAYS = 30
#: A clock that lags this much still takes a fresh certificate.
_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, PEM. `key` is secret."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(slots=True)
class CertificateAuthority:
    """The authority of one site.

    Attributes:
        certificate: its own, PEM.
        key_pem: its private key, PEM; secret.
        serials: serial numbers given out, by EUI-64 in hex.
        revoked: serial number -> Unix time it was revoked at.
        crl_number: how many CRLs were made.
    """

    certificate: bytes
    key_pem: bytes = field(repr=False)
    serials: dict[str, list[int]] = field(default_factory=dict)
    revoked: dict[int, int] = field(default_factory=dict)
    crl_number: int = 0

    @classmethod
    def create(cls, site: str, *, now: datetime.datetime | None = None) -> Self:
        """A new authority, valid for ten years. site: its name; now: UTC, for tests."""
        key, now = ec.generate_private_key(ec.SECP256R1()), now or _now()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Slimwire {site}"[:64])])
        usage = _usage(key_cert_sign=True, crl_sign=True)
        certificate = (
            _builder(name, name, key.public_key(), now, _CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(_pem(certificate), _key_pem(key))

    def issue_device(self, eui: bytes, *, days: int = 730, now: datetime.datetime | None = None) -> Issued:
        """A client certificate for a device; its earlier ones are revoked."""
        now = now or _now()
        self.revoke(eui, now=now)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, eui.hex())])
        issued, serial = self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, days, now, ())
        self.serials.setdefault(eui.hex(), []).append(serial)
        return issued

    def issue_server(
        self, names: Sequence[str], *, days: int = 825, now: datetime.datetime | None = None
    ) -> Issued:
        """A broker's certificate for host names and addresses, at least one."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        return self._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, days, now or _now(), names)[0]

    def revoke(self, eui: bytes, *, now: datetime.datetime | None = None) -> None:
        """Revoke every certificate that a device was given."""
        at = int((now or _now()).timestamp())
        for serial in self.serials.get(eui.hex(), ()):
            self.revoked.setdefault(serial, at)

    def crl(self, *, now: datetime.datetime | None = None) -> bytes:
        """The list of revoked certificates, PEM; good for 30 days. Raises its number."""
        now = now or _now()
        self.crl_number += 1
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._own().subject)
            .last_update(now - _SKEW)
            .next_update(now + datetime.timedelta(days=_CRL_DAYS))
            .add_extension(x509.CRLNumber(self.crl_number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._public()), critical=False)
        )
        for serial, at in sorted(self.revoked.items()):
            when = datetime.datetime.fromtimestamp(at, datetime.UTC)
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def state(self) -> dict[str, Any]:
        """What is kept of it, with its key."""
        return {
            "certificate": self.certificate.decode(),
            "key": self.key_pem.decode(),
            "serials": {eui: [str(n) for n in numbers] for eui, numbers in self.serials.items()},
            "revoked": {str(serial): at for serial, at in self.revoked.items()},
            "crl_number": self.crl_number,
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of `state`. Raises KeyError, ValueError or TypeError for anything else."""
        return cls(
            state["certificate"].encode(),
            state["key"].encode(),
            {eui: [int(n) for n in numbers] for eui, numbers in state["serials"].items()},
            {int(serial): int(at) for serial, at in state["revoked"].items()},
            int(state["crl_number"]),
        )

    def _issue(
        self,
        name: x509.Name,
        purpose: x509.ObjectIdentifier,
        days: int,
        now: datetime.datetime,
        hosts: Sequence[str],
    ) -> tuple[Issued, int]:
        key, own = ec.generate_private_key(ec.SECP256R1()), self._own()
        builder = (
            _builder(name, own.subject, key.public_key(), now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._public()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False
            )
        certificate = builder.sign(self._key(), hashes.SHA256())
        return Issued(_pem(certificate), _key_pem(key)), certificate.serial_number

    def _own(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)

    def _key(self) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self.key_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def _public(self) -> ec.EllipticCurvePublicKey:
        return self._key().public_key()


def write_site(
    site: Site,
    directory: Path,
    *,
    devices: Iterable[bytes] = (),
    servers: Sequence[str] = (),
    days: int = 730,
) -> list[Path]:
    """Write the files of `issue` to a directory, made if missing; their paths.

    Raises:
        ProvisionError: a device is revoked or not enrolled, or a file cannot be written.
    """
    files = issue(site, devices=devices, servers=servers, days=days)
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name, (content, mode) in files.items():
            durable.replace(directory / name, content, mode)
    except OSError as error:
        raise ProvisionError(f"{directory} cannot be written: {error.strerror}") from None
    return [directory / name for name in sorted(files)]


def issue(
    site: Site,
    *,
    devices: Iterable[bytes] = (),
    servers: Sequence[str] = (),
    days: int = 730,
) -> dict[str, tuple[bytes, int]]:
    """What a TLS broker and its devices need, content and mode by file name. The authority is made where the
    site has none.

    `ca.pem` and `crl.pem` always; `server.pem`, `server.key` where `servers` names hosts; `EUI64.pem` and
    `EUI64.key` for each device. Keys have mode 0600. Devices that the registry says are revoked are on the
    CRL.

    Raises:
        ProvisionError: a device is revoked or not enrolled, or the authority cannot be kept.
    """
    authority = _load(site)
    files: dict[str, tuple[bytes, int]] = {}
    for eui in devices:
        if eui not in site.gateway.devices or site.gateway.devices[eui].revoked:
            raise ProvisionError(
                f"{eui.hex()} is not enrolled, or revoked: it gets no certificate",
                remedy="enrol it first: slimwire provision up, or re-enrol",
            )
        issued = authority.issue_device(eui, days=days)
        files[f"{eui.hex()}.pem"] = issued.certificate, 0o644
        files[f"{eui.hex()}.key"] = issued.key, 0o600
    if servers:
        issued = authority.issue_server(servers)
        files[SERVER_FILE] = issued.certificate, 0o644
        files[SERVER_KEY] = issued.key, 0o600
    for eui, device in site.gateway.devices.items():
        if device.revoked:
            authority.revoke(eui)
    files[CA_FILE] = authority.certificate, 0o644
    files[CRL_FILE] = authority.crl(), 0o644
    _keep(site, authority)
    return files


def _load(site: Site) -> CertificateAuthority:
    path = site.directory / STATE_FILE
    try:
        if site.vault is not None:
            state = site.vault.get("site", "ca")
        else:
            state = json.loads(path.read_text()) if path.exists() else None
        if state is None:
            return CertificateAuthority.create(site.gateway.site)
        return CertificateAuthority.of_state(state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ProvisionError(
            f"the site's certificate authority in {path} cannot be used",
            remedy="restore it; or remove it, and give every device and broker new certificates",
        ) from None


def _keep(site: Site, authority: CertificateAuthority) -> None:
    """Kept before any file is given out: a certificate that nobody knows of could not be revoked."""
    if site.vault is not None:
        with site.vault.writing():
            site.vault.put("site", "ca", authority.state())
        return
    try:
        durable.replace(site.directory / STATE_FILE, json.dumps(authority.state()).encode() + b"\n", 0o600)
    except OSError as error:
        raise ProvisionError(f"{site.directory / STATE_FILE} cannot be written: {error.strerror}") from None


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
