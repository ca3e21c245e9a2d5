"""The head: the first layers of a network, in integers, at a width that can change between images.

    head = Head("head.bin")
    head.set_width(0)                   # allocates nothing
    symbols = head.run(image)           # valid until the next run

All widths share the weights. What a width has of its own, requantisation and coder tables, is used where it
lies in its section of the file; a plan for each width says what the kernels find where. Switching is
choosing a plan.
"""

import gc
from array import array

from . import headfile
from . import kernels as k
from .headfile import HeadError, u16, u32


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
        sections, tables_at: where the present width's coder tables are, for `rans`.
    """

    def __init__(self, source):
        try:
            if isinstance(source, str):
                with open(source, "rb") as file:
                    size = file.seek(0, 2)
                    file.seek(0)
                    self._load(file, size)
            else:
                size = len(source)
                self._load(memoryview(source), size)
        except MemoryError:
            self._weights = self.sections = self._plans = None
            gc.collect()
            raise HeadError(
                "no memory for a head of %d bytes and activations, %d are free: load it earlier, or a smaller one"
                % (size, gc.mem_free())
            ) from None

    def _load(self, source, size):
        header, records, self._weights, self.sections, self.model_tag = headfile.read(source, size)
        headfile.check_layers(header, records)
        self.shape = (header[5], header[6], header[7])
        self.levels = header[10]
        layers = header[9]
        self._plans = [array("I", bytes(4 * k.P_WORDS * (layers + 1))) for _ in range(header[8])]
        self._tables_at = []
        self._latents = []
        widths = []
        arena = sums = patch = at = 0
        behind = size - len(self.sections)
        for i, plan in enumerate(self._plans):
            if u32(records, 12 * layers + 4 * i) != behind + at:
                raise HeadError(
                    "width section %d does not start at byte %d, behind the last" % (i, behind + at)
                )
            tables = headfile.check_requant(records, self.sections, at, layers, header[7])
            need = headfile.lay_out(header, records, self.sections, at, 1 << 24, plan)
            arena, sums, patch = max(arena, need[0]), max(sums, need[1]), max(patch, need[2])
            widths.append(u16(self.sections, at))
            self._tables_at.append(tables)
            at = headfile.check_coder(self.sections, tables, self.levels, need[3])
        if at != len(self.sections):
            raise HeadError(
                "%d bytes follow the last width section; copy the file again" % (len(self.sections) - at)
            )
        self.widths = tuple(widths)
        self._arena = bytearray(arena)
        self._sums = bytearray(sums)
        self._patch = bytearray(patch)
        at = 0
        for plan, tables in zip(self._plans, self._tables_at):
            n = headfile.lay_out(header, records, self.sections, at, arena, plan)[3]
            start = plan[len(plan) - k.P_WORDS + k.P_OUT]
            self._latents.append(memoryview(self._arena)[start : start + n])
            at = tables + 1 + 2 * self.levels * self.sections[tables] + (n + 3) // 4
        self.set_width(len(widths) - 1)

    def set_width(self, index):
        """Run at `widths[index]` from now on. Allocates nothing.

        Raises:
            ValueError: no such width.
        """
        if not 0 <= index < len(self.widths):
            raise ValueError("width %d of %d" % (index, len(self.widths)))
        self.width_index = index
        self.tables_at = self._tables_at[index]
        self._plan = self._plans[index]
        self._latent = self._latents[index]
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
        arena, weights, sections, plan = self._arena, self._weights, self.sections, self._plan
        for p in range(0, len(plan), k.P_WORDS):
            k.frame(arena, plan, p)
            kind = plan[p]
            if kind == k.POINTWISE:
                k.pointwise(arena, weights, 0, arena, sections, self._sums, plan, p, 0)
            elif kind == k.PLACE:
                k.place(image, arena, plan, p)
            elif kind == k.PATCHED:
                self._patched(plan, p)
            else:
                k.window(arena, 0, arena, weights, sections, plan, p)
        return self._latent

    def _patched(self, plan, p):
        """A 3x3 layer of several input channels: a row's windows laid out as pixels, then pointwise."""
        for y in range(plan[p + k.P_HEIGHT]):
            k.gather(self._arena, self._patch, plan, p, y)
            k.pointwise(self._patch, self._weights, 0, self._arena, self.sections, self._sums, plan, p, y)
