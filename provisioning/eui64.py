"""A device's EUI-64: as a person gives it, or from the number that its chip carries."""

import hashlib

from provisioning.errors import ProvisionError
from wire import eui64
from wire.errors import WireError

_MAC = 6


def of_text(text: str | None) -> bytes | None:
    """The EUI-64 of 8 bytes that a person typed, None where nobody did. Raises ProvisionError."""
    try:
        return None if text is None else eui64.parse(text)
    except WireError as error:
        raise ProvisionError(error.message) from error


def from_unique_id(unique_id: bytes) -> bytes | None:
    """The EUI-64 of a board whose `machine.unique_id()` is this; None if it carries no number.

    A MAC-48 (6 bytes, as ESP32 boards have) becomes the EUI-64 that IEEE maps it to, with ff fe in the
    middle. Any other number (8 bytes of flash id, 12 of an STM32) is no address: a locally administered one
    is made of its SHA-256, the same each time.
    """
    if not any(unique_id):
        return None
    if len(unique_id) == _MAC and not unique_id[0] & 1:
        return unique_id[:3] + b"\xff\xfe" + unique_id[3:]
    digest = hashlib.sha256(unique_id).digest()
    return bytes((digest[0] & 0xFC | 0x02,)) + digest[1:8]
