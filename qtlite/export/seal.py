"""A checksum inside a file, of all its other bytes: damage is seen before any parser sees it.

The mark ``qtlite-sha256:`` stands once in the file (in its metadata), followed by the SHA-256 of
the file with 64 zeros in the digest's place. It works for any format that stores strings as they
are. It shows accidents, not malice: there is no key, so whoever changes a file can seal it again.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

MARK = "qtlite-sha256:"
OPEN_SEAL = MARK + 64 * "0"  # to be written into a file's metadata, then closed by seal_file

_SEAL = re.compile(MARK.encode() + rb"([0-9a-f]{64})")


def seal_file(path: Path) -> None:
    """Put the digest in the place of the file's ``OPEN_SEAL``.

    Raises:
        ValueError: if the file does not hold exactly one seal.
    """
    content, place = _find(path)
    digest = _digest(content, place)
    path.write_bytes(content[: place.start(1)] + digest + content[place.end(1) :])


def check_seal(path: str | os.PathLike) -> None:
    """Hold a file against the checksum in it.

    Raises:
        ValueError: if the file has none (it is not one of qtlite's), or another one.
        FileNotFoundError: if there is no such file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "note.txt"
        ...     _ = path.write_text(f"seven {OPEN_SEAL}")
        ...     seal_file(path)
        ...     check_seal(path)
        ...     _ = path.write_text(path.read_text().replace("seven", "eight"))
        ...     check_seal(path)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: path must be a file as qtlite wrote it, got ...note.txt, which has changed
    """
    content, place = _find(Path(path))
    if place[1] != _digest(content, place):
        raise ValueError(f"path must be a file as qtlite wrote it, got {path}, which has changed")


def _find(path: Path) -> tuple[bytes, re.Match[bytes]]:
    content = path.read_bytes()
    places = list(_SEAL.finditer(content))
    if len(places) != 1:
        raise ValueError(
            f"path must be a whole file that qtlite wrote, got {path} with {len(places)} "
            "checksums instead of 1"
        )
    return content, places[0]


def _digest(content: bytes, place: re.Match[bytes]) -> bytes:
    blank = content[: place.start(1)] + 64 * b"0" + content[place.end(1) :]
    return hashlib.sha256(blank).hexdigest().encode()
