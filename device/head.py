"""The head on LiteRT, behind the interface that the firmware's agent knows (`firmware.head.Head`).

LiteRT's reference kernels give the bytes of the firmware's; the coder is that of `wire.rans`, whose messages
are the firmware's as well. On a processor with an operating system both are some hundred times as fast as
the firmware's kernels under CPython, which are written for MicroPython's compiler.
"""

import numpy as np

from device.errors import DeviceError
from models.errors import BundleError
from models.headfile import HeadFile
from models.litert_head import LiteRtHead as WidthHead
from models.litert_head import build
from wire import rans


class LiteRtHead:
    """A head file at any of its widths. Every width has an interpreter of its own, ready from the start.

    Args:
        data: head.bin.
        scratch: bytes of `scratch`.

    Attributes:
        widths: each width in thousandths, narrowest first.
        width_index: the present one; at first the widest.
        shape: (height, width, channels) of the image.
        model_tag: the u16 that names this head in messages.
        levels: symbols are 0..levels-1.
        n_symbols: how many a run gives at the present width.
        image: where a source puts an image, height * width * channels bytes.
        scratch: memory for messages and replies, which the firmware keeps in the head's own.
        file: None: the head is in memory.

    Raises:
        DeviceError: the bytes are no sound head file, or LiteRT does not run it.
    """

    file = None

    def __init__(self, data: bytes, scratch: int) -> None:
        try:
            self._headfile = HeadFile.parse(data)
            count = len(self._headfile.widths)
            self._heads = [
                WidthHead(build(self._headfile, i), self._headfile.levels, self._headfile.center, True)
                for i in range(count)
            ]
        except (BundleError, ValueError, RuntimeError) as error:
            raise DeviceError(
                f"head.bin cannot be used: {error}",
                remedy="copy the head.bin of a bundle that this release of `slimwire train` wrote",
            ) from error
        self.shape = self._headfile.input
        self.levels = self._headfile.levels
        self.model_tag = self._headfile.model_tag
        self.widths = tuple(width.thousandths for width in self._headfile.widths)
        self.image = memoryview(bytearray(int(np.prod(self.shape))))
        self.scratch = memoryview(bytearray(scratch))
        self.set_width(count - 1)

    def set_width(self, index: int) -> None:
        """Run at `widths[index]` from now on. Raises ValueError: there is no such width."""
        if not 0 <= index < len(self.widths):
            raise ValueError(f"width {index} of {len(self.widths)}")
        self.width_index = index
        self.tables = self._headfile.widths[index].tables
        self.n_symbols = self.tables.n

    def run(self, image: bytes | bytearray | memoryview) -> bytes:
        """Symbols of an image, u8 in (row, column, channel) order, in that same order."""
        pixels = np.frombuffer(image, np.uint8).reshape(1, *self.shape)
        return self._heads[self.width_index].run(pixels).tobytes()

    def close(self) -> None:
        """Nothing to close: the head is in memory."""


def encode_into(symbols: bytes, n: int, head: LiteRtHead, buffer: memoryview) -> int:
    """Code symbols with the tables of the head's present width, as `firmware.rans.encode_into` does.

    Returns:
        the length of the message now in `buffer`.

    Raises:
        ValueError: another number of symbols than this width has, or a buffer too small for the message.
    """
    message = rans.encode(np.frombuffer(symbols, np.uint8)[:n], head.tables)
    if len(message) > len(buffer):
        raise ValueError(f"the coded latent does not fit {len(buffer)} bytes")
    buffer[: len(message)] = message
    return len(message)
