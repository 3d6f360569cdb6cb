"""Checks of arguments: one line that names the argument, the rule and the value."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real


def check_count(name: str, value: object, most: int = 2**28) -> None:
    """Refuse what is no whole number from 1 to ``most``.

    Example:
        >>> check_count("n_qubits", 0, most=40)
        Traceback (most recent call last):
        ValueError: n_qubits must be a whole number from 1 to 40, got 0
    """
    if not isinstance(value, Integral) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most:,}, got {value!r}")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Refuse what is no number from ``low`` to ``high``; NaN is none."""
    if not isinstance(value, Real) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")


def check_pair(name: str, values: Iterable[float]) -> tuple[float, float]:
    """Return two different finite numbers, or refuse."""
    pair = tuple(values) if isinstance(values, (list, tuple)) else ()
    if len(pair) != 2 or pair[0] == pair[1] or not all(isinstance(v, Real) for v in pair):
        raise ValueError(f"{name} must be two different numbers, got {values!r}")
    for value in pair:
        check_number(name, value, -1e6, 1e6)
    return float(pair[0]), float(pair[1])
