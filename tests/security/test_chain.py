"""The keyed fragment chain: every byte of it bound, every slice refused alone."""

import hmac
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security import keys
from security.chain import ChainVerifier, KeyedChain, make
from tests.vectors.registry import case_name, claim
from wire import message as m
from wire.errors import WireError
from wire.message import PORT, FirstSlice, FrameRooms, Kind

DEVICE = bytes.fromhex("0200000000000001")
OTHER = bytes.fromhex("0200000000000002")
SRC = bytes.fromhex("fe800000000000000000000000000001")
DST = bytes.fromhex("fe8000000000000000000000000000fe")
GATEWAY_KEYS = keys.derive_gateway(bytes(range(32)), DEVICE, 0, "demo")
K = GATEWAY_KEYS.frag_up
OCTET = m.octet0(Kind.DATA, 0)
ROOMS = FrameRooms(98, 88, 96)
CHAIN: ChainVerifier = KeyedChain()


def cut(sealed: bytes, **changes: Any) -> list[bytes]:
    wanted: dict[str, Any] = {"octet0": OCTET, "counter": 7, "sealed": sealed, **ROOMS._asdict(), **changes}
    key, device = wanted.pop("key", K), wanted.pop("device", DEVICE)
    src, dst = wanted.pop("src", SRC), wanted.pop("dst", DST)
    return make(key, device, src, dst, **wanted)


def first_of(slices: list[bytes]) -> FirstSlice:
    return FirstSlice.parse(slices[0], sum(map(len, slices)))


def accepts_first(
    slices: list[bytes],
    key: bytes = K,
    src: bytes = SRC,
    dst: bytes = DST,
    ports: tuple[int, int] = (PORT, PORT),
) -> bool:
    length = sum(map(len, slices))
    return CHAIN.verify_first(key, (src, dst), ports, length, FirstSlice.parse(slices[0], length))


messages = st.binary(max_size=60).flatmap(
    lambda seed: st.integers(8, 1169).map(lambda n: (seed * n + bytes(n))[:n])
)


