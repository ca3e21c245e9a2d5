"""Checks of a head file's layers and tables, so that the kernels can trust every number in it."""

from .compat import const, micropython, ptr8
from .head import HeadError

_CONV = const(0)
_DEPTHWISE = const(1)
_POINTWISE = const(2)
_RECORD = const(12)
_MAX_CHANNELS = const(1024)  # the kernels' bounds rest on it


def u16(data, at):
    return data[at] | data[at + 1] << 8


def u32(data, at):
    return u16(data, at) | u16(data, at + 2) << 16


def cut_off(what, end, size):
    raise HeadError("head file is cut off: %s to byte %d, there are %d; copy it again" % (what, end, size))


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
    for i in range(layers):
        channels = u16(section, 2 + 2 * i)
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
    if at == len(section):
        cut_off("coder tables", at + 1, at)
    count = section[at]
    maps = at + 1 + 2 * levels * count
    end = maps + (n + 3) // 4
    good = 1 <= count <= 4
    if good and end > len(section):
        cut_off("coder tables", end, len(section))
    if good and end < len(section):
        raise HeadError("%d bytes follow a width's tables; copy the file again" % (len(section) - end))
    for t in range(at + 1, maps if good else 0, 2 * levels):
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
