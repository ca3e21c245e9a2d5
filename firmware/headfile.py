"""Reading and checking a head file (SWH1), so that the kernels can trust every number in it.

The file is read in pieces, each into the memory it stays in: records, weights, width sections.
"""

import hashlib

from . import kernels as k
from .compat import const

_CONV = const(0)
_DEPTHWISE = const(1)
_POINTWISE = const(2)
_RECORD = const(12)  # bytes of a layer's record
_HEADER = const(16)
_MAX_CHANNELS = const(1024)  # the kernels' bounds rest on it


class HeadError(Exception):
    """A head file, or an image for it, that cannot be used; the message says what was found and expected."""


def u16(data, at):
    return data[at] | data[at + 1] << 8


def u32(data, at):
    return u16(data, at) | u16(data, at + 2) << 16


def cut_off(what, end, size):
    raise HeadError("head file is cut off: %s to byte %d, there are %d; copy it again" % (what, end, size))


def read(source, size):
    """The pieces of a head file: (header, records, weights, sections, model tag).

    Args:
        source: a file open for reading at its start, or a memoryview, of which the pieces are then parts.
        size: how many bytes it has.

    Raises:
        HeadError: it is cut off, no head file, or of another format.
    """
    at = 0

    def take(n, what, spare=0):
        nonlocal at
        at += n
        if at > size:
            cut_off(what, at, size)
        if isinstance(source, memoryview):
            return source[at - n : at]
        piece = bytearray(n + spare)
        if source.readinto(memoryview(piece)[:n]) != n:
            cut_off(what, at, size)
        return piece

    header = take(_HEADER, "header")
    if bytes(header[:4]) != b"SWH1":
        raise HeadError("no head file: starts with %r, expected b'SWH1'" % bytes(header[:4]))
    if header[4] != 1:
        raise HeadError(
            "head file of format %d, expected 1: firmware and head must be of one release" % header[4]
        )
    widths, layers = header[8], header[9]
    if not 1 <= widths <= 16 or not 1 <= layers <= 32:
        raise HeadError("%d widths and %d layers, expected 1..16 and 1..32" % (widths, layers))
    n = u32(header, 12)
    records = take(_RECORD * layers + 4 * widths, "layers")
    weights = take(n, "weights", 3)  # pointwise() may read, and ignore, what follows a full convolution's
    sections = take(max(size - at, 1), "width sections")
    digest = hashlib.sha256(header)
    digest.update(records)
    digest.update(memoryview(weights)[:n])
    digest.update(sections)
    digest = digest.digest()
    return header, records, weights, sections, digest[0] << 8 | digest[1]


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


def check_requant(records, sections, at, layers, channels):
    """Check a width section's layers; the offset of its coder tables."""
    tables = at + 2 + 2 * layers
    if tables > len(sections):
        cut_off("width section", tables, len(sections))
    for i in range(layers):
        op = records[_RECORD * i]
        c_out = u16(sections, at + 2 + 2 * i)
        if (
            not 0 < c_out <= u16(records, _RECORD * i + 6)
            or (op == _DEPTHWISE and c_out != channels)
            or (op == _POINTWISE and channels % 4)
        ):
            raise HeadError(
                "width section at %d: layer %d has %d channels after %d" % (at, i, c_out, channels)
            )
        channels = c_out
        end = tables + 9 * channels
        if end > len(sections):
            cut_off("requantisation", end, len(sections))
        if not k.requant_in_range(sections, tables, channels):
            raise HeadError("layer %d: multiplier not in 2^30..2^31, bias beyond 2^24 or shift above 31" % i)
        tables = end
    return tables


def check_coder(sections, at, levels, n):
    """Check the coder tables at `at` for `n` symbols; the offset behind them."""
    count = sections[at] if at < len(sections) else 0
    maps = at + 1 + 2 * levels * count
    end = maps + (n + 3) // 4
    if end > len(sections):
        cut_off("coder tables", end, len(sections))
    good = 1 <= count <= 4
    for t in range(at + 1, maps, 2 * levels):
        total = 0
        for i in range(t, t + 2 * levels, 2):
            good = good and u16(sections, i) > 0
            total += u16(sections, i)
        good = good and total == 4096
    if good and count < 4:
        for i in range(maps, end):
            m = sections[i]
            good = good and max(m & 3, m >> 2 & 3, m >> 4 & 3, m >> 6) < count
    if not good:
        raise HeadError("%d coder tables; expected 1..4, each with a sum of 4096, and a map to them" % count)
    return end


def lay_out(header, records, sections, at, arena, plan):
    """Fill the kernels' plan of a width. A layer's input lies at one end of the arena, its output at the
    other.

    Args:
        at: offset of the width's section.
        arena: bytes that the arena has.
        plan: array of P_WORDS words for the image and for each layer.

    Returns:
        bytes that the arena must have, bytes of `sums`, bytes of a row of patches, symbols of the latent.
    """
    height, width, channels, layers = header[5], header[6], header[7], header[9]
    tables = at + 2 + 2 * layers
    need = sums = patch = base = size = row = 0
    for step in range(layers + 1):
        p = k.P_WORDS * step
        if step:
            record = _RECORD * (step - 1)
            op, stride, full = records[record], records[record + 1], u16(records, record + 4)
            plan[p + k.P_IN] = base
            plan[p + k.P_IN_ROW] = row
            plan[p + k.P_IN_CH] = channels
            plan[p + k.P_STRIDE] = stride
            plan[p + k.P_WEIGHTS] = u32(records, record + 8)
            plan[p + k.P_FULL] = full
            plan[p + k.P_TABLES] = tables
            height = (height + stride - 1) // stride
            width = (width + stride - 1) // stride
            channels = u16(sections, at + 2 * step)
            tables += 9 * channels
            kind = k.POINTWISE if op == _POINTWISE else k.DEPTHWISE if op == _DEPTHWISE else k.SHARED
            if op == _CONV and full > 1:
                kind = k.PATCHED
                patch = max(patch, width * (9 * full + 3 & ~3))
            plan[p + k.P_KIND] = kind
            plan[p + k.P_TOP] = 255
            sums = max(sums, 4 * width)
        row = width * channels
        before = after = 0
        plan[p + k.P_BEFORE] = 0
        if step < layers and records[_RECORD * step] != _POINTWISE:
            # What a 3x3 layer reads has zeros around it as TFLite's SAME wants them: a pixel on each side,
            # but none before with stride 2 on an even size. The zeros after a row are also those before the
            # next.
            odd = records[_RECORD * step + 1] & 1
            row += channels
            after = row
            before = row * (odd | height & 1) + channels * (odd | width & 1)
            plan[p + k.P_BEFORE] = before + 1
        used = size
        size = before + height * row + after
        need = max(need, used + size)
        base = arena - size if step & 1 else 0
        plan[p + k.P_OUT] = base + before
        plan[p + k.P_OUT_ROW] = row
        plan[p + k.P_OUT_CH] = channels
        plan[p + k.P_HEIGHT] = height
        plan[p + k.P_WIDTH] = width
    plan[p + k.P_CENTER] = header[11]
    plan[p + k.P_TOP] = header[10] - 1
    return need, sums, patch, size
