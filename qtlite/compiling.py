"""Numba, where it is there: compiled loops for a CPU, whose absence costs nothing but time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any


@cache
def can_compile() -> bool:
    """Whether Numba can be imported and is not told to leave functions alone."""
    try:
        import numba
    except ImportError:
        return False
    return not numba.config.DISABLE_JIT


def compiled(function: Callable, **options: Any) -> Callable:
    """Numba's njit, storing the code on disk where a folder can be written.

    Args:
        function: of a module; a closure's code cannot be stored.
        options: njit's.
    """
    import numba

    try:
        return numba.njit(function, nogil=True, cache=True, **options)
    except RuntimeError:  # no folder to write to
        return numba.njit(function, nogil=True, **options)


# with sums in any order, or they would not be vectorised
compiled_sums = partial(compiled, fastmath={"reassoc", "contract"})
