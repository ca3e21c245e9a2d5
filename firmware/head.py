"""The head: the first layers of a network, in integers, at a width that can change between images.

    head = Head("head.bin")
    head.set_width(0)                   # allocates nothing
    symbols = head.run(image)           # valid until the next run

All widths share the weights. What a width has of its own are its section of the file, with requantisation
and coder tables used where they lie, and a plan that says what the kernels find where. Switching is
choosing them.
"""

import gc
import sys

from .compat import const
from .kernels import frame, gather, place, pointwise, window

# A plan's step (the words of a step are named in `kernels`).
_STEP = const(16)
_PLACE = const(0)
_POINTWISE = const(1)
_PATCHED = const(4)
_HEIGHT = const(11)


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
        section, tables_at: where the present width's coder tables are, for `rans`.
    """

    def __init__(self, source):
        _loader()(self, source)
        self.set_width(len(self.widths) - 1)

    def set_width(self, index):
        """Run at `widths[index]` from now on. Allocates nothing.

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
        """
        height, width, channels = self.shape
        if len(image) != height * width * channels:
            raise HeadError(
                "image of %d bytes, expected %d x %d x %d" % (len(image), height, width, channels)
            )
        arena, weights = self.arena, self.weights  # two by two: four would make a tuple
        section, plan = self.section, self._plan
        for p in range(0, len(plan), _STEP):
            kind = plan[p]
            if kind == _PLACE:
                place(image, arena, plan, p)
            elif kind == _POINTWISE:
                pointwise(arena, weights, 0, arena, section, self.sums, plan, p, 0)
            elif kind == _PATCHED:
                # each row's windows laid out as pixels, then pointwise
                for y in range(plan[p + _HEIGHT]):
                    gather(arena, self.patch, plan, p, y)
                    pointwise(self.patch, weights, 0, arena, section, self.sums, plan, p, y)
            else:
                window(arena, 0, arena, weights, section, plan, p)
            frame(arena, plan, p)  # last: an output may lie where input was that the layer has done with
        return self._latent
