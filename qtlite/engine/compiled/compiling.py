"""Optional Numba: without it everything works, only slower."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial, wraps
from hashlib import sha256
from pathlib import Path
from typing import Any


@cache
def can_compile() -> bool:
    """True if Numba can be imported and its compilation is not switched off."""
    try:
        import numba
    except ImportError:
        return False
    return not numba.config.DISABLE_JIT


def compiled(function: Callable, **options: Any) -> Callable:
    """Numba's njit, storing the code on disk where a folder can be written.

    A damaged store, or one that cannot be read or written, counts as an empty one.

    Args:
        function: of a module; a closure's code cannot be stored.
        options: njit's.
    """
    import numba

    try:
        dispatcher = numba.njit(function, nogil=True, cache=True, **options)
    except RuntimeError:  # no folder to write to
        return numba.njit(function, nogil=True, **options)
    # Numba takes stored code as good while the function's own file is as it was; what the function
    # calls, and constants, may come from others. These attributes are private to it: a version that
    # lacks them behaves as it did.
    store = getattr(dispatcher, "_cache", None)
    stored = getattr(store, "_cache_file", None)
    if hasattr(stored, "_source_stamp"):
        stored._source_stamp = stored._source_stamp, _sources()
    for name in ("load_overload", "save_overload"):
        if hasattr(store, name):
            setattr(store, name, _or_none(getattr(store, name)))
    return dispatcher


def _or_none(function: Callable) -> Callable:
    """The function, with None in place of any exception."""

    @wraps(function)
    def run(*arguments: Any) -> Any:
        with suppress(Exception):  # a damaged pickle raises many kinds
            return function(*arguments)

    return run


@cache
def _sources() -> str:
    """A hash of the modules that compiled code is made from."""
    package = Path(__file__).parents[2]
    paths = [*package.glob("*.py"), *package.glob("engine/**/*.py")]
    return sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()


# with sums in any order, or they would not be vectorised
compiled_sums = partial(compiled, fastmath={"reassoc", "contract"})
# as a part of each function that calls it: saves compiling it by itself
inlined = partial(compiled, inline="always")
