"""The custody ack's MAC."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security import custody
from tests.vectors.registry import case_name, claim
from wire.errors import WireError
from wire.reply import Custody, CustodyStatus, custody_mac_input

KEY = bytes(range(32))
GATEWAY = bytes.fromhex("02000000000000fe")
DEVICE = bytes.fromhex("0200000000000001")


@pytest.mark.parametrize("case", claim("custody.json", "security"), ids=case_name)
def test_vectors(case: dict[str, Any]) -> None:
    key, gateway, device, data = (
        bytes.fromhex(case[name]) for name in ("k_frag_dn", "gateway", "device", "ack")
    )
    status = CustodyStatus(case["status"])
    ack = custody.make(key, gateway, device, epoch=case["epoch"], counter=case["counter"], status=status)
    assert ack.emit() == data
    assert custody_mac_input(gateway, device, data[:6]).hex() == case["mac_input"]
    assert custody.verify(key, gateway, device, Custody.parse(data))


@given(st.integers(0, 2**32 - 1), st.sampled_from(CustodyStatus), st.integers(0, 14 * 8 - 1))
def test_a_changed_bit_is_refused(counter: int, status: CustodyStatus, bit: int) -> None:
    data = bytearray(custody.make(KEY, GATEWAY, DEVICE, epoch=1, counter=counter, status=status).emit())
    assert custody.verify(KEY, GATEWAY, DEVICE, Custody.parse(bytes(data)))
    data[bit // 8] ^= 1 << bit % 8
    try:
        accepted = custody.verify(KEY, GATEWAY, DEVICE, Custody.parse(bytes(data)))
    except WireError:
        accepted = False
    assert not accepted


def test_an_ack_is_of_one_gateway_to_one_device_under_one_key() -> None:
    ack = custody.make(KEY, GATEWAY, DEVICE, epoch=0, counter=1, status=CustodyStatus.COMMITTED)
    assert not custody.verify(KEY, DEVICE, GATEWAY, ack)
    assert not custody.verify(KEY, GATEWAY, GATEWAY, ack)
    assert not custody.verify(bytes(32), GATEWAY, DEVICE, ack)
