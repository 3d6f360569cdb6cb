"""Lossless coding of small integers in a few bits each, with nothing but integer arithmetic.

The code is an asymmetric numeral system (Duda 2013), the arithmetic coder with the shortest
program: all integers together become one large number. Python and JavaScript have such numbers, so
every reader decodes the same integers. Each group of integers has a normal distribution of mean 0
on the integers, whose width is stored and is paid for like everything else.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import accumulate

import numpy as np

LARGEST = 255  # of an integer's absolute value
ONE = 1 << 32
FLOOR = 1 << 16
# ONE * 2**(-place / 8): a table, since powers of two languages may differ in the last bit
ROOTS = (
    0x100000000,
    0xEAC0C6E8,
    0xD744FCCB,
    0xC5672A11,
    0xB504F334,
    0xA5FED6AA,
    0x9837F052,
    0x8B95C1E4,
)


def frequencies(width: int) -> list[int]:
    """Return how often each integer from -LARGEST to LARGEST is expected, up to a factor.

    The integer k has q**(k**2) times the frequency of 0, but never less than FLOOR.

    Args:
        width: 0 to 255; 1 - q is 2**(-width / 8), so the standard
            deviation is about 2**(width / 16 - 0.5).

    Example:
        >>> [frequency >> 16 for frequency in frequencies(8)[LARGEST : LARGEST + 4]]
        [65536, 32768, 4096, 128]
    """
    ratio = ONE - (ROOTS[width % 8] >> width // 8)
    square = ratio * ratio >> 32
    tail = [ONE]
    for _ in range(LARGEST):
        tail.append(max(FLOOR, tail[-1] * ratio >> 32))
        ratio = ratio * square >> 32
    return tail[:0:-1] + tail


def between(first: int, last: int, n: int) -> list[int]:
    """Return n whole numbers that go evenly from the first to the last.

    Example:
        >>> between(60, 30, 4), between(5, 9, 1)
        ([60, 50, 40, 30], [5])
    """
    return [first + (last - first) * place // max(n - 1, 1) for place in range(n)]


def best_widths(groups: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Return the widths of the first and the last group with which ``encode`` needs fewest bits.

    Those of the groups between them go evenly from one to the other.

    Example:
        >>> best_widths([[0, 0, 1, 0, -1, 0]]), best_widths([[10, -20, 30], [5], [1, 0, -1]])
        ((3, 3), (79, 7))
    """
    n_bits = np.array([_n_bits()[:, np.asarray(group) + LARGEST].sum(1) for group in groups])
    if len(groups) == 1:
        return (width := int(n_bits.argmin()), width)
    rows = range(len(groups))
    pairs = ((first, last) for first in range(256) for last in range(256))
    return min(pairs, key=lambda pair: n_bits[rows, between(*pair, len(groups))].sum())


@cache
def _n_bits() -> np.ndarray:
    """Bits of each integer, for each width."""
    tables = np.array([frequencies(width) for width in range(256)], dtype=float)
    return -np.log2(tables / tables.sum(1, keepdims=True))


def encode(groups: Sequence[Sequence[int]], widths: Sequence[int]) -> int:
    """Code all integers as one large number; ``decode`` is the inverse.

    Args:
        groups: integers of absolute value up to LARGEST.
        widths: of the groups, see ``frequencies``.

    Raises:
        ValueError: if an integer is too large.

    Example:
        >>> number = encode([[0, 1, 0, 0, -1], [30, -7]], [3, 79])
        >>> number.bit_length(), decode(number, [5, 2], [3, 79])
        (51, [[0, 1, 0, 0, -1], [30, -7]])
    """
    number = 1
    for integers, width in zip(reversed(groups), reversed(widths), strict=True):
        table = frequencies(width)
        starts = list(accumulate(table, initial=0))
        for integer in reversed(integers):
            if abs(integer) > LARGEST:
                raise ValueError(f"integers must be at most {LARGEST} in size, got {integer}")
            place = integer + LARGEST
            high, low = divmod(number, table[place])
            number = high * starts[-1] + starts[place] + low
    return number


def decode(number: int, sizes: Sequence[int], widths: Sequence[int]) -> list[list[int]]:
    """Return the groups of integers that ``encode`` was given.

    Args:
        number: what ``encode`` returned.
        sizes: how many integers each group has.
        widths: of the groups.

    Raises:
        ValueError: if something is left of the number, or it ends too early.
    """
    groups = []
    for size, width in zip(sizes, widths, strict=True):
        table = frequencies(width)
        starts = list(accumulate(table, initial=0))
        integers = []
        for _ in range(size):
            high, low = divmod(number, starts[-1])
            place = bisect_right(starts, low) - 1
            number = high * table[place] + low - starts[place]
            integers.append(place - LARGEST)
        groups.append(integers)
    if number != 1:
        raise ValueError(f"number must code {sum(sizes)} integers, got another one")
    return groups
