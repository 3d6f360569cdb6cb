"""What is refused: an error and its text, in one line for each."""

from collections.abc import Callable

import pytest


def refused(
    text: str,
    call: Callable[..., object],
    *arguments: object,
    error: type[Exception] = ValueError,
    **options: object,
) -> None:
    """Call a function, which must raise an error that the pattern ``text`` describes."""
    with pytest.raises(error, match=text):
        call(*arguments, **options)
