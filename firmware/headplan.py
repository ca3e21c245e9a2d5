"""Where everything lies while a head runs at a width: the plan that the kernels follow."""

from .compat import const
from .headcheck import u16, u32

_CONV = const(0)
_DEPTHWISE = const(1)
_POINTWISE = const(2)
_RECORD = const(12)
_STEP = const(21)
_PIECE = const(512)  # bytes of weights to read at a time, where a layer can do with a part of them


def lay_out(header, records, section, arena, plan, streamed, weights_at, at):
    """Fill the kernels' plan of a width: a layer's input lies at one end of the arena, its output at the
    other.

    Args:
        section: the width's section, or as much of it as its channels take.
        arena: bytes that the arena has.
        plan: array of words for the image and for each layer, or None to learn the sizes.
        streamed: whether each layer's requantisation, and piece by piece its weights, come to the start of a
            buffer.
        weights_at, at: where in the file the weights are, and the section.

    Returns:
        bytes that the arena must have, words of sums, bytes of a row of patches, symbols of the latent, bytes
        of the largest piece of weights.
    """
    height, width, channels, layers = header[5], header[6], header[7], header[9]
    tables = 2 + 2 * layers
    size = height * width * channels
    need = sums = patch = base = row = 0
    kind = stride = full = weights = each = rows = largest = 0
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
            each = full if kind == 1 else 9 * full  # bytes of an output channel's weights, or of all
            rows = 1 if kind & 2 else channels
            if kind == 3:
                each *= channels
            largest = max(largest, each, min(each * rows, _PIECE))
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
        pieces = streamed and rows > 1 and each * rows > _PIECE
        if kind == 1 and step & 1 and not pieces:
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
                0 if streamed else weights,
                full,
                0 if streamed else tables,
                base + before,
                row,
                channels,
                height,
                width,
                header[11] if last else 0,
                header[10] - 1 if last else 255,
                framed,
                weights_at + weights,
                each,
                at + tables,
                9 * channels,
                max(1, _PIECE // each) if pieces else channels,
            ):
                plan[p] = word
                p += 1
        if step:
            tables += 9 * channels
    return need, sums, patch, size, largest
