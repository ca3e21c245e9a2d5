"""The gateway without a lock exists in the lab only, and is without a lock."""

import pytest

from gateway import settings
from lab.attacks.pass_through import PassThrough
from security.chain import KeyedChain
from slimwire.errors import SlimwireError
from tests.lab.messages import DEVICE, GATEWAY, KEY, frames_of
from wire import eui64, lowpan
from wire.ieee802154 import MacFrame
from wire.message import PORT, FirstSlice


@pytest.fixture
def first():
    mac = MacFrame.parse(frames_of(bytes(250))[0])
    part = lowpan.parse(mac.payload, mac.src, mac.dst)
    return FirstSlice.parse(part.udp_payload_slice, part.payload_length)


def test_it_accepts_what_the_chain_refuses(first):
    ends = (eui64.link_local(DEVICE), eui64.link_local(GATEWAY))
    other_key = bytes(32)
    for verifier, verdict in ((KeyedChain(), False), (PassThrough(), True)):
        said = verifier.verify_first(other_key, ends, (PORT, PORT), first.payload_length, first)
        assert said is verdict
        for i, (_, length) in enumerate(first.slices, 1):
            assert verifier.verify_slice(KEY, DEVICE, first, i, b"\xaa" * length) is verdict


def test_it_still_knows_which_slices_there_are(first):
    (_, length), *_ = first.slices
    assert not PassThrough().verify_slice(KEY, DEVICE, first, 1, bytes(length - 1))
    assert not PassThrough().verify_slice(KEY, DEVICE, first, 0, bytes(length))
    assert not PassThrough().verify_slice(KEY, DEVICE, first, first.n + 1, bytes(length))


def test_no_setting_of_the_gateway_leads_to_it():
    assert "verifier" not in settings.Settings.model_fields
    with pytest.raises(SlimwireError, match="verifier"):
        settings.load(None, verifier="pass-through")
