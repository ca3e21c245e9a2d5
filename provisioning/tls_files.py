"""The certificate that a board with an MQTT link over TLS gets: `firmware/links/tls.py` names the files."""

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from provisioning import ca
from provisioning.identity import Site

NAMES = ("/ca.der", "/device.crt", "/device.key")


def issue(site: Site, eui: bytes) -> dict[str, bytes]:
    """A new key and certificate of the site's authority for an enrolled device, as files of its board.

    The key is on the board only. Raises ProvisionError: the device is not enrolled, or revoked.
    """
    files = {name: content for name, (content, _) in ca.issue(site, devices=[eui]).items()}
    authority = x509.load_pem_x509_certificate(files[ca.CA_FILE])
    own = x509.load_pem_x509_certificate(files[f"{eui.hex()}.pem"])
    key = serialization.load_pem_private_key(files[f"{eui.hex()}.key"], None)
    der = serialization.Encoding.DER
    private = key.private_bytes(
        der, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return dict(zip(NAMES, (authority.public_bytes(der), own.public_bytes(der), private), strict=True))
