"""The head's integer kernels, for MicroPython's viper compiler.

Activations are bytes 0..255 in (row, column, channel) order, weights int8 + 128 in bytes. Every layer
computes `acc = sum(x * w) + bias` and requantises it as TFLite's reference kernels do (gemmlowp: saturating
rounding doubling high multiplication by `mult`, then rounding division by 2^shift). What lies where stands
in `plan`, an array of 16-bit words, 21 a step, whose order `headplan` and the names below agree on; `p` is a
step's first.

Right in 32-bit integers, which is what boards have; a desktop's viper has 64 and would hide an overflow.
Given what `headfile` checks (at most 1024 channels, |bias| <= 2^24, mult in [2^30, 2^31), shift <= 31):

- A sum has at most 9 * 1024 products: |acc| <= 2^24 + 9216 * 255 * 128 < 2^29, and the sum of x * (w + 128)
  is at most 9216 * 255 * 255 < 2^30.
- `acc * mult` has up to 60 bits. Its rounded high half comes from four products of the halves of |acc| = hi
  * 2^14 + lo and mult = mh * 2^16 + ml, where hi < 2^15, lo < 2^14, mh < 2^15 and ml < 2^16. With |acc| <
  2^29 every product and every sum of them is below 2^31, and what is shifted out never reaches the result.
- `(y + half) >> shift` with y < 2^29 and half <= 2^30 is below 2^31.

All loads are of bytes, or of words that are never negative (a 64-bit viper would not extend their sign).
The first three local variables of a viper function live in registers, and the first ones are its arguments:
`x`, `w` and `acc` come first, and `acc` is an argument for nothing else.
"""

from .compat import const, micropython, ptr8, ptr16, ptr32

_KIND = const(0)  # PLACE, POINTWISE, DEPTHWISE, SHARED or PATCHED
_IN = const(1)  # offset of the first byte under the first window
_IN_ROW = const(2)  # bytes from one row of the input to the next
_IN_CH = const(3)  # channels of the input: bytes from pixel to pixel
_STRIDE = const(4)
_WEIGHTS = const(5)  # offset of the layer's weights
_FULL = const(6)  # channels of the input at full width: the weights' stride
_TABLES = const(7)  # offset of the layer's mult, bias and shift
_OUT = const(8)  # offset of the first output pixel
_OUT_ROW = const(9)
_OUT_CH = const(10)
_HEIGHT = const(11)  # of the output
_WIDTH = const(12)
_CENTER = const(13)
_TOP = const(14)  # 255: ReLU, outputs 0..255; less: linear, output + centre limited to 0..top
_BEFORE = const(15)  # 0: the output has no frame; else 1 + the bytes of zeros before it
# For weights left in the file. 16: where in it the layer's weights are; 17: bytes of an output channel's, or
# of all where they come whole; 18: where its requantisation is (first step: the coder tables); 19: bytes of
# that; 20: output channels at a time.

_DEPTHWISE = const(2)
_PATCHED = const(4)


