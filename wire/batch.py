"""HTTP bodies between gateway and edge server (docs/protocol.md, section 6).

```
request   "SWB2" ‖ count u16 ‖ count × ( device 8 ‖ octet 0 ‖ counter u32 ‖ age ms u32 ‖ epoch u32 ‖
                                         length u16 ‖ sealed )
response  "SWA1" ‖ count u16 ‖ count × ( device 8 ‖ octet 0 ‖ counter u32 ‖ verdict u8 ‖ length u16 ‖ sealed )
```

In a response, device, octet 0 and counter are those of the item answered; the answer in `sealed` is sealed
under octet 0 of kind 1. A request of gateways before epochs were whole, "SWB1", lacks them (ADR 0018).

Reasons: `bad-magic`, `truncated`, `too-many`, `too-large`, `bad-epoch`, `unknown-verdict`, `trailing-bytes`.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from wire.errors import WireError
from wire.message import MAC_LENGTH, MAX_PAYLOAD, epoch_of

CONTENT_TYPE = "application/vnd.slimwire.batch"
MAX_ITEMS = 1024
MAX_SEALED = MAX_PAYLOAD - 5 - MAC_LENGTH

_REQUEST = b"SWB2"
_REQUEST_1 = b"SWB1"
_RESPONSE = b"SWA1"
_FRAME = struct.Struct(">4sH")
_INGEST = struct.Struct(">8sBIIIH")
_INGEST_1 = struct.Struct(">8sBIIH")
_ANSWER = struct.Struct(">8sBIBH")

MAX_BODY = _FRAME.size + MAX_ITEMS * (_INGEST.size + MAX_SEALED)


class Verdict(IntEnum):
    """What the edge server did with one item. SEAL and LATENT are authenticated negative evidence."""

    ANSWERED = 0
    ALREADY = 1  # answered before; the stored answer is repeated
    UNKNOWN_DEVICE = 2
    SEAL = 3  # the seal does not open
    LATENT = 4  # the latent does not decode
    UNKNOWN_MODEL = 5
    REVOKED = 6
    BUSY = 7  # try again


class IngestItem(NamedTuple):
    """One sealed latent on its way to the edge server.

    Attributes:
        device: EUI-64.
        octet0: octet 0 of the message, F cleared.
        counter: of the message.
        age_ms: since the gateway had it whole, up to 2**32 - 1.
        sealed: 0..1219 bytes.
        epoch: the full key epoch, whose two low bits octet 0 has; None in a request of the first form.
    """

    device: bytes
    octet0: int
    counter: int
    age_ms: int
    sealed: bytes
    epoch: int | None = None


class AnswerItem(NamedTuple):
    """The edge server's word on one item, named as in the request; `sealed` is empty without an answer."""

    device: bytes
    octet0: int
    counter: int
    verdict: int
    sealed: bytes


_VERDICTS = tuple(Verdict)


def emit_request(items: Sequence[IngestItem], *, epochs: bool = True) -> bytes:
    """A request; one of the first form where `epochs` is False.

    Raises ValueError if there are more than 1024 items or one does not fit its fields.
    """
    if not epochs:
        return _emit(_REQUEST_1, _INGEST_1, [(item[:4], item.sealed) for item in items])
    for item in items:
        if item.epoch is None or item.epoch & 3 != epoch_of(item.octet0):
            raise ValueError(f"an item has the epoch {item.epoch} and octet 0 {item.octet0:#04x}")
    return _emit(_REQUEST, _INGEST, [((*item[:4], item.epoch), item.sealed) for item in items])


def emit_response(items: Sequence[AnswerItem]) -> bytes:
    """Raises ValueError if there are more than 1024 items or one does not fit its fields."""
    return _emit(_RESPONSE, _ANSWER, [(item[:4], item.sealed) for item in items])


def parse_request(body: bytes) -> list[IngestItem]:
    """Raises WireError: `bad-magic`, `truncated`, `too-many`, `too-large`, `bad-epoch`, `trailing-bytes`."""
    items = []
    if body.startswith(_REQUEST_1):
        for (device, octet, counter, age), sealed in _parse(_REQUEST_1, _INGEST_1, body):
            items.append(IngestItem(device, octet, counter, age, sealed))
        return items
    for (device, octet, counter, age, epoch), sealed in _parse(_REQUEST, _INGEST, body):
        if epoch & 3 != epoch_of(octet):
            raise WireError("bad-epoch", f"an item has the epoch {epoch} and octet 0 {octet:#04x}")
        items.append(IngestItem(device, octet, counter, age, sealed, epoch))
    return items


def parse_response(body: bytes) -> list[AnswerItem]:
    """Raises WireError as `parse_request` does, and `unknown-verdict`."""
    items = []
    for (device, octet, counter, verdict), sealed in _parse(_RESPONSE, _ANSWER, body):
        if verdict >= len(_VERDICTS):
            raise WireError(
                "unknown-verdict", f"an answer has verdict {verdict}, expected 0..{len(_VERDICTS) - 1}"
            )
        items.append(AnswerItem(device, octet, counter, _VERDICTS[verdict], sealed))
    return items


def _emit(magic: bytes, layout: struct.Struct, items: Sequence[tuple[tuple[Any, ...], bytes]]) -> bytes:
    if len(items) > MAX_ITEMS:
        raise ValueError(f"a batch has {len(items)} items, at most {MAX_ITEMS}")
    parts = [_FRAME.pack(magic, len(items))]
    for head, sealed in items:
        if len(head[0]) != 8 or len(sealed) > MAX_SEALED:
            raise ValueError(
                f"an item has a device name of {len(head[0])} bytes (8) "
                f"and {len(sealed)} sealed bytes (at most {MAX_SEALED})"
            )
        try:
            parts.append(layout.pack(*head, len(sealed)))
        except struct.error as error:
            raise ValueError(f"an item does not fit its fields: {error}") from None
        parts.append(sealed)
    return b"".join(parts)


def _parse(magic: bytes, layout: struct.Struct, body: bytes) -> list[tuple[tuple[Any, ...], bytes]]:
    if len(body) < _FRAME.size:
        raise WireError("truncated", f"a batch has {len(body)} bytes, expected at least {_FRAME.size}")
    found, count = _FRAME.unpack_from(body)
    if found != magic:
        raise WireError("bad-magic", f"a batch starts with {found!r}, expected {magic!r}")
    if count > MAX_ITEMS:
        raise WireError("too-many", f"a batch announces {count} items, at most {MAX_ITEMS}")
    at = _FRAME.size
    items = []
    for i in range(count):
        if len(body) - at < layout.size:
            raise WireError("truncated", f"a batch of {count} items ends within item {i}")
        *head, length = layout.unpack_from(body, at)
        at += layout.size
        if length > MAX_SEALED:
            raise WireError("too-large", f"item {i} has {length} sealed bytes, at most {MAX_SEALED}")
        if len(body) - at < length:
            raise WireError("truncated", f"a batch of {count} items ends within item {i}")
        items.append((tuple(head), body[at : at + length]))
        at += length
    if at != len(body):
        raise WireError("trailing-bytes", f"{len(body) - at} bytes follow the last of {count} items")
    return items
