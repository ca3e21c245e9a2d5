"""The keyed fragment chain: make it, and verify it on arrival (docs/protocol.md, section 2; ADR 0002).

The first slice carries a tag for every later one, and a MAC over all of that. tag_i chains over tag_{i-1} *as
the manifest has it*, so once the first slice is verified the others may be checked in any order, and a wrong
one is refused alone. `wire.message` says which bytes a tag covers; this module has the keys and computes.
"""

import hmac
from typing import Protocol

from security.mac import hmac_sha256
from wire.message import (
    FIRST_TAG,
    MAC_LENGTH,
    PORT,
    TAG_LENGTH,
    Cut,
    FirstSlice,
    emit_header,
    mac_input,
    tag_input,
)

__all__ = ["ChainVerifier", "Cut", "KeyedChain", "make"]


def make(
    k_frag: bytes,
    device_eui: bytes,
    src16: bytes,
    dst16: bytes,
    *,
    octet0: int,
    counter: int,
    sealed: bytes,
    single_room: int,
    first_room: int,
    slice_room: int,
    attempt: int = 0,
    ports: tuple[int, int] = (PORT, PORT),
) -> list[bytes]:
    """Cut sealed bytes into the slices of one message, with tags and MAC.

    Args:
        k_frag: K_frag_up or K_frag_dn, 32 bytes.
        device_eui: the device's EUI-64, in both directions.
        src16, dst16: IPv6 addresses of this hop, 16 bytes each.
        octet0: `wire.message.octet0(kind, epoch)`; F is set here.
        counter: of the message.
        sealed: what the seal made.
        single_room, first_room, slice_room: bytes of UDP payload that fit an unfragmented frame, a first
            fragment and a later one; the last two are rounded down to multiples of 8.
        attempt: 0..7; raise it to cut the same sealed bytes anew.
        ports: source and destination port.

    Returns:
        the slices of the UDP payload in order; one entry = unfragmented.

    Raises:
        WireError: `too-large`.
    """
    cut = Cut.plan(len(sealed), single_room, first_room, slice_room)
    head_end = cut.header_length + MAC_LENGTH
    # Slices after the first lie wholly within the sealed bytes.
    slices: list[bytes] = []
    tags: list[bytes] = []
    tag = FIRST_TAG
    for i in range(1, cut.n + 1):
        offset = cut.first + (i - 1) * 8 * cut.step
        data = sealed[offset - head_end : offset - head_end + 8 * cut.step]
        tag = _tag(k_frag, tag_input(device_eui, counter, i, offset, previous_tag=tag, data=data))
        slices.append(data)
        tags.append(tag)
    header = emit_header(octet0, counter, tags, cut.step, attempt)
    own = sealed[: cut.first - head_end]
    blank = FirstSlice.parse(header + bytes(MAC_LENGTH) + own, cut.payload_length)
    mac = _mac(k_frag, mac_input(src16, dst16, *ports, blank))
    return [header + mac + own, *slices]


class ChainVerifier(Protocol):
    """What a receiver asks of a chain. The real one is `KeyedChain`."""

    def verify_first(
        self,
        k_frag: bytes,
        addresses: tuple[bytes, bytes],
        ports: tuple[int, int],
        payload_length: int,
        first: FirstSlice,
    ) -> bool:
        """Whether the first slice's MAC is right for these IPv6 addresses and ports (source, destination)."""

    def verify_slice(self, k_frag: bytes, device_eui: bytes, first: FirstSlice, i: int, data: bytes) -> bool:
        """Whether `data` is slice i of the message that the verified first slice announces."""


class KeyedChain:
    """The chain of the protocol. Stateless; every comparison takes constant time."""

    def verify_first(
        self,
        k_frag: bytes,
        addresses: tuple[bytes, bytes],
        ports: tuple[int, int],
        payload_length: int,
        first: FirstSlice,
    ) -> bool:
        """See `ChainVerifier`. A right MAC does not make the cut possible: `first.cut_problem` says."""
        if payload_length != first.payload_length:
            return False
        return hmac.compare_digest(_mac(k_frag, mac_input(*addresses, *ports, first)), first.mac)

    def verify_slice(self, k_frag: bytes, device_eui: bytes, first: FirstSlice, i: int, data: bytes) -> bool:
        """See `ChainVerifier`. An index or a length that the manifest does not have costs no hash."""
        if not 1 <= i <= first.n or first.cut_problem:
            return False
        offset, length = first.slice_at(i)
        if len(data) != length:
            return False
        covered = tag_input(device_eui, first.counter, i, offset, previous_tag=first.tag(i - 1), data=data)
        return hmac.compare_digest(hmac_sha256(k_frag, covered)[:TAG_LENGTH], first.tag(i))


def _mac(k_frag: bytes, covered: bytes) -> bytes:
    return hmac_sha256(k_frag, covered)[:MAC_LENGTH]


def _tag(k_frag: bytes, covered: bytes) -> bytes:
    return hmac_sha256(k_frag, covered)[:TAG_LENGTH]
