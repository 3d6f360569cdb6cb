"""Random numbers that NumPy and the book's JavaScript draw alike, bit for bit."""

import numpy as np


class PortableRandom:
    """SplitMix64 (Steele, Lea and Flood 2014); ``book/_static/playground/random.js`` repeats it.

    Args:
        seed: an integer from 0 to 2**53 - 1.

    Raises:
        ValueError: if the seed is out of range.

    Example:
        >>> random = PortableRandom(0)
        >>> [hex(int(bits)) for bits in random.bits(2)]
        ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']
        >>> PortableRandom(1).permutation(5).tolist()
        [4, 3, 0, 1, 2]
    """

    def __init__(self, seed: int):
        if not 0 <= seed < 2**53:
            raise ValueError(f"seed must be between 0 and 2**53 - 1, got {seed}")
        self._state = seed

    def bits(self, n: int) -> np.ndarray:
        """Draw n random integers of 64 bits, shape (n,), uint64."""
        step, mask = 0x9E3779B97F4A7C15, 2**64 - 1
        z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(step) + np.uint64(self._state)
        self._state = (self._state + n * step) & mask
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    def uniform(self, n: int) -> np.ndarray:
        """Draw n numbers in [0, 1) with 53 random bits each, shape (n,), float64."""
        return (self.bits(n) >> np.uint64(11)) * 2.0**-53

    def normal(self, n: int) -> np.ndarray:
        """Draw n numbers of mean 0 and variance 1, shape (n,), float64.

        Each is the sum of twelve uniform numbers of 16 bits, less 6: nearly normal, and exact.
        """
        quarters = self.bits(3 * n).view(np.uint16).reshape(n, 12)
        return (quarters.sum(axis=1, dtype=np.int64) + 6) / 65536 - 6

    def permutation(self, n: int) -> np.ndarray:
        """Put 0 to n - 1 in random order, shape (n,)."""
        return np.argsort(self.uniform(n), kind="stable")
