"""Reading and checking a head file (SWH1), so that the kernels can trust every number in it.

The file is read in pieces, each into the memory it stays in: layer records, weights, a section a width.
Loading is all that needs this module.
"""

import gc
import hashlib
from array import array

from .compat import const
from .head import HeadError
from .headcheck import check_coder, check_layers, check_requant, cut_off, u16, u32
from .headplan import lay_out

_HEADER = const(16)
_RECORD = const(12)  # bytes of a layer's record
_MAX_OFFSET = const(0xFFFF)  # what a plan's word can say
_STEP = const(21)  # words of a plan's step
_TABLES_AT = const(18)  # in the first step: where in the file the coder tables are, and how many bytes
_BESIDES = const(48 * 1024)  # bytes of heap for activations, the rest of the device, and to compile it


class Pieces:
    """A head file taken piece by piece from its front, and its digest.

    Args:
        source: a file open for reading at its start, or a memoryview, of which the pieces are then parts.
        size: how many bytes it has.
    """

    def __init__(self, source, size):
        self._source = source
        self.size = size
        self._digest = hashlib.sha256()
        self.at = 0

    def take(self, n, what, spare=0, into=None):
        """The next `n` bytes, in `into` or in a buffer with `spare` more; HeadError where there are not so
        many.
        """
        start = self.at
        self.at += n
        if self.at > self.size:
            cut_off(what, self.at, self.size)
        if isinstance(self._source, memoryview):
            piece = self._source[start : self.at]
            self._digest.update(piece)
            return piece
        piece = bytearray(n + spare) if into is None else into
        view = memoryview(piece)[:n]
        if self._source.readinto(view) != n:
            cut_off(what, self.at, self.size)
        self._digest.update(view)
        return piece if into is None else view

    def tag(self):
        """The model tag, once the file has been taken whole."""
        digest = self._digest.digest()
        return digest[0] << 8 | digest[1]


def load(head, source, mode, scratch):
    """Give a Head everything that `Head` does not set itself, from a path or the file's bytes."""
    file = None
    try:
        if isinstance(source, str):
            file = open(source, "rb")
            size = file.seek(0, 2)
            file.seek(0)
            fill(head, Pieces(file, size), file, mode, scratch)
        else:
            size = len(source)
            fill(head, Pieces(memoryview(source), size), None, "ram", scratch)
    except MemoryError:
        head.weights = head.sections = head.plans = head.arena = None
        gc.collect()
        raise HeadError(
            "no memory for a head of %d bytes and its activations, %d are free (not in one piece); "
            "load it earlier, or a smaller one" % (size, gc.mem_free())
        ) from None
    finally:
        if file and not head.file:
            file.close()


def fill(head, pieces, file, mode, scratch):
    header = pieces.take(_HEADER, "header")
    if bytes(header[:4]) != b"SWH1":
        raise HeadError("no head file: starts with %r, expected b'SWH1'" % bytes(header[:4]))
    if header[4] != 1:
        raise HeadError(
            "head file of format %d, expected 1: firmware and head must be of one release" % header[4]
        )
    widths, layers = header[8], header[9]
    if not 1 <= widths <= 16 or not 1 <= layers <= 32:
        raise HeadError("%d widths and %d layers, expected 1..16 and 1..32" % (widths, layers))
    head.shape = (header[5], header[6], header[7])
    head.levels = header[10]
    records = pieces.take(_RECORD * layers + 4 * widths, "layers")
    check_layers(header, records)
    streamed = mode == "flash" or (mode == "auto" and _tight(pieces.size))
    weights_at = pieces.at
    # pointwise() may read, and ignore, three bytes behind the weights of a full convolution
    if streamed:
        piece = bytearray(512)
        left = u32(header, 12)
        while left:
            left -= len(pieces.take(min(left, 512), "weights", 0, piece))
    else:
        head.weights = pieces.take(u32(header, 12), "weights", 3)
    begins = [u32(records, _RECORD * layers + 4 * i) for i in range(widths)] + [pieces.size]
    least = 2 + 2 * layers
    piece = None
    if streamed:
        longest = max([begins[i + 1] - begins[i] for i in range(widths)])
        piece = bytearray(min(max(longest, least), pieces.size))
    head.sections, head.tables, head.plans, head.latents = [], [], [], []
    channels = []
    need = (0, 0, 0, 0, 0)
    most = 0  # bytes of a layer's requantisation or a width's coder tables
    for i in range(widths):
        if begins[i] != pieces.at:
            raise HeadError(
                "width section %d at byte %d, expected %d, behind the last" % (i, begins[i], pieces.at)
            )
        section = pieces.take(max(begins[i + 1] - begins[i], least), "width section", 0, piece)
        tables = check_requant(records, section, layers, header[7])
        sizes = lay_out(header, records, section, 0, None, streamed, 0, 0)
        check_coder(section, tables, head.levels, sizes[3])
        need = tuple([max(pair) for pair in zip(need, sizes)])
        channels.append(bytes(section[:least]))
        most = max(most, len(section) - tables, 9 * max([u16(section, 2 * k) for k in range(1, layers + 1)]))
        head.tables.append(tables)
        if not streamed:
            head.sections.append(section)
    head.model_tag = pieces.tag()
    head.widths = tuple([u16(section, 0) for section in channels])
    size = max(need[0], need[3] + scratch)
    if max(size, pieces.size) > _MAX_OFFSET:
        raise HeadError(
            "head of %d bytes and %d of activations; at most 65535 of each run here" % (pieces.size, size)
        )
    piece = section = None
    if streamed:
        head.file = file
        head.weights = bytearray(need[4] + 3)
        head.sections = [bytearray(most)] * widths
    head.arena = bytearray(size)
    head.sums = array("I", bytes(4 * need[1]))
    head.patch = bytearray(need[2])
    view = memoryview(head.arena)
    head.image = view[: header[5] * header[6] * header[7]]
    head.scratch = view[need[3] :] if layers & 1 else view[: size - need[3]]
    for i in range(widths):
        plan = array("H", bytes(2 * _STEP * (layers + 1)))
        n = lay_out(header, records, channels[i], size, plan, streamed, weights_at, begins[i])[3]
        start = size - n if layers & 1 == 0 else 0
        plan[_TABLES_AT] = begins[i] + head.tables[i]
        plan[_TABLES_AT + 1] = begins[i + 1] - plan[_TABLES_AT]
        head.plans.append(plan)
        head.latents.append(view[start : start + n])
    if streamed:
        head.tables = [0] * widths


def _tight(size):
    """Whether a head of so many bytes, kept in memory, would leave less than a device needs besides."""
    gc.collect()
    return hasattr(gc, "mem_free") and gc.mem_free() < size + _BESIDES