@micropython.viper
def window(x: ptr8, acc: int, out: ptr8, weights: ptr8, tables: ptr8, plan: ptr16, p: int):
    """3x3 convolution of one input channel per output channel: depthwise, or full of a single one."""
    plan = ptr16(int(plan) + 2 * p)
    channels = plan[_OUT_CH]
    row_step = plan[_IN_ROW]
    pixel = plan[_IN_CH]
    stride = plan[_STRIDE]
    step = pixel * stride
    o1 = pixel
    o2 = pixel + pixel
    o3 = row_step
    o4 = row_step + pixel
    o5 = o4 + pixel
    o6 = row_step + row_step
    o7 = o6 + pixel
    o8 = o7 + pixel
    tap = 1
    next_weights = 9
    next_input = 0
    if plan[_KIND] == _DEPTHWISE:
        tap = plan[_FULL]
        next_weights = 1
        next_input = 1
    center = plan[_CENTER]
    top = plan[_TOP]
    across = plan[_WIDTH] * channels
    x_base = int(x) + plan[_IN]
    out_base = int(out) + plan[_OUT]
    w_base = int(weights) + plan[_WEIGHTS]
    t_base = int(tables) + plan[_TABLES]
    ch = 0
    while ch < channels:
        weights = ptr8(w_base)
        w0 = weights[0] - 128
        w1 = weights[tap] - 128
        w2 = weights[tap * 2] - 128
        w3 = weights[tap * 3] - 128
        w4 = weights[tap * 4] - 128
        w5 = weights[tap * 5] - 128
        w6 = weights[tap * 6] - 128
        w7 = weights[tap * 7] - 128
        w8 = weights[tap * 8] - 128
        w_base += next_weights
        tables = ptr8(t_base + ch * 4)
        ml = tables[0] | tables[1] << 8
        mh = tables[2] | tables[3] << 8
        tables = ptr8(t_base + (channels + ch) * 4)
        bias = (tables[0] | tables[1] << 8 | tables[2] << 16 | tables[3] << 24) - (1 << 24)
        tables = ptr8(t_base + channels * 8 + ch)
        shift = tables[0]
        half = 0
        if shift:
            half = 1 << (shift - 1)
        row = 0
        while row < plan[_HEIGHT]:
            x = ptr8(x_base + row * stride * row_step)
            out = ptr8(out_base + row * plan[_OUT_ROW])
            end = int(out) + across
            while int(out) < end:
                acc = bias + x[0] * w0 + x[o1] * w1 + x[o2] * w2
                acc += x[o3] * w3 + x[o4] * w4 + x[o5] * w5
                acc += x[o6] * w6 + x[o7] * w7 + x[o8] * w8
                x = ptr8(int(x) + step)
                if acc > 0:
                    lo = acc & 0x3FFF
                    acc >>= 14
                    lo = (((acc * ml + (lo * ml >> 14)) >> 2) + lo * mh) >> 14
                    acc = (((acc * mh + 1 + lo) >> 1) + half) >> shift
                    acc += center
                    if acc > top:
                        acc = top
                elif top < 255:
                    acc = 0 - acc
                    lo = acc & 0x3FFF
                    acc >>= 14
                    low = lo * ml
                    mid = acc * ml + (low >> 14)
                    lo = (mid >> 2) + lo * mh
                    acc = acc * mh + 1 + (lo >> 14)
                    if acc & 1 == 0 and lo & 0x3FFF == 0 and mid & 3 == 0 and low & 0x3FFF == 0:
                        acc -= 2  # exactly half way: a negative one rounds up, towards zero
                    acc = center - (((acc >> 1) + half) >> shift)
                    if acc < 0:
                        acc = 0
                else:
                    acc = 0
                out[0] = acc
                out = ptr8(int(out) + channels)
            row += 1
        ch += 1
        out_base += 1
        x_base += next_input


@micropython.viper
def pointwise(
    x: ptr8, w: ptr8, acc: int, out: ptr8, tables: ptr8, sums: ptr32, plan: ptr16, p: int, y: int, some: int
):
    """1x1 convolution: per pixel and output channel a multiple of 4 products of adjoining bytes.

    `sums`: scratch, one word per pixel of a row. `y`: of a PATCHED layer, the row that `x` holds the
    patches of. `some`: the output channels to compute, first + (end << 16); `w` starts with theirs.
    """
    plan = ptr16(int(plan) + 2 * p)
    channels = plan[_OUT_CH]
    center = plan[_CENTER]
    top = plan[_TOP]
    width = plan[_WIDTH]
    out_row = int(out) + plan[_OUT]
    t_base = int(tables) + plan[_TABLES]
    w_base = int(w) + plan[_WEIGHTS]
    w_step = plan[_FULL]
    if plan[_KIND] == _PATCHED:
        w_step *= 9
        n = (w_step + 3) >> 2 << 2
        x_row = int(x)
        out_row += y * plan[_OUT_ROW]
        row = 1
    else:
        n = plan[_IN_CH]
        x_row = int(x) + plan[_IN]
        row = plan[_HEIGHT]
    odd = n & 4
    last = some >> 16
    some &= 0xFFFF
    while row:
        x = ptr8(x_row)
        column = 0
        while column < width:
            acc = 0
            end = int(x) + n
            while int(x) < end:
                acc += x[0] + x[1] + x[2] + x[3]
                x = ptr8(int(x) + 4)
            sums[column] = acc << 7  # what weights + 128 add too much
            column += 1
        w_row = w_base
        ch = some
        while ch < last:
            tables = ptr8(t_base + ch * 4)
            ml = tables[0] | tables[1] << 8
            mh = tables[2] | tables[3] << 8
            tables = ptr8(t_base + (channels + ch) * 4)
            bias = (tables[0] | tables[1] << 8 | tables[2] << 16 | tables[3] << 24) - (1 << 24)
            tables = ptr8(t_base + channels * 8 + ch)
            shift = tables[0]
            half = 0
            if shift:
                half = 1 << (shift - 1)
            x = ptr8(x_row)
            out = ptr8(out_row + ch)
            end = w_row + n
            column = 0
            while column < width:
                w = ptr8(w_row)
                acc = bias - sums[column]
                if odd:
                    acc += x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3]
                    x = ptr8(int(x) + 4)
                    w = ptr8(int(w) + 4)
                while int(w) < end:
                    acc += x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3]
                    acc += x[4] * w[4] + x[5] * w[5] + x[6] * w[6] + x[7] * w[7]
                    x = ptr8(int(x) + 8)
                    w = ptr8(int(w) + 8)
                if acc > 0:
                    lo = acc & 0x3FFF
                    acc >>= 14
                    lo = (((acc * ml + (lo * ml >> 14)) >> 2) + lo * mh) >> 14
                    acc = (((acc * mh + 1 + lo) >> 1) + half) >> shift
                    acc += center
                    if acc > top:
                        acc = top
                elif top < 255:
                    acc = 0 - acc
                    lo = acc & 0x3FFF
                    acc >>= 14
                    low = lo * ml
                    mid = acc * ml + (low >> 14)
                    lo = (mid >> 2) + lo * mh
                    acc = acc * mh + 1 + (lo >> 14)
                    if acc & 1 == 0 and lo & 0x3FFF == 0 and mid & 3 == 0 and low & 0x3FFF == 0:
                        acc -= 2  # exactly half way: a negative one rounds up, towards zero
                    acc = center - (((acc >> 1) + half) >> shift)
                    if acc < 0:
                        acc = 0
                else:
                    acc = 0
                out[0] = acc
                out = ptr8(int(out) + channels)
                column += 1
            ch += 1
            w_row += w_step
        x_row += plan[_IN_ROW]
        out_row += plan[_OUT_ROW]
        row -= 1


