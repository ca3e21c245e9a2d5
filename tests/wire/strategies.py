"""What several tests of `wire` draw from."""

from hypothesis import strategies as st

from wire import eui64
from wire.ipv6 import Ipv6Header

eui64s = st.binary(min_size=8, max_size=8)
shorts = st.binary(min_size=2, max_size=2)
l2_addresses = st.one_of(eui64s, shorts)
ports = st.one_of(
    st.integers(0xF0B0, 0xF0BF), st.integers(0xF000, 0xF0FF), st.integers(0, 0xFFFF)
)  # each of the four compressed forms often


@st.composite
def addresses(draw: st.DrawFn, l2: bytes) -> bytes:
    """IPv6 addresses that meet every stateless compression: from `l2`, short, link-local, any."""
    form = draw(st.integers(0, 3))
    if form == 0:
        return eui64.link_local(l2)
    if form == 1:
        return eui64.link_local(draw(shorts))
    if form == 2:
        return bytes.fromhex("fe80000000000000") + draw(eui64s)
    return draw(st.binary(min_size=16, max_size=16))


@st.composite
def multicasts(draw: st.DrawFn) -> bytes:
    """Multicast addresses that meet every stateless compression."""
    inline = draw(st.sampled_from([1, 3, 5, 14]))
    if inline == 14:
        return b"\xff" + draw(st.binary(min_size=15, max_size=15))
    scope = b"\x02" if inline == 1 else draw(st.binary(min_size=1, max_size=1))
    return b"\xff" + scope + bytes(14 - inline) + draw(st.binary(min_size=inline, max_size=inline))


@st.composite
def headers(
    draw: st.DrawFn, l2_src: bytes, l2_dst: bytes, payload_length: int, next_header: int
) -> Ipv6Header:
    """IPv6 headers of a payload of this length."""
    return Ipv6Header(
        src=draw(st.one_of(addresses(l2_src), st.just(bytes(16)))),
        dst=draw(st.one_of(addresses(l2_dst), multicasts())),
        next_header=next_header,
        payload_length=payload_length,
        hop_limit=draw(st.one_of(st.sampled_from([1, 64, 255]), st.integers(0, 255))),
        traffic_class=draw(st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 255))),
        flow_label=draw(st.one_of(st.just(0), st.integers(0, 0xFFFFF))),
    )
