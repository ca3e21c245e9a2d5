"""The head's integer kernels, for MicroPython's viper compiler.

Activations are bytes 0..255 in (row, column, channel) order, weights int8 + 128 in bytes. Every layer
computes `acc = sum(x * w) + bias` and requantises it as TFLite's reference kernels do (gemmlowp: saturating
rounding doubling high multiplication by `mult`, then rounding division by 2^shift). What lies where stands
in `plan`, an array of 32-bit words, 16 a step, named `P_` below; `p` is a step's first.

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

from .compat import const, micropython, ptr8, ptr32

P_KIND = const(0)  # PLACE, POINTWISE, DEPTHWISE, SHARED or PATCHED
P_IN = const(1)  # offset of the first byte under the first window
P_IN_ROW = const(2)  # bytes from one row of the input to the next
P_IN_CH = const(3)  # channels of the input: bytes from pixel to pixel
P_STRIDE = const(4)
P_OUT = const(5)  # offset of the first output pixel
P_OUT_ROW = const(6)
P_OUT_CH = const(7)
P_HEIGHT = const(8)  # of the output
P_WIDTH = const(9)
P_WEIGHTS = const(10)  # offset of the layer's weights
P_FULL = const(11)  # channels of the input at full width: the weights' stride
P_TABLES = const(12)  # offset of the layer's mult, bias and shift
P_CENTER = const(13)
P_TOP = const(14)  # 255: ReLU, outputs 0..255; less: linear, output + centre limited to 0..top
P_BEFORE = const(15)  # 0: the output has no frame; else 1 + the bytes of zeros before it
P_WORDS = const(16)

PLACE = const(0)  # the image, copied into the arena
POINTWISE = const(1)
DEPTHWISE = const(2)
SHARED = const(3)  # 3x3 of the one input channel
PATCHED = const(4)  # 3x3 of several


@micropython.viper
def window(x: ptr8, acc: int, out: ptr8, weights: ptr8, tables: ptr8, plan: ptr32, p: int):
    """3x3 convolution of one input channel per output channel: depthwise, or full of a single one."""
    plan = ptr32(int(plan) + 4 * p)
    channels = plan[P_OUT_CH]
    row_step = plan[P_IN_ROW]
    pixel = plan[P_IN_CH]
    stride = plan[P_STRIDE]
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
    if plan[P_KIND] == DEPTHWISE:
        tap = plan[P_FULL]
        next_weights = 1
        next_input = 1
    center = plan[P_CENTER]
    top = plan[P_TOP]
    across = plan[P_WIDTH] * channels
    x_base = int(x) + plan[P_IN]
    out_base = int(out) + plan[P_OUT]
    w_base = int(weights) + plan[P_WEIGHTS]
    t_base = int(tables) + plan[P_TABLES]
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
        while row < plan[P_HEIGHT]:
            x = ptr8(x_base + row * stride * row_step)
            out = ptr8(out_base + row * plan[P_OUT_ROW])
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
def pointwise(x: ptr8, w: ptr8, acc: int, out: ptr8, tables: ptr8, sums: ptr32, plan: ptr32, p: int, y: int):
    """1x1 convolution: per pixel and output channel a multiple of 4 products of adjoining bytes.

    `sums`: scratch, one word per pixel of a row. `y`: of a PATCHED layer, the row that `x` holds the
    patches of.
    """
    plan = ptr32(int(plan) + 4 * p)
    channels = plan[P_OUT_CH]
    center = plan[P_CENTER]
    top = plan[P_TOP]
    width = plan[P_WIDTH]
    out_row = int(out) + plan[P_OUT]
    t_base = int(tables) + plan[P_TABLES]
    w_base = int(w) + plan[P_WEIGHTS]
    w_step = plan[P_FULL]
    if plan[P_KIND] == PATCHED:
        w_step *= 9
        n = (w_step + 3) >> 2 << 2
        x_row = int(x)
        out_row += y * plan[P_OUT_ROW]
        row = 1
    else:
        n = plan[P_IN_CH]
        x_row = int(x) + plan[P_IN]
        row = plan[P_HEIGHT]
    odd = n & 4
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
        ch = 0
        while ch < channels:
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
        x_row += plan[P_IN_ROW]
        out_row += plan[P_OUT_ROW]
        row -= 1


@micropython.viper
def gather(x: ptr8, patch: ptr8, plan: ptr32, p: int, y: int):
    """Lay the 3x3 windows of output row `y` out as pixels of adjoining bytes, for `pointwise`.

    Each has the channels of full width, 0 where the input lacks them, and zeros up to a multiple of 4 bytes.
    """
    plan = ptr32(int(plan) + 4 * p)
    full = plan[P_FULL]
    pixel = plan[P_IN_CH]
    n = (9 * full + 3) >> 2 << 2
    step = plan[P_IN_ROW]
    at = int(x) + plan[P_IN] + y * step * plan[P_STRIDE]
    left = plan[P_WIDTH]
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
        at += pixel * plan[P_STRIDE]
        left -= 1


@micropython.viper
def place(image: ptr8, arena: ptr8, plan: ptr32, p: int):
    """Copy the image to where the first layer wants it."""
    plan = ptr32(int(plan) + 4 * p)
    across = plan[P_WIDTH] * plan[P_OUT_CH]
    to = int(arena) + plan[P_OUT]
    row = plan[P_HEIGHT]
    while row:
        arena = ptr8(to)
        i = 0
        while i < across:
            arena[i] = image[i]
            i += 1
        image = ptr8(int(image) + across)
        to += plan[P_OUT_ROW]
        row -= 1


@micropython.viper
def frame(arena: ptr8, plan: ptr32, p: int):
    """Zero what surrounds an output: the bytes before it, a pixel after each of its rows, a row below."""
    plan = ptr32(int(plan) + 4 * p)
    before = plan[P_BEFORE] - 1
    if before < 0:
        return
    channels = plan[P_OUT_CH]
    step = plan[P_OUT_ROW]
    arena = ptr8(int(arena) + plan[P_OUT] - before)
    i = 0
    while i < before:
        arena[i] = 0
        i += 1
    arena = ptr8(int(arena) + before + step - channels)
    row = plan[P_HEIGHT]
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


@micropython.viper
def requant_in_range(tables: ptr8, at: int, channels: int) -> int:
    """Whether each mult of a layer is in [2^30, 2^31), each bias in [-2^24, 2^24) and each shift below 32."""
    tables = ptr8(int(tables) + at)
    bad = 0
    i = 0
    while i < channels:
        bad |= (tables[i * 4 + 3] & 0xC0) ^ 0x40
        bad |= tables[(channels + i) * 4 + 3] & 0xFE
        bad |= tables[channels * 8 + i] & 0xE0
        i += 1
    return 1 if bad == 0 else 0