@pytest.mark.parametrize("case", claim("chain.json", "security"), ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    key, device, src, dst, sealed = (
        bytes.fromhex(case[name]) for name in ("k_frag", "device", "src", "dst", "sealed")
    )
    ports = case["src_port"], case["dst_port"]
    slices = make(
        key,
        device,
        src,
        dst,
        octet0=case["octet0"],
        counter=case["counter"],
        sealed=sealed,
        single_room=case["single_room"],
        first_room=case["first_room"],
        slice_room=case["slice_room"],
        attempt=case["attempt"],
        ports=ports,
    )
    assert [s.hex() for s in slices] == case["slices"]
    first = FirstSlice.parse(slices[0], case["payload_length"])
    assert (first.n, first.step, first.header_length) == (case["n"], case["step"], case["header_length"])
    assert (first.mac.hex(), [t.hex() for t in first.tags]) == (case["mac"], case["tags"])
    assert m.mac_input(src, dst, *ports, first).hex() == case["mac_input"]
    assert CHAIN.verify_first(key, (src, dst), ports, case["payload_length"], first)
    for i, covered in enumerate(case["tag_inputs"], start=1):
        offset, _ = first.slices[i - 1]
        made = m.tag_input(device, first.counter, i, offset, previous_tag=first.tag(i - 1), data=slices[i])
        assert made.hex() == covered
        assert CHAIN.verify_slice(key, device, first, i, slices[i])


@given(messages, st.randoms(use_true_random=False), st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_what_is_made_verifies_in_any_order(sealed: bytes, random: Any, counter: int, attempt: int) -> None:
    slices = cut(sealed, counter=counter, attempt=attempt)
    first = first_of(slices)
    assert accepts_first(slices)
    assert first.cut_problem is None
    assert (first.counter, first.attempt) == (counter, attempt if first.fragmented else 0)
    order = list(range(1, len(slices)))
    random.shuffle(order)
    for i in order:
        assert CHAIN.verify_slice(K, DEVICE, first, i, slices[i])
    assert b"".join(slices)[first.sealed_start :] == sealed


@given(messages, st.data())
def test_one_changed_bit_is_refused_in_its_slice_alone(sealed: bytes, data: st.DataObject) -> None:
    slices = cut(sealed)
    first = first_of(slices)
    hit = data.draw(st.integers(0, len(slices) - 1))
    bit = data.draw(st.integers(0, 8 * len(slices[hit]) - 1))
    changed = bytearray(slices[hit])
    changed[bit // 8] ^= 1 << bit % 8
    if hit == 0:
        try:
            refused = not accepts_first([bytes(changed), *slices[1:]])
        except WireError:
            refused = True
        assert refused
        return
    for i in range(1, len(slices)):
        assert CHAIN.verify_slice(K, DEVICE, first, i, bytes(changed) if i == hit else slices[i]) is (
            i != hit
        )


@given(st.integers(0, 8 * 16 - 1), st.integers(0, 15), st.sampled_from([40, 300]))
def test_the_mac_binds_addresses_ports_length_and_key(bit: int, port_bit: int, size: int) -> None:
    slices = cut(bytes(size))

    def flipped(value: bytes) -> bytes:
        return (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(len(value), "big")

    assert accepts_first(slices)
    assert not accepts_first(slices, src=flipped(SRC))
    assert not accepts_first(slices, dst=flipped(DST))
    assert not accepts_first(slices, src=DST, dst=SRC)
    assert not accepts_first(slices, ports=(PORT ^ 1 << port_bit, PORT))
    assert not accepts_first(slices, ports=(PORT, PORT ^ 1 << port_bit))
    assert not accepts_first(slices, key=flipped(K))
    assert not accepts_first(slices, key=GATEWAY_KEYS.frag_dn)


@pytest.mark.parametrize("change", [-1, 1, 8])
def test_the_mac_binds_the_payload_length(change: int) -> None:
    slices = cut(bytes(300))
    length = sum(map(len, slices)) + change
    other = FirstSlice.parse(slices[0], length)
    assert not CHAIN.verify_first(K, (SRC, DST), (PORT, PORT), length, other)
    assert not CHAIN.verify_first(K, (SRC, DST), (PORT, PORT), length, first_of(slices))


def test_a_slice_belongs_to_one_index_counter_device_epoch_and_direction() -> None:
    sealed = bytes(k // 96 for k in range(1000))
    slices = cut(sealed)
    first = first_of(slices)
    for i in range(1, len(slices)):
        for j in range(len(slices)):
            assert CHAIN.verify_slice(K, DEVICE, first, j, slices[i]) is (i == j)
    relabelled = FirstSlice.parse(slices[0][:4] + b"\x08" + slices[0][5:], sum(map(len, slices)))
    assert (first.counter, relabelled.counter) == (7, 8)
    other_key = keys.derive_gateway(bytes(range(32)), DEVICE, 4, "demo").frag_up
    other_site = keys.derive_gateway(bytes(range(32)), DEVICE, 0, "elsewhere").frag_up
    assert not CHAIN.verify_slice(K, DEVICE, relabelled, 1, slices[1])
    assert not CHAIN.verify_slice(K, OTHER, first, 1, slices[1])
    for key in (other_key, other_site, GATEWAY_KEYS.frag_dn):
        assert not CHAIN.verify_slice(key, DEVICE, first, 1, slices[1])


def test_slices_of_equal_position_and_bytes_chain_over_what_came_before() -> None:
    """tag_2 covers tag_1: a slice does not fit a message that differs before it."""
    slices = cut(bytes(400))
    other = cut(b"\xff" * 200 + bytes(200))
    assert slices[3] == other[3]
    assert first_of(slices).tag(3) != first_of(other).tag(3)


def test_a_wrong_boundary_costs_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = cut(bytes(300))
    first = first_of(slices)
    hashed = []
    monkeypatch.setattr("security.chain.hmac.digest", lambda *args: hashed.append(args) or bytes(32))
    last = len(slices) - 1
    for i, data in [
        (0, slices[1]),
        (last + 1, slices[1]),
        (1, slices[1][:-1]),
        (1, slices[1] + b"\0"),
        (last, slices[1]),
    ]:
        assert not CHAIN.verify_slice(K, DEVICE, first, i, data)
    assert not hashed


def test_an_unfragmented_message_has_no_slices_to_accept() -> None:
    slices = cut(bytes(40))
    assert len(slices) == 1
    assert not CHAIN.verify_slice(K, DEVICE, first_of(slices), 1, b"")


def test_an_impossible_manifest_under_a_right_mac_is_evidence_and_opens_nothing() -> None:
    """A device signs a cut that does not follow: the MAC verifies, `cut_problem` says why it is refused."""
    slices = cut(bytes(300))
    length = sum(map(len, slices))
    data = slices[0][:6] + bytes([1]) + slices[0][7:]
    forged = FirstSlice.parse(data, length)
    mac = hmac.digest(K, m.mac_input(SRC, DST, PORT, PORT, forged), "sha256")[:8]
    signed = FirstSlice.parse(data[: forged.header_length] + mac + data[forged.sealed_start :], length)
    assert CHAIN.verify_first(K, (SRC, DST), (PORT, PORT), length, signed)
    assert signed.cut_problem is not None
    assert not CHAIN.verify_slice(K, DEVICE, signed, 1, slices[1])


@given(messages)
@settings(max_examples=20)
def test_a_retry_is_byte_for_byte_and_a_new_attempt_is_not(sealed: bytes) -> None:
    assert cut(sealed) == cut(sealed)
    again = cut(sealed, attempt=1)
    if len(again) > 1:
        assert again[0] != cut(sealed)[0]
        assert again[1:] == cut(sealed)[1:]


def test_f_of_the_octet_given_does_not_matter() -> None:
    assert cut(bytes(300), octet0=OCTET | 0b10) == cut(bytes(300))
    assert cut(bytes(30), octet0=OCTET | 0b10) == cut(bytes(30))


def test_what_fits_no_datagram_is_refused() -> None:
    with pytest.raises(WireError, match="too-large"):
        cut(bytes(1170))
