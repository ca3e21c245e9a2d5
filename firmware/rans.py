"""rANS encoder: the symbols of a latent to the bytes of a message, in viper.

12-bit probabilities, a state in [2^23, 2^31) that starts at 1, byte renormalisation. The message is the final
state's used bytes, big endian, then the renormalisation bytes in the order a decoder reads them; nothing
else marks its end. A map in the width's section of the head file, two bits a symbol, says which table codes
which symbol.

Right in 32-bit integers: a symbol of frequency f is pushed only while the state is below 2^19 * f, which
leaves it below 2^31.

    length = encode_into(symbols, len(symbols), head, buffer)
"""

from .compat import micropython, ptr8


@micropython.viper
def _encode(symbols: ptr8, n: int, tables: ptr8, at: int, levels: int, out: ptr8, room: int) -> int:
    """Write the message to the end of `out`; the offset of its first byte, or -1 where it did not fit."""
    tables = ptr8(int(tables) + at)
    maps = ptr8(int(tables) + 1 + 2 * levels * tables[0])
    state = 1
    while n:
        n -= 1
        table = ptr8(int(tables) + 1 + 2 * levels * (maps[n >> 2] >> 2 * (n & 3) & 3))
        symbol = symbols[n]
        start = 0
        while symbol:
            start += table[0] | table[1] << 8
            table = ptr8(int(table) + 2)
            symbol -= 1
        frequency = table[0] | table[1] << 8
        limit = frequency << 7
        while state >> 12 >= limit:
            if room == 0:
                return -1
            room -= 1
            out[room] = state & 0xFF
            state >>= 8
        whole = state // frequency
        state = (whole << 12) + (state - whole * frequency) + start
    while state:
        if room == 0:
            return -1
        room -= 1
        out[room] = state & 0xFF
        state >>= 8
    return room


@micropython.viper
def _to_front(out: ptr8, start: int, n: int):
    i = 0
    while i < n:
        out[i] = out[start + i]
        i += 1


def encode_into(symbols, n, head, buffer):
    """Code `n` symbols with the tables of the head's present width; the length of the message now in
    `buffer`.

    Allocates nothing. A symbol takes at most 12 bits, so 1.5 * n + 4 bytes always suffice.

    Raises:
        ValueError: another number of symbols than this width has, or a buffer too small for the message.
    """
    if n != head.n_symbols or n > len(symbols):
        raise ValueError("%d symbols, expected the %d of this width" % (n, head.n_symbols))
    room = len(buffer)
    start = _encode(symbols, n, head.section, head.tables_at, head.levels, buffer, room)
    if start < 0:
        raise ValueError("the coded latent does not fit %d bytes" % room)
    _to_front(buffer, start, room - start)
    return room - start
