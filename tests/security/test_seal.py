"""Sealing up and down."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from security import keys, seal
from security.errors import SealError
from security.keys import EdgeKeys
from tests.vectors.registry import case_name, claim
from wire.message import Kind, octet0

DEVICE = bytes.fromhex("0200000000000001")
OTHER = bytes.fromhex("0200000000000002")
KEYS = keys.derive_edge(bytes(range(32)), DEVICE, 0)
UP = octet0(Kind.DATA, 0)
DOWN = octet0(Kind.REPLY, 0)


def ccm(key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
    """AES-CCM with L = 2, M = 8 from single AES blocks, as RFC 3610 writes it."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 16)

    flags = 0x40 | (8 - 2) // 2 << 3 | (2 - 1)
    first = bytes([flags]) + nonce + len(plaintext).to_bytes(2, "big")
    covered = first + padded(len(aad).to_bytes(2, "big") + aad) + padded(plaintext)
    state = bytes(16)
    for at in range(0, len(covered), 16):
        state = block(bytes(a ^ b for a, b in zip(state, covered[at : at + 16], strict=True)))

    def stream(i: int) -> bytes:
        return block(b"\x01" + nonce + i.to_bytes(2, "big"))

    body = b"".join(stream(i + 1) for i in range((len(plaintext) + 15) // 16))
    ciphertext = bytes(a ^ b for a, b in zip(plaintext, body, strict=False))
    return ciphertext + bytes(a ^ b for a, b in zip(state[:8], stream(0), strict=False))


@pytest.mark.parametrize("case", claim("seal.json", "security"), ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    key, device, plaintext, sealed = (
        bytes.fromhex(case[name]) for name in ("key", "device", "plaintext", "sealed")
    )
    octet, counter = case["octet0"], case["counter"]
    nonce, aad = bytes.fromhex(case["nonce"]), bytes.fromhex(case["aad"])
    if case["direction"] == "up":
        both = EdgeKeys(key, bytes(16), bytes(32))
        assert seal.seal_up(both, device, octet, counter, plaintext) == sealed
        assert seal.open_up(both, device, octet, counter, sealed) == plaintext
        assert ccm(key, nonce, aad, plaintext) == sealed
    else:
        both = EdgeKeys(bytes(16), key, bytes.fromhex(case["salt_key"]))
        assert seal.seal_down(both, octet, counter, plaintext) == sealed
        assert seal.open_down(both, octet, counter, sealed) == plaintext
        assert sealed[:8].hex() == case["salt"]
        assert ccm(key, nonce, aad, plaintext) == sealed[8:]


def test_nonces_by_hand() -> None:
    assert seal.up_nonce(DEVICE, 0x01020304).hex() == "00020000000000000101020304"
    assert seal.down_nonce(b"saltsalt", 0x01020304).hex() == "0173616c7473616c7401020304"


@given(st.binary(max_size=100), st.integers(0, 2**32 - 1))
def test_open_inverts_seal_whatever_f_says(plaintext: bytes, counter: int) -> None:
    fragmented = UP | 0b10
    sealed = seal.seal_up(KEYS, DEVICE, UP, counter, plaintext)
    assert len(sealed) == len(plaintext) + 8
    assert seal.open_up(KEYS, DEVICE, fragmented, counter, sealed) == plaintext
    sealed = seal.seal_down(KEYS, DOWN, counter, plaintext)
    assert len(sealed) == len(plaintext) + 16
    assert seal.open_down(KEYS, DOWN | 0b10, counter, sealed) == plaintext


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_changed_bit_does_not_open(plaintext: bytes, data: st.DataObject) -> None:
    for make, opens in (
        (
            lambda: seal.seal_up(KEYS, DEVICE, UP, 7, plaintext),
            lambda s: seal.open_up(KEYS, DEVICE, UP, 7, s),
        ),
        (lambda: seal.seal_down(KEYS, DOWN, 7, plaintext), lambda s: seal.open_down(KEYS, DOWN, 7, s)),
    ):
        sealed = bytearray(make())
        bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
        sealed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            opens(bytes(sealed))


def test_another_device_counter_kind_epoch_or_key_does_not_open() -> None:
    sealed = seal.seal_up(KEYS, DEVICE, UP, 7, b"latent")
    other_epoch = keys.derive_edge(bytes(range(32)), DEVICE, 4)  # the same two bits, another key
    for attempt in (
        (KEYS, OTHER, UP, 7),
        (KEYS, DEVICE, UP, 8),
        (KEYS, DEVICE, DOWN, 7),
        (KEYS, DEVICE, octet0(Kind.DATA, 1), 7),
        (other_epoch, DEVICE, UP, 7),
    ):
        with pytest.raises(SealError, match="does not open"):
            seal.open_up(*attempt, sealed)


def test_the_two_directions_never_open_each_other() -> None:
    swapped = EdgeKeys(KEYS.msg_dn, KEYS.msg_up, KEYS.salt)
    answer = seal.seal_down(KEYS, DOWN, 7, b"answer")
    with pytest.raises(SealError):
        seal.open_up(swapped, DEVICE, DOWN, 7, answer[8:])


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 2**32 - 1))
def test_different_answers_to_one_counter_have_different_nonces(a: bytes, b: bytes, counter: int) -> None:
    """Two edge workers may answer one counter; equal answers give equal bytes, others another salt."""
    same = seal.seal_down(KEYS, DOWN, counter, a) == seal.seal_down(KEYS, DOWN, counter, b)
    salts = seal.answer_salt(KEYS, counter, a), seal.answer_salt(KEYS, counter, b)
    assert same == (a == b)
    assert (salts[0] == salts[1]) == (a == b)


@given(st.binary(max_size=40))
def test_any_bytes_either_open_or_are_refused(data: bytes) -> None:
    with pytest.raises(SealError):
        seal.open_up(KEYS, DEVICE, UP, 1, data)
    with pytest.raises(SealError):
        seal.open_down(KEYS, DOWN, 1, data)
