"""Check the content of a file against a type before anything uses it.

A type is a ``msgspec.Struct``, a ``TypedDict``, or a type such as ``list[dict[str, float]]``.
Limits are annotations: ``Annotated[float, msgspec.Meta(ge=0, le=1)]``. A ``TypedDict`` ignores keys
that it does not name; a ``Struct`` with ``forbid_unknown_fields=True`` refuses them.
"""

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qtlite.export.seal import MARK, check_seal

T = TypeVar("T")


def read_json(path: str | os.PathLike, kind: type[T], what: str) -> T:
    """Read a JSON file whose content has a type, and compare its checksum, if it has one.

    NaN, Infinity, numbers beyond float64, text that is not UTF-8 and very deep nesting are errors.

    Args:
        path: of the file.
        kind: type of the content.
        what: the content in words, for the error's text: "a run's record".

    Raises:
        ValueError: if the file holds something else, or has changed since it was written; one line
            names the file, the place and the rule.
        OSError: if the file cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.json"
        ...     _ = path.write_text('{"loss": 0.5}')
        ...     read_json(path, dict[str, float], "losses")
        {'loss': 0.5}
    """
    content = Path(path).read_bytes()
    if MARK.encode() in content:
        check_seal(path)
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"path must hold {what}, got {path}: {in_one_line(error)}") from error


def check_content(content: Any, kind: type[T], what: str, source: str | os.PathLike) -> T:
    """Return content that another reader has read, such as a checkpoint, if it has a type.

    Args:
        content: dictionaries, lists, numbers, strings, tensors.
        kind: type of the content; a class such as ``torch.Tensor`` accepts its objects.
        what: the content in words, for the error's text.
        source: where the content comes from, for the error's text.

    Raises:
        ValueError: if the content is something else; one line names the source, the place and the
            rule.

    Example:
        >>> check_content({"epoch": "one"}, dict[str, int], "a history", "run.pt")
        Traceback (most recent call last):
        ValueError: path must hold a history, got run.pt: [...]: Expected `int`, got `str`
    """
    try:
        return msgspec.convert(content, kind)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"path must hold {what}, got {source}: {in_one_line(error)}") from error


def in_one_line(error: Exception) -> str:
    """Return an error's text in one printable line, with the place inside the content first.

    Text from a file reaches the terminal here, so control characters are escaped.

    Example:
        >>> in_one_line(ValueError("Expected `int`, got `str` - at `$.history[0].epoch`"))
        'history[0].epoch: Expected `int`, got `str`'
    """
    rule, _, place = str(error).partition(" - at `$")
    text = f"{place.strip('.`')}: {rule}" if place else rule
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
