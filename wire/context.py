"""RFC 6775 §4.2: the 6LoWPAN context option, with which routers announce the contexts of IPHC.

    ICMPv6 router advertisement, type 134: 16 octets, then options of  type | length in units of 8 | ...

     0                   1                   2                   3
    +---------------+---------------+---------------+---------------+
    | type = 34     | length 2 or 3 | context length| 0 0 0 C| CID  |
    +---------------+---------------+---------------+---------------+
    | reserved                      | valid lifetime                |
    +-------------------------------+-------------------------------+
    | prefix, 8 or 16 octets                                        |
    +---------------------------------------------------------------+

C says whether senders may use the context; whoever receives may always need it. Nothing here raises: what is
damaged announces nothing.
"""

from collections.abc import Iterator

from wire.iphc import Prefix

_ROUTER_ADVERTISEMENT = 134
_OPTIONS = 16
_CONTEXT_OPTION = 34


def announced(icmpv6: bytes) -> Iterator[tuple[int, Prefix]]:
    """The contexts, by their number 0..15, that an ICMPv6 message announces; those without lifetime too."""
    if not icmpv6 or icmpv6[0] != _ROUTER_ADVERTISEMENT:
        return
    at = _OPTIONS
    while at + 8 <= len(icmpv6):
        size = icmpv6[at + 1] * 8
        option = icmpv6[at : at + size]
        if not size or len(option) < size:
            return
        bits = option[2]
        if option[0] == _CONTEXT_OPTION and bits <= min(8 * (size - 8), 128):
            yield option[3] & 0x0F, Prefix(option[8:24].ljust(16, b"\0"), bits)
        at += size
