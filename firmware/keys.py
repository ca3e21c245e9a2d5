"""A device's keys from its root secret (docs/protocol.md, section 3). Used at start, then dropped."""

from .hkdf import hkdf_sha256


def derive(root, eui64, epoch, site):
    """(K_frag_up, K_frag_dn, K_msg_up, K_msg_dn): 32, 32, 16 and 16 bytes.

    root: 32 bytes; eui64: 8 bytes, the device's; epoch: the full epoch, u32; site: the gateway's site, text.
    """
    device = eui64 + epoch.to_bytes(4, "big")
    fragment = device + site.encode()
    return (
        hkdf_sha256(root, b"slimwire/1\0frag up\0" + fragment, 32),
        hkdf_sha256(root, b"slimwire/1\0frag dn\0" + fragment, 32),
        hkdf_sha256(root, b"slimwire/1\0msg up\0" + device, 16),
        hkdf_sha256(root, b"slimwire/1\0msg dn\0" + device, 16),
    )
