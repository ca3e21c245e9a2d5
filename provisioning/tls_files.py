"""The certificate that a board with an MQTT link over TLS gets: `firmware/links/tls.py` names the files."""

import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from provisioning import ca
from provisioning.identity import Site

NAMES = ("/ca.der", "/device.crt", "/device.key")


def issue(site: Site, eui: bytes) -> dict[str, bytes]:
    """A new key and certificate of the site's authority for an enrolled device, as files of its board.

    The key is on the board only. Raises ProvisionError: the device is not enrolled, or revoked.
    """
    with tempfile.TemporaryDirectory(prefix="slimwire-") as scratch:
        folder = Path(scratch)
        ca.write_site(site, folder, devices=[eui])
        authority = x509.load_pem_x509_certificate((folder / ca.CA_FILE).read_bytes())
        own = x509.load_pem_x509_certificate((folder / f"{eui.hex()}.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{eui.hex()}.key").read_bytes(), None)
    der = serialization.Encoding.DER
    private = key.private_bytes(
        der, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return dict(zip(NAMES, (authority.public_bytes(der), own.public_bytes(der), private), strict=True))
