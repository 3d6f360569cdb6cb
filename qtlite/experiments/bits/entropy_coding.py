"""Lossless coding of small integers in a few bits each, with nothing but integer arithmetic.

The code is an asymmetric numeral system (Duda 2013), the arithmetic coder with the shortest
program: all integers together become one large number. Python and JavaScript have such numbers, so
every reader decodes the same integers. Each group of integers has a two-sided geometric
distribution, whose ratio is stored and is paid for like everything else.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

LARGEST = 255  # of an integer's absolute value


def frequencies(ratio: int) -> list[int]:
    """Return how often each integer from -LARGEST to LARGEST is expected, up to a factor.

    Args:
        ratio: 0 to 255; the next larger integer is about ratio / 256 times as frequent.

    Example:
        >>> frequencies(128)[LARGEST - 2 : LARGEST + 3]
        [16384, 32768, 65536, 32768, 16384]
    """
    tail = list(
        accumulate(range(LARGEST), lambda last, _: max(1, last * ratio >> 8), initial=1 << 16)
    )
    return tail[:0:-1] + tail


def best_ratio(integers: Sequence[int]) -> int:
    """Return the ratio with which ``encode`` needs fewest bits.

    Example:
        >>> best_ratio([0, 0, 1, 0, -1, 0]), best_ratio([10, -20, 30])
        (42, 244)
    """
    places = np.asarray(integers, dtype=int) + LARGEST

    def n_bits(ratio: int) -> float:
        table = np.asarray(frequencies(ratio), dtype=float)
        return float(len(places) * np.log2(table.sum()) - np.log2(table[places]).sum())

    return min(range(256), key=n_bits)


def encode(groups: Sequence[Sequence[int]], ratios: Sequence[int]) -> int:
    """Code all integers as one large number; ``decode`` is the inverse.

    Args:
        groups: integers of absolute value up to LARGEST.
        ratios: of the groups, see ``frequencies``.

    Raises:
        ValueError: if an integer is too large.

    Example:
        >>> number = encode([[0, 1, 0, 0, -1], [30, -7]], [64, 240])
        >>> number.bit_length(), decode(number, [5, 2], [64, 240])
        (35, [[0, 1, 0, 0, -1], [30, -7]])
    """
    number = 1
    for integers, ratio in zip(reversed(groups), reversed(ratios), strict=True):
        table = frequencies(ratio)
        starts = list(accumulate(table, initial=0))
        for integer in reversed(integers):
            if abs(integer) > LARGEST:
                raise ValueError(f"integers must be at most {LARGEST} in size, got {integer}")
            place = integer + LARGEST
            high, low = divmod(number, table[place])
            number = high * starts[-1] + starts[place] + low
    return number


def decode(number: int, sizes: Sequence[int], ratios: Sequence[int]) -> list[list[int]]:
    """Return the groups of integers that ``encode`` was given.

    Args:
        number: what ``encode`` returned.
        sizes: how many integers each group has.
        ratios: of the groups.

    Raises:
        ValueError: if something is left of the number, or it ends too early.
    """
    groups = []
    for size, ratio in zip(sizes, ratios, strict=True):
        table = frequencies(ratio)
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
