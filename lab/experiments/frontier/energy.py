"""What an answer costs a device, in mJ: an estimate, from constants that others measured.

Microcontroller: ST NUCLEO-L4R5ZI (Cortex-M4 at 120 MHz). MLPerf Tiny v0.5's reference result there for
ResNet-8 on CIFAR-10 is 29.2 mJ and 704 ms an image, of about 12.5 million multiply-accumulates (Banbury et
al. 2021, arXiv 2106.07597, and the v0.5 results): 2.3 nJ each, and 0.35 nJ a cycle. That is C; the same
kernels in MicroPython's viper take several times as long (`slimwire bench head`).

Radio: AT86RF233 at 3.0 V (`lab.experiments.attack.energy`), 250 kb/s, each frame sent once: back-off of the
mean length, one channel assessment, the frame, and its acknowledgement. Waiting for the answer is not
counted: it is the same for everything that asks a server.

JPEG and WebP encoders: no measured figure for that microcontroller was found. JPEG's cycles a pixel are an
estimate of what its parts take there: an integer 8 × 8 DCT about 1,500 cycles a block, quantisation and
zigzag about 10 cycles and Huffman coding about 25 a coefficient that is not zero; for colour, conversion and
half as many samples again. WebP's are JPEG's times the ratio of the two encoders' time on a PC (libwebp,
method 6, to libjpeg-turbo, through Pillow: 90 on 512 × 512 pixels of CIFAR-10, quality 5 to 50).
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.experiments.attack.energy import Meter
from lab.experiments.attack.radio import ACK, BACKOFF, BYTE, CCA, MIN_BE, PHY_BYTES, TURNAROUND
from models.evaluate import frames
from models.records import Record

MCU = "NUCLEO-L4R5ZI, Cortex-M4 at 120 MHz (MLPerf Tiny v0.5, ResNet-8: 29.2 mJ, 704 ms, 12.5 MMAC)"
RADIO = "AT86RF233, 3.0 V, +4 dBm, 250 kb/s (data sheet 8351)"
MJ_PER_MAC = 29.2 / 12.5e6
MJ_PER_CYCLE = 29.2 / (0.704 * 120e6)
JPEG_CYCLES = {1: 60, 3: 100}
"""Cycles a pixel, by channels: an estimate, see above."""
WEBP_TO_JPEG = 90
_SERVER_ONLY = ("raw", "full", "teacher", "jpeg", "webp")


@dataclass(frozen=True)
class Cost:
    """mJ of one answer. ``compute`` is None where the device's work is not known."""

    compute: float | None
    radio: float

    @property
    def total(self) -> float | None:
        """Both together."""
        return None if self.compute is None else self.compute + self.radio


def cost(record: Record, shape: tuple[int, int, int]) -> Cost:
    """Mean cost of an image of ``shape`` (H,W,C) by a record's method."""
    sent = record.coded.tolist()
    return Cost(_compute(record, shape), sum(radio_mj(size) for size in sent) / len(sent))


def radio_mj(coded: int) -> float:
    """mJ to send a message of ``coded`` bytes of symbols, each of its frames once."""
    count = frames(coded)
    meter = Meter()
    meter.tx = (coded + overhead(count) + count * PHY_BYTES) * BYTE
    meter.rx = count * (CCA + 2 * TURNAROUND + ACK)
    meter.off = count * (2**MIN_BE - 1) / 2 * BACKOFF
    return meter.millijoules


def overhead(count: int) -> int:
    """Bytes of ``count`` frames that are not coded symbols: headers, manifest, counter and MACs."""
    return 56 if count == 1 else 30 + 32 * count


def _compute(record: Record, shape: tuple[int, int, int]) -> float | None:
    height, width, channels = shape
    if record.kind in ("jpeg", "webp"):
        factor = WEBP_TO_JPEG * JPEG_CYCLES[3] if record.kind == "webp" else JPEG_CYCLES[channels]
        return height * width * factor * MJ_PER_CYCLE
    if record.kind in _SERVER_ONLY:
        return 0.0
    return None if record.device_macs is None else record.device_macs * MJ_PER_MAC
