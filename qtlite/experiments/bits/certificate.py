"""From a file's length to a bound on the error on images that nobody has seen.

A file of b bits is one of at most 2^b. For one classifier that is fixed before its images are
drawn, Chernoff's bound says how unlikely it is to make so few mistakes on n images by luck; summed
over all files, weighted 2^-b, the bound holds for whichever file training finds (Occam's razor
bound: Blumer et al. 1987; Langford 2005).
"""

from __future__ import annotations

from math import inf, lgamma, log, log1p

import numpy as np


def kl(observed: float, true: float) -> float:
    """Relative entropy of two coins, nats: how surprising ``observed`` is if ``true`` is right.

    Example:
        >>> kl(0.5, 0.5), round(kl(0.03, 0.08), 4)
        (0.0, 0.0219)
    """
    total = 0.0
    for p, q in ((observed, true), (1 - observed, 1 - true)):
        if p > 0:
            total += p * log(p / q) if q > 0 else inf
    return total


def certificate(file_bits: float, n_errors: int, n_images: int, delta: float = 0.05) -> float:
    """Bound the true error of a classifier that was chosen by its errors on these same images.

    With probability 1 - delta over the draw of the images the bound holds for every file at once:
    kl(n_errors / n_images, error) <= (file_bits ln 2 + ln(1 / delta)) / n_images.

    Args:
        file_bits: length of the file that the classifier is computed from, and of all choices that
            were made by looking at these images and are not in it.
        n_errors: mistakes on the images.
        n_images: independent draws from the distribution of images.
        delta: probability that the bound fails, between 0 and 1.

    Returns:
        The largest error, a fraction, that the inequality allows.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> round(certificate(8 * 229 + 40, 1884, 60_000), 4)
        0.0818
    """
    _check(n_errors, n_images, delta)
    if not 0 <= file_bits < inf:
        raise ValueError(f"file_bits must be at least 0, got {file_bits}")
    budget = (file_bits * log(2) - log(delta)) / n_images
    return _largest(lambda error: kl(n_errors / n_images, error) <= budget, n_errors / n_images)


def binomial_bound(n_errors: int, n_images: int, delta: float = 0.05) -> float:
    """Bound the true error of a classifier by its mistakes on images that nobody chose it by.

    Args:
        n_errors: mistakes on the images.
        n_images: independent draws, not looked at before.
        delta: probability that the bound fails.

    Returns:
        The largest error with which so few mistakes have at least the probability delta (Clopper
        and Pearson 1934, one-sided).

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> round(binomial_bound(0, 100), 4), binomial_bound(100, 100)
        (0.0295, 1.0)
    """
    _check(n_errors, n_images, delta)
    k = np.arange(n_errors + 1)
    log_choose = np.array(
        [lgamma(n_images + 1) - lgamma(i + 1) - lgamma(n_images - i + 1) for i in k]
    )

    def is_likely(error: float) -> bool:
        if error in (0.0, 1.0):
            return error == 0 or n_errors == n_images
        terms = log_choose + k * log(error) + (n_images - k) * log1p(-error)
        return float(np.exp(terms).sum()) >= delta

    return _largest(is_likely, n_errors / n_images)


def _largest(holds, low: float) -> float:
    """The largest error, to the last bit, up to which a condition holds that fails beyond it."""
    high = 1.0
    if holds(high):
        return high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _check(n_errors: int, n_images: int, delta: float) -> None:
    if not n_images >= 1:
        raise ValueError(f"n_images must be at least 1, got {n_images}")
    if not 0 <= n_errors <= n_images:
        raise ValueError(f"n_errors must be between 0 and {n_images}, got {n_errors}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be between 0 and 1, got {delta}")
