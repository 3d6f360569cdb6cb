"""Checks of arguments: one line that names the argument, the rule and the value."""

from numbers import Integral, Real


def check_count(name: str, value: object, most: int = 2**28) -> None:
    """Refuse what is no whole number from 1 to ``most``."""
    if not isinstance(value, Integral) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most:,}, got {value!r}")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Refuse what is no number from ``low`` to ``high``; NaN is none."""
    if not isinstance(value, Real) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")


def check_pair(name: str, values: object) -> tuple[float, float]:
    """Return two different numbers, or refuse."""
    pair = values if isinstance(values, (list, tuple)) and len(values) == 2 else ()
    if len({v for v in pair if isinstance(v, Real) and abs(v) <= 1e6}) < 2:
        raise ValueError(f"{name} must be two different numbers from -1e6 to 1e6, got {values!r}")
    return float(pair[0]), float(pair[1])
