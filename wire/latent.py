"""The inner header of a sealed latent (docs/protocol.md, section 2.1).

```
0  2  model tag: the first two bytes of SHA-256(head.bin)
2  1  width index (4 bits) | coder (4 bits, 0 = rANS)
3  3  link report: duration (exponent 4, mantissa 8) | retries 4 | queue 4 | battery 4
6  .. coded symbols
```

Reasons: `truncated`, `unknown-coder`.
"""

from dataclasses import dataclass, field

from wire.errors import WireError

INNER_HEADER_LENGTH = 6
CODER_RANS = 0
MAX_DURATION_MS = 255 << 15


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What the device saw of its own link. Values that do not fit saturate when packed.

    Attributes:
        duration_ms: of the last message, first frame to custody ack (to its answer where the gateway gives no
            custody); 0 = none yet. Eight significant bits survive; the rest is cut off.
        retries: of the last message, 0..15.
        queue: samples waiting, 0..15.
        battery: 1 (empty) .. 15 (full), 0 = unknown or mains.
    """

    duration_ms: int = 0
    retries: int = 0
    queue: int = 0
    battery: int = 0

    def pack(self) -> int:
        """The report as 24 bits. The exponent is the smallest that holds the duration."""
        duration = min(max(self.duration_ms, 0), MAX_DURATION_MS)
        exponent = max(duration.bit_length() - 8, 0)
        mantissa = duration >> exponent
        retries, queue, battery = (min(max(v, 0), 15) for v in (self.retries, self.queue, self.battery))
        return exponent << 20 | mantissa << 12 | retries << 8 | queue << 4 | battery

    @classmethod
    def unpack(cls, bits: int) -> "LinkReport":
        """Every 24-bit value is a report."""
        return cls((bits >> 12 & 255) << (bits >> 20 & 15), bits >> 8 & 15, bits >> 4 & 15, bits & 15)


@dataclass(frozen=True, slots=True)
class InnerHeader:
    """What a sealed latent says about itself.

    Attributes:
        model_tag: 0..65535.
        width: index of the width it was made at, 0..15.
        coder: 0 = rANS.
        report: the link report.
    """

    model_tag: int
    width: int
    coder: int = CODER_RANS
    report: LinkReport = field(default_factory=LinkReport)

    def __post_init__(self) -> None:
        if not (0 <= self.model_tag <= 0xFFFF and 0 <= self.width <= 15 and 0 <= self.coder <= 15):
            raise ValueError(f"an inner header cannot carry {self}")

    def pack(self) -> bytes:
        """Six bytes."""
        return (
            self.model_tag.to_bytes(2, "big")
            + bytes((self.width << 4 | self.coder,))
            + self.report.pack().to_bytes(3, "big")
        )

    @classmethod
    def unpack(cls, data: bytes) -> "InnerHeader":
        """From the first six bytes of an opened latent.

        Raises:
            WireError: `truncated`, `unknown-coder`.
        """
        if len(data) < INNER_HEADER_LENGTH:
            raise WireError(
                "truncated", f"a latent has {len(data)} bytes, expected {INNER_HEADER_LENGTH} or more"
            )
        if data[2] & 15 != CODER_RANS:
            raise WireError(
                "unknown-coder", f"a latent names coder {data[2] & 15}, expected {CODER_RANS} (rANS)"
            )
        return cls(
            int.from_bytes(data[:2], "big"),
            data[2] >> 4,
            data[2] & 15,
            LinkReport.unpack(int.from_bytes(data[3:6], "big")),
        )


def emit(header: InnerHeader, coded: bytes) -> bytes:
    """The plaintext that gets sealed: inner header ‖ coded symbols."""
    return header.pack() + coded


def parse(plaintext: bytes) -> tuple[InnerHeader, bytes]:
    """Inner header and coded symbols of an opened latent. Raises WireError as `InnerHeader.unpack` does."""
    return InnerHeader.unpack(plaintext), plaintext[INNER_HEADER_LENGTH:]