@micropython.viper
def gather(x: ptr8, patch: ptr8, plan: ptr16, p: int, y: int):
    """Lay the 3x3 windows of output row `y` out as pixels of adjoining bytes, for `pointwise`.

    Each has the channels of full width, 0 where the input lacks them, and zeros up to a multiple of 4 bytes.
    """
    plan = ptr16(int(plan) + 2 * p)
    full = plan[_FULL]
    pixel = plan[_IN_CH]
    n = (9 * full + 3) >> 2 << 2
    step = plan[_IN_ROW]
    at = int(x) + plan[_IN] + y * step * plan[_STRIDE]
    left = plan[_WIDTH]
    while left:
        end = int(patch) + n
        ky = 0
        while ky < 3:
            x = ptr8(at + ky * step)
            kx = 0
            while kx < 3:
                i = 0
                while i < full:
                    patch[0] = x[i] if i < pixel else 0
                    patch = ptr8(int(patch) + 1)
                    i += 1
                x = ptr8(int(x) + pixel)
                kx += 1
            ky += 1
        while int(patch) < end:
            patch[0] = 0
            patch = ptr8(int(patch) + 1)
        at += pixel * plan[_STRIDE]
        left -= 1


@micropython.viper
def place(image: ptr8, arena: ptr8, plan: ptr16, p: int):
    """Copy the image to where the first layer wants it."""
    plan = ptr16(int(plan) + 2 * p)
    across = plan[_WIDTH] * plan[_OUT_CH]
    to = int(arena) + plan[_OUT]
    row = plan[_HEIGHT]
    while row:
        arena = ptr8(to)
        i = 0
        while i < across:
            arena[i] = image[i]
            i += 1
        image = ptr8(int(image) + across)
        to += plan[_OUT_ROW]
        row -= 1


@micropython.viper
def frame(arena: ptr8, plan: ptr16, p: int):
    """Zero what surrounds an output: the bytes before it, a pixel after each of its rows, a row below."""
    plan = ptr16(int(plan) + 2 * p)
    before = plan[_BEFORE] - 1
    if before < 0:
        return
    channels = plan[_OUT_CH]
    step = plan[_OUT_ROW]
    arena = ptr8(int(arena) + plan[_OUT] - before)
    i = 0
    while i < before:
        arena[i] = 0
        i += 1
    arena = ptr8(int(arena) + before + step - channels)
    row = plan[_HEIGHT]
    while row:
        i = 0
        while i < channels:
            arena[i] = 0
            i += 1
        arena = ptr8(int(arena) + step)
        row -= 1
    arena = ptr8(int(arena) + channels - step)
    i = 0
    while i < step:
        arena[i] = 0
        i += 1
