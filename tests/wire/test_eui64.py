"""EUI-64 text, and the link-local addresses made from link-layer addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import eui64s
from wire import eui64
from wire.errors import WireError


def test_the_universal_local_bit_is_inverted() -> None:
    # RFC 4291 appendix A: 34-56-78-9A-BC-DE with FFFE, globally unique.
    address = eui64.link_local(bytes.fromhex("34567ffffe9abcde"))
    assert address.hex() == "fe8000000000000036567ffffe9abcde"


def test_a_short_address_makes_the_iid_of_rfc_6282() -> None:
    assert eui64.link_local(b"\x01\x02").hex() == "fe80000000000000000000fffe000102"


@pytest.mark.parametrize("text", ["02:00:00:00:00:00:00:fe", "02-00-00-00-00-00-00-FE", "02000000000000fe"])
def test_text_forms(text: str) -> None:
    assert eui64.parse(text) == bytes.fromhex("02000000000000fe")


@pytest.mark.parametrize(
    "text", ["", "02", "02:00", "0x0000000000001", "02000000000000fg", "02 00 00 00 00 00 00 01"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(WireError) as caught:
        eui64.parse(text)
    assert caught.value.reason == "eui64"


@given(eui64s.filter(lambda address: address[:6] != bytes.fromhex("020000fffe00")))
def test_inverses(address: bytes) -> None:
    assert eui64.parse(eui64.text(address)) == address
    assert eui64.from_link_local(eui64.link_local(address)) == address


@pytest.mark.parametrize(
    "address",
    [
        "20010db8000000000000000000000001",
        "fe80000000000001" + "00" * 8,
        "fe80000000000000000000fffe000102",
        "fe80",
    ],
)
def test_addresses_without_an_eui64_are_refused(address: str) -> None:
    with pytest.raises(WireError) as caught:
        eui64.from_link_local(bytes.fromhex(address))
    assert caught.value.reason == "not-link-local"


@given(st.binary(max_size=20).filter(lambda address: len(address) not in (2, 8)))
def test_other_lengths_are_refused(address: bytes) -> None:
    with pytest.raises(WireError):
        eui64.link_local(address)
