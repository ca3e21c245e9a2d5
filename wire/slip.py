"""SLIP: packets on a serial line (RFC 1055).

    END 0xC0   ESC 0xDB   in a packet END is ESC 0xDC, and ESC is ESC 0xDD

A packet is sent with an END before it too, which ends whatever noise came first. Empty packets are nothing.
"""

from collections.abc import Iterator

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD
_END, _ESC = bytes((END,)), bytes((ESC,))
_ESCAPED = {ESC_END: END, ESC_ESC: ESC}

#: Largest packet that is taken: the largest 802.15.4 frame with its FCS.
LARGEST = 127


def encode(packet: bytes) -> bytes:
    """The packet on the line."""
    body = packet.replace(_ESC, bytes((ESC, ESC_ESC))).replace(_END, bytes((ESC, ESC_END)))
    return _END + body + _END


class Decoder:
    """Takes bytes as they come.

    Args:
        largest: bytes of a packet; of a longer one nothing is kept.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._packet = bytearray()
        self._escaped = False
        self._bad = False

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Every packet that ends in `data`; None for one that was too long, or no SLIP."""
        for byte in data:
            if byte == END:
                if self._bad or self._escaped:
                    yield None
                elif self._packet:
                    yield bytes(self._packet)
                self._packet.clear()
                self._escaped = self._bad = False
            elif self._bad:
                continue
            elif self._escaped:
                self._escaped = False
                original = _ESCAPED.get(byte)
                if original is None:
                    self._bad = True
                else:
                    self._add(original)
            elif byte == ESC:
                self._escaped = True
            else:
                self._add(byte)

    def _add(self, byte: int) -> None:
        if len(self._packet) >= self._largest:
            self._bad = True
        else:
            self._packet.append(byte)
