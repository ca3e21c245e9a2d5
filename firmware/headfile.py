"""Reading and checking a head file (SWH1), so that the kernels can trust every number in it.

The file is read in pieces, each into the memory it stays in: layer records, weights, a section a width.
Loading is all that needs this module.
"""

import gc
import hashlib
from array import array

from .compat import const, micropython, ptr8
from .head import HeadError

_CONV = const(0)
_DEPTHWISE = const(1)
_POINTWISE = const(2)
_HEADER = const(16)
_RECORD = const(12)  # bytes of a layer's record
_MAX_CHANNELS = const(1024)  # the kernels' bounds rest on it
_MAX_OFFSET = const(0xFFFF)  # what a plan's word can say
_STEP = const(16)  # words of a plan's step


def u16(data, at):
    return data[at] | data[at + 1] << 8


def u32(data, at):
    return u16(data, at) | u16(data, at + 2) << 16


def cut_off(what, end, size):
    raise HeadError("head file is cut off: %s to byte %d, there are %d; copy it again" % (what, end, size))


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


def check_layers(header, records):
    """Check that each layer takes what the one before it gives and finds its weights.

    Raises:
        HeadError: it does not.
    """
    channels = header[7]
    layers = header[9]
    if not (header[5] and header[6] and channels and 2 <= header[10] <= 32 and header[11] < header[10]):
        raise HeadError("image, levels and centre %r; expected no 0, 2..32, less" % list(header[5:12]))
    for i in range(layers):
        at = _RECORD * i
        op, stride, act = records[at], records[at + 1], records[at + 2]
        c_in, c_out = u16(records, at + 4), u16(records, at + 6)
        if op == _CONV:
            weights = 9 * c_in * c_out
        elif op == _DEPTHWISE:
            weights = 9 * c_in if c_in == c_out else -1
        else:
            weights = c_in * c_out if op == _POINTWISE and stride == 1 and c_in % 4 == 0 else -1
        end = u32(records, at + 8) + weights
        if (
            weights < 0
            or not 1 <= stride <= 2
            or act != (i == layers - 1)
            or c_in != channels
            or not 0 < c_out <= _MAX_CHANNELS
            or end > u32(header, 12)
        ):
            raise HeadError(
                "layer %d: op %d, stride %d, activation %d, %d to %d channels, weights to byte %d; not one "
                "that this firmware runs after %d channels" % (i, op, stride, act, c_in, c_out, end, channels)
            )
        channels = c_out


def check_requant(records, section, layers, channels):
    """Check a width's channels and requantisation; the offset of its coder tables."""
    at = 2 + 2 * layers
    for i in range(layers):
        op = records[_RECORD * i]
        c_out = u16(section, 2 + 2 * i)
        if (
            not 0 < c_out <= u16(records, _RECORD * i + 6)
            or (op == _DEPTHWISE and c_out != channels)
            or (op == _POINTWISE and channels % 4)
        ):
            raise HeadError(
                "width %d: layer %d has %d channels after %d" % (u16(section, 0), i, c_out, channels)
            )
        channels = c_out
        at += 9 * channels
        if at > len(section):
            cut_off("requantisation", at, len(section))
        if not _in_range(section, at - 9 * channels, channels):
            raise HeadError("layer %d: multiplier not in 2^30..2^31, bias beyond 2^24 or shift above 31" % i)
    return at


@micropython.viper
def _in_range(tables: ptr8, at: int, channels: int) -> int:
    tables = ptr8(int(tables) + at)
    bad = 0
    i = 0
    while i < channels:
        bad |= (tables[i * 4 + 3] & 0xC0) ^ 0x40
        bad |= tables[(channels + i) * 4 + 3] & 0xFE
        bad |= tables[channels * 8 + i] & 0xE0
        i += 1
    return 1 if bad == 0 else 0


def check_coder(section, at, levels, n):
    """Check that the section ends with coder tables, at `at`, for `n` symbols."""
    count = section[at] if at < len(section) else 0
    maps = at + 1 + 2 * levels * count
    end = maps + (n + 3) // 4
    if end > len(section):
        cut_off("coder tables", end, len(section))
    if end < len(section):
        raise HeadError("%d bytes follow a width's tables; copy the file again" % (len(section) - end))
    good = 1 <= count <= 4
    for t in range(at + 1, maps, 2 * levels):
        total = 0
        for i in range(t, t + 2 * levels, 2):
            good = good and u16(section, i) > 0
            total += u16(section, i)
        good = good and total == 4096
    if good and count < 4:
        for i in range(maps, end):
            m = section[i]
            good = good and max(m & 3, m >> 2 & 3, m >> 4 & 3, m >> 6) < count
    if not good:
        raise HeadError("%d coder tables; expected 1..4, each with a sum of 4096, and a map to them" % count)


def lay_out(header, records, section, arena, plan):
    """Fill the kernels' plan of a width: a layer's input lies at one end of the arena, its output at the
    other.

    Args:
        arena: bytes that the arena has.
        plan: array of words for the image and for each layer, or None to learn the sizes.

    Returns:
        bytes that the arena must have, words of sums, bytes of a row of patches, symbols of the latent.
    """
    height, width, channels, layers = header[5], header[6], header[7], header[9]
    tables = 2 + 2 * layers
    need = sums = patch = base = size = row = 0
    kind = stride = full = weights = 0
    for step in range(layers + 1):
        source, source_row, source_channels, source_size = base, row, channels, size
        if step:
            record = _RECORD * (step - 1)
            op, stride, full = records[record], records[record + 1], u16(records, record + 4)
            weights = u32(records, record + 8)
            height = (height + stride - 1) // stride
            width = (width + stride - 1) // stride
            channels = u16(section, 2 * step)
            kind = 1 if op == _POINTWISE else 2 if op == _DEPTHWISE else 3
            if op == _CONV and full > 1:
                kind = 4
                patch = max(patch, width * (9 * full + 3 & ~3))
            sums = max(sums, width)
        row = width * channels
        before = after = framed = 0
        if step < layers and records[_RECORD * step] != _POINTWISE:
            # What a 3x3 layer reads has zeros around it as TFLite's SAME wants them: a pixel on each side,
            # but none before with stride 2 on an even size. The zeros after a row are also those before the
            # next.
            odd = records[_RECORD * step + 1] & 1
            row += channels
            after = row
            before = row * (odd | height & 1) + channels * (odd | width & 1)
            framed = before + 1
        size = before + height * row + after
        base = 0 if step & 1 else arena - size
        if kind == 1 and step & 1:
            # Rows come in order, the output from the arena's start on: it may follow on the heels of the
            # input.
            first = source_size + before + width * channels
            need = max(need, size, first, first + (height - 1) * (row - source_row))
        else:
            need = max(need, source_size + size)
        if plan:
            last = step == layers
            p = _STEP * step
            for word in (
                kind,
                source,
                source_row,
                source_channels,
                stride,
                weights,
                full,
                tables,
                base + before,
                row,
                channels,
                height,
                width,
                header[11] if last else 0,
                header[10] - 1 if last else 255,
                framed,
            ):
                plan[p] = word
                p += 1
        if step:
            tables += 9 * channels
    return need, sums, patch, size
