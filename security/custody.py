"""The custody ack: a gateway's word that it has committed a message (docs/protocol.md, section 2.3)."""

import hmac

from security.mac import hmac_sha256
from wire.message import MAC_LENGTH, Kind, octet0
from wire.reply import Custody, CustodyStatus, custody_head, custody_mac_input


def make(
    k_frag_dn: bytes, gateway: bytes, device: bytes, *, epoch: int, counter: int, status: CustodyStatus
) -> Custody:
    """The ack of one message; `.emit()` gives its 14 bytes.

    Args:
        k_frag_dn: of the device and epoch. gateway, device: EUI-64s.
        epoch, counter: of the message acknowledged (the epoch's two low bits travel).
    """
    octet = octet0(Kind.REPLY, epoch)
    head = custody_head(octet, counter, status)
    return Custody(octet, counter, status, _mac(k_frag_dn, gateway, device, head))


def verify(k_frag_dn: bytes, gateway: bytes, device: bytes, ack: Custody) -> bool:
    """Whether this gateway gave this device this ack. `ack.octet0` has the epoch of the key to take."""
    head = custody_head(ack.octet0, ack.counter, ack.status)
    return hmac.compare_digest(_mac(k_frag_dn, gateway, device, head), ack.mac)


def _mac(key: bytes, gateway: bytes, device: bytes, head: bytes) -> bytes:
    return hmac_sha256(key, custody_mac_input(gateway, device, head))[:MAC_LENGTH]
