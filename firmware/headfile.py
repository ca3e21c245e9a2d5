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
_STEP = const(16)  # words of a plan's step


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

    def take(self, n, what, spare=0):
        """The next `n` bytes, in a buffer with `spare` more; HeadError where there are not so many."""
        start = self.at
        self.at += n
        if self.at > self.size:
            cut_off(what, self.at, self.size)
        if isinstance(self._source, memoryview):
            piece = self._source[start : self.at]
            self._digest.update(piece)
            return piece
        piece = bytearray(n + spare)
        view = memoryview(piece)[:n]
        if self._source.readinto(view) != n:
            cut_off(what, self.at, self.size)
        self._digest.update(view)
        return piece

    def tag(self):
        """The model tag, once the file has been taken whole."""
        digest = self._digest.digest()
        return digest[0] << 8 | digest[1]


def load(head, source):
    """Give a Head everything that `Head` does not set itself, from a path or the file's bytes."""
    try:
        if isinstance(source, str):
            with open(source, "rb") as file:
                size = file.seek(0, 2)
                file.seek(0)
                fill(head, Pieces(file, size))
        else:
            size = len(source)
            fill(head, Pieces(memoryview(source), size))
    except MemoryError:
        head.weights = head.sections = head.plans = head.arena = None
        gc.collect()
        raise HeadError(
            "no memory for a head of %d bytes and its activations, %d are free (not in one piece); "
            "load it earlier, or a smaller one" % (size, gc.mem_free())
        ) from None


def fill(head, pieces):
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
    # pointwise() may read, and ignore, three bytes behind the weights of a full convolution
    head.weights = pieces.take(u32(header, 12), "weights", 3)
    head.sections, head.tables = [], []
    begin = u32(records, _RECORD * layers)
    need = (0, 0, 0, 0)
    for i in range(widths):
        if begin != pieces.at:
            raise HeadError(
                "width section %d at byte %d, expected %d, behind the last" % (i, begin, pieces.at)
            )
        begin = pieces.size if i == widths - 1 else u32(records, _RECORD * layers + 4 * i + 4)
        section = pieces.take(max(begin - pieces.at, 2 + 2 * layers), "width section")
        tables = check_requant(records, section, layers, header[7])
        sizes = lay_out(header, records, section, 0, None)
        check_coder(section, tables, head.levels, sizes[3])
        need = tuple([max(pair) for pair in zip(need, sizes)])
        head.sections.append(section)
        head.tables.append(tables)
    head.model_tag = pieces.tag()
    head.widths = tuple([u16(section, 0) for section in head.sections])
    if max(need[0], len(head.weights), max([len(section) for section in head.sections])) > _MAX_OFFSET:
        raise HeadError(
            "head of %d bytes and %d of activations; at most 65535 of each run here" % (pieces.size, need[0])
        )
    head.arena = bytearray(need[0])
    head.sums = array("I", bytes(4 * need[1]))
    head.patch = bytearray(need[2])
    head.plans, head.latents = [], []
    view = memoryview(head.arena)
    for section in head.sections:
        plan = array("H", bytes(2 * _STEP * (layers + 1)))
        n = lay_out(header, records, section, need[0], plan)[3]
        start = need[0] - n if layers & 1 == 0 else 0
        head.plans.append(plan)
        head.latents.append(view[start : start + n])
