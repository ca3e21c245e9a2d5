"""The head: the first layers of a network, in integers, at a width that can change between images.

    head = Head("head.bin")
    head.set_width(0)                   # allocates nothing
    symbols = head.run(image)           # valid until the next run

All widths share the weights. What a width has of its own are its section of the file, with requantisation
and coder tables, and a plan that says what the kernels find where. Switching is choosing a plan.

Kept in memory ("ram"), weights and sections are used where they lie. Left in the file ("flash"), a run reads
a layer's requantisation and, some output channels at a time, its weights when it needs them, and at its end
the coder tables: little memory, and each run reads about what the file has for the width. Both give the same
symbols.
"""

import gc
import sys

from .compat import const, read_at
from .kernels import frame, gather, place, pointwise, window

# A plan's step (the words of a step are named in `kernels`).
_STEP = const(21)
_POINTWISE = const(1)
_PATCHED = const(4)
_WINDOW = const(2)  # bit of the kinds whose weights come whole
_CHANNELS = const(10)
_HEIGHT = const(11)
_WEIGHTS = const(16)
_TABLES = const(18)
_AT_A_TIME = const(20)


class HeadError(Exception):
    """A head file, or an image for it, that cannot be used; the message says what was found and expected."""


def _loader():
    """What fills a Head: modules that only loading needs, and that a device drops afterwards.

    What compiling one leaves behind is collected before the next, so that the memory stays whole for the
    head's large pieces.
    """
    if "firmware.headfile" not in sys.modules:
        gc.collect()
        from . import headcheck, headplan  # noqa: F401

        gc.collect()
        from . import headfile  # noqa: F401

        gc.collect()
    from .headfile import load

    return load


class Head:
    """A head read from a file.

    Args:
        source: path of the head file, or its bytes (used in place, not copied).
        mode: "ram", "flash", or "auto": "ram" where the heap has room for the file and a device's other
            needs. With "flash" the file stays open, and must not change while it is. Bytes are in memory
            anyway.
        scratch: how many bytes of `scratch` the caller wants.

    Raises:
        HeadError: the file is not a whole, sound head file, or needs more memory than there is.
        OSError: the file cannot be read.

    Attributes:
        widths: each width in thousandths, narrowest first.
        width_index: the present one; at first the widest.
        shape: (height, width, channels) of the image.
        model_tag: the u16 that names this head in messages.
        levels: symbols are 0..levels-1.
        n_symbols: how many a run gives at the present width.
        section, tables_at: where the present width's coder tables are, for `rans`; with "flash", those of
            the last run.
        image: a place for an image, as `run` takes it; what lies there is gone after a run.
        scratch: memory that a run uses and nobody else before the next one; symbols are not in it. `image`
            may be.
        file: the open file with "flash", else None.
    """

    file = None

    def __init__(self, source, mode="auto", scratch=0):
        _loader()(self, source, mode, scratch)
        self.set_width(len(self.widths) - 1)

    def set_width(self, index):
        """Run at `widths[index]` from now on. Allocates nothing, and reads nothing: with "flash", the next
        run reads what it needs, as every run does.

        Raises:
            ValueError: no such width.
        """
        if not 0 <= index < len(self.widths):
            raise ValueError("width %d of %d" % (index, len(self.widths)))
        self.width_index = index
        self.section = self.sections[index]
        self.tables_at = self.tables[index]
        self._plan = self.plans[index]
        self._latent = self.latents[index]
        self.n_symbols = len(self._latent)

    def run(self, image):
        """Symbols of an image at the present width. Allocates nothing.

        Args:
            image: height * width * channels bytes, 0..255, in (row, column, channel) order.

        Returns:
            memoryview of n_symbols bytes below `levels`, in (row, column, channel) order; the next run
            overwrites it.

        Raises:
            HeadError: the image has another size.
            OSError: with "flash", the file cannot be read, or became shorter.
        """
        height, width, channels = self.shape
        if len(image) != height * width * channels:
            raise HeadError(
                "image of %d bytes, expected %d x %d x %d" % (len(image), height, width, channels)
            )
        arena, weights = self.arena, self.weights  # two by two: four would make a tuple
        section, plan = self.section, self._plan
        file = self.file
        place(image, arena, plan, 0)
        frame(arena, plan, 0)
        for p in range(_STEP, len(plan), _STEP):
            kind = plan[p]
            if file:
                read_at(file, plan[p + _TABLES], section, plan[p + _TABLES + 1])
            channel = 0
            while channel < plan[p + _CHANNELS]:
                end = min(channel + plan[p + _AT_A_TIME], plan[p + _CHANNELS])
                if file:
                    each = plan[p + _WEIGHTS + 1]
                    rows = 1 if kind & _WINDOW else end - channel
                    read_at(file, plan[p + _WEIGHTS] + channel * each, weights, rows * each)
                some = channel | end << 16
                channel = end
                if kind == _POINTWISE:
                    pointwise(arena, weights, 0, arena, section, self.sums, plan, p, 0, some)
                elif kind == _PATCHED:
                    # each row's windows laid out as pixels, then pointwise
                    for y in range(plan[p + _HEIGHT]):
                        gather(arena, self.patch, plan, p, y)
                        pointwise(self.patch, weights, 0, arena, section, self.sums, plan, p, y, some)
                else:
                    window(arena, 0, arena, weights, section, plan, p)
            frame(arena, plan, p)  # last: an output may lie where input was that the layer has done with
        if file:
            read_at(file, plan[_TABLES], section, plan[_TABLES + 1])
        return self._latent

    def close(self):
        """Close the file that "flash" keeps open."""
        if self.file:
            self.file.close()
