from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.attacks.forge import Forger
from lab.attacks.inject import Bucket
from security import chain
from tests.lab.messages import DEVICE, GATEWAY, KEY, frames_of
from wire import lowpan
from wire.ieee802154 import MacFrame
from wire.ipv6 import udp_checksum
from wire.message import PORT, FirstSlice


def opened(frame):
    mac = MacFrame.parse(frame)  # checks the FCS
    return mac, lowpan.parse(mac.payload, mac.src, mac.dst)


def assemble(first, laters):
    """The UDP payload, as a receiver without a lock would have it."""
    return first.udp_payload_slice + b"".join(
        part.data for part in sorted(laters, key=lambda part: part.udp_payload_offset)
    )


@pytest.mark.parametrize("size", [100, 101, 180, 300, 301])
@pytest.mark.parametrize("seed", range(4))
def test_early_fragments_fill_the_genuine_manifest_with_other_octets_and_a_right_checksum(size, seed):
    frames = frames_of(bytes(i % 251 for i in range(size)))
    (mac, first), genuine = opened(frames[0]), [opened(f)[1] for f in frames[1:]]
    early = [f for f in Forger(seed, early=1).overhear(frames[0]) if f.kind == "early-fragment"]
    assert len(early) == len(genuine)
    assert all(f.urgent for f in early)
    forged = [opened(f.frame) for f in early]
    for (forged_mac, part), real in zip(forged, genuine, strict=True):
        assert (forged_mac.src, forged_mac.dst, forged_mac.pan) == (mac.src, mac.dst, mac.pan)
        assert replace(part, data=b"") == replace(real, data=b"")
        assert len(part.data) == len(real.data)
        assert part.data != real.data
    payload = assemble(first, [part for _, part in forged])
    assert udp_checksum(first.src16, first.dst16, PORT, PORT, payload) == first.checksum
    assert not chain.KeyedChain().verify_slice(
        KEY, DEVICE, FirstSlice.parse(first.udp_payload_slice, first.payload_length), 1, forged[0][1].data
    )


def forged_kinds(frame_lists, seed):
    """Everything that is forged of the given messages, by kind."""
    forger, out = Forger(seed), {}
    for frames in frame_lists:
        for frame in frames:
            for forged in forger.overhear(frame):
                out.setdefault(forged.kind, []).append((frame, forged.frame))
    return out


def test_every_kind_is_made_and_parses_and_none_is_what_the_sender_made():
    messages = [
        frames_of(bytes([counter % 256]) * (40 + 37 * (counter % 5)), counter=counter, down=counter % 3 == 0)
        for counter in range(1, 400)
    ]
    genuine = {frame for frames in messages for frame in frames}
    kinds = forged_kinds(messages, seed=3)
    assert set(kinds) == {
        "early-fragment", "copied-manifest", "retagged", "hijacked", "bit-flip", "shifted", "altered",
        "replay", "next-counter", "down-early-fragment", "down-copied-manifest", "down-retagged",
        "down-hijacked",
        "down-altered", "down-next-counter", "down-fragments",
    }  # fmt: skip
    for kind, pairs in kinds.items():
        for _, forged in pairs:
            assert MacFrame.parse(forged).src in (DEVICE, GATEWAY)
            assert (forged in genuine) == (kind == "replay")


def test_a_copied_manifest_keeps_the_manifest_and_the_checksum_of_the_whole():
    seen = 0
    for seed in range(12):
        frames = frames_of(bytes(range(200)))
        (_, first), laters = opened(frames[0]), [opened(f)[1] for f in frames[1:]]
        for forged in Forger(seed).overhear(frames[0]):
            if forged.kind != "copied-manifest":
                continue
            seen += 1
            _, part = opened(forged.frame)
            start = FirstSlice.parse(first.udp_payload_slice, first.payload_length).sealed_start
            assert part.udp_payload_slice[:start] == first.udp_payload_slice[:start]
            assert part.udp_payload_slice[start:] != first.udp_payload_slice[start:]
            assert (
                udp_checksum(first.src16, first.dst16, PORT, PORT, assemble(part, laters)) == first.checksum
            )
    assert seen > 1


def test_whole_forged_datagrams_have_a_right_checksum():
    kinds = forged_kinds([frames_of(bytes(30), counter=c) for c in range(1, 30)], seed=1)
    for kind in ("altered", "next-counter"):
        for _, forged in kinds[kind]:
            assert opened(forged)[1].checksum_is_good


def test_the_seed_decides():
    messages = [frames_of(bytes(150), counter=c) for c in range(1, 9)]
    assert forged_kinds(messages, 5) == forged_kinds(messages, 5)
    assert forged_kinds(messages, 5) != forged_kinds(messages, 6)


@given(st.binary(max_size=127))
def test_noise_is_overheard_without_harm(frame):
    assert Forger(1).overhear(frame) == []


@given(st.binary(max_size=110))
def test_a_strange_payload_is_overheard_without_harm(payload):
    genuine = MacFrame.parse(frames_of(bytes(150))[0])
    Forger(1).overhear(replace(genuine, payload=payload).emit())


def test_the_bucket_lets_through_its_burst_and_then_its_rate():
    bucket = Bucket(rate=10, burst=3, now=0.0)
    taken = Counter(round(t * 0.01) for t in range(201) if bucket.take(t * 0.01))
    assert sum(taken.values()) in (22, 23)
