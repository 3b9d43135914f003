"""Compresses bytes of which nearly all are 0, given by the others: nothing looks at the zeros.

The stream is one block of Deflate (RFC 1951) whose Huffman codes are always the same ones. A run of
zeros is a zero and repetitions of it, so the only distance is 1. Zlib takes several times as long,
most of it to find out where zeros end, for a fifth less bytes.
"""

from functools import cache
from itertools import groupby
from typing import NamedTuple

import numpy as np

_END, _LONGEST = 256, 258  # the symbol that ends the block; zeros of the longest repetition
_ADLER = 65521

_Bits = tuple[int, int]
"""A number whose lowest bit comes first, and how many bits it has."""


def deflate_sparse(places: np.ndarray, values: np.ndarray, size: int) -> bytes:
    """The zlib stream of ``size`` bytes that are 0 but for the ``values`` at ``places``.

    Both are ``[N]`` int64, in any order; places differ, and the first byte is not 0.
    """
    table = _make_table()
    filled = values > 0
    order = np.sort(places[filled] << 8 | values[filled])
    places, values = np.append(order >> 8, size), np.append(order & 255, 0)  # then the end
    zeros = np.diff(places, append=size + 1) - 2  # that repeat a zero before; -1 without that
    longest = np.maximum(zeros, 0) // _LONGEST  # repetitions, whose code is 00
    rest = zeros - _LONGEST * longest
    codes = table.byte_codes[values] | table.rest_codes[rest] << table.byte_bits[values]
    bits = table.byte_bits[values] + table.rest_bits[rest] + 2 * longest
    stops = np.cumsum(bits) + table.head_bits
    words, shifts = np.divmod(stops - bits, 64)
    stream = np.zeros(int(stops[-1]) // 64 + 2, np.uint64)
    stream[: len(table.head)] = table.head
    codes, shifts = codes.view(np.uint64), shifts.view(np.uint64)
    np.add.at(stream, words, codes << shifts)
    np.add.at(stream, words + 1, codes >> np.uint64(1) >> np.uint64(63) - shifts)
    packed = stream.astype("<u8").tobytes()[: -(-int(stops[-1]) // 8)]
    first, second = 1 + int(values.sum()), size + int(((size - places) * values).sum())
    checksum = (second % _ADLER << 16) + first % _ADLER
    return b"\x78\x01" + packed + checksum.to_bytes(4, "big")


class _Table(NamedTuple):
    """Codes whose lowest bit comes first, and their numbers of bits.

    ``head`` is what precedes the first byte. Entry 0 of ``byte`` is the end. Entry k of ``rest`` is
    a zero and k more, but the last entry is nothing.
    """

    head: np.ndarray
    head_bits: int
    byte_codes: np.ndarray
    byte_bits: np.ndarray
    rest_codes: np.ndarray
    rest_bits: np.ndarray


@cache
def _make_table() -> _Table:
    lengths = [_choose_bits(symbol) for symbol in range(286)]
    symbols = _number_codes(lengths)
    head, head_bits = _join(_write_head(lengths))
    rests = [_join([symbols[0], *_repeat(k, symbols)]) for k in range(_LONGEST)]
    return _Table(
        np.frombuffer(head.to_bytes(-(-head_bits // 64) * 8, "little"), "<u8"),
        head_bits,
        *np.array([symbols[_END], *symbols[1:_END]]).T.copy(),
        *np.array([*rests, (0, 0)]).T.copy(),
    )


def _choose_bits(symbol: int) -> int:
    """Bits of a symbol: what is usual in segment maps as differences of lines."""
    if symbol > _END:
        return 1 if symbol == 285 else 8 if symbol > 268 else 10
    if symbol in (0, 2, _END):  # 2 begins a line
        return {0: 2, 2: 5, _END: 14}[symbol]
    size = min(symbol, 256 - symbol)
    limits = {2: 6, 4: 7, 6: 8, 9: 9, 20: 10, 56: 13}
    return next((bits for limit, bits in limits.items() if size <= limit), 14)


def _number_codes(lengths: list[int]) -> list[_Bits]:
    """The codes that RFC 1951 (3.2.2) gives to symbols with these numbers of bits, 0 for none."""
    codes, code, last = [(0, 0)] * len(lengths), 0, 0
    for length, symbol in sorted((n, k) for k, n in enumerate(lengths) if n):
        code <<= length - last
        codes[symbol] = int(f"{code:0{length}b}"[::-1], 2), length
        code, last = code + 1, length
    return codes


def _repeat(count: int, symbols: list[_Bits]) -> list[_Bits]:
    """The last byte ``count`` times more."""
    steps = count - 3
    if steps < 0:
        return count * [symbols[0]]
    more = max(steps.bit_length() - 3, 0)
    extra = steps % 2**more, more
    return [symbols[257 + 4 * more + (steps >> more)], extra, (0, 1)]  # (0, 1): distance 1


def _write_head(lengths: list[int]) -> list[_Bits]:
    """The kind of block, and the numbers of bits themselves in a code of four (RFC 1951, 3.2.7)."""
    fours = _number_codes([4] * 15 + [0, 4])  # 0 .. 14, and 16: the last one 3 .. 6 times more
    parts = [(1, 1), (2, 2), (29, 5), (0, 5), (14, 4), (4, 3), (0, 6), *[(4, 3)] * 15]
    for length, group in groupby([*lengths, 1]):
        count = len([*group]) - 1
        parts.append(fours[length])
        while count >= 3:
            parts += [fours[16], (min(count, 6) - 3, 2)]
            count -= min(count, 6)
        parts += count * [fours[length]]
    return parts


def _join(parts: list[_Bits]) -> _Bits:
    bits = total = 0
    for code, length in parts:
        bits, total = bits | code << total, total + length
    return bits, total
