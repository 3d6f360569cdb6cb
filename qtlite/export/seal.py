"""A checksum inside a file, over all its other bytes: damage is noticed before any parser runs.

The mark ``qtlite-sha256:`` stands once in the file (in its metadata), followed by the SHA-256 of
the file with 64 zeros in the digest's place. It works for any format that stores strings as they
are. It finds accidents, not forgery: there is no key, so anybody can change a file and seal it.
"""

import hashlib
import os
import re
from pathlib import Path

MARK = "qtlite-sha256:"
OPEN_SEAL = MARK + 64 * "0"  # to be written into a file's metadata, then filled by seal_file

_SEAL = re.compile(MARK.encode() + rb"([0-9a-f]{64})")


def seal_file(path: Path) -> None:
    """Replace the zeros of the file's ``OPEN_SEAL`` by the digest.

    Raises:
        ValueError: if the file does not hold exactly one seal.
    """
    start, _, digest = _read_seal(path)
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(digest)


def check_seal(path: str | os.PathLike) -> None:
    """Compare a file with the checksum in it.

    Raises:
        ValueError: if the file has no checksum (it is not one of qtlite's) or another one.
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
    _, stored, digest = _read_seal(Path(path))
    if stored != digest:
        raise ValueError(f"path must be a file as qtlite wrote it, got {path}, which has changed")


def _read_seal(path: Path) -> tuple[int, bytes, bytes]:
    """Return where the digest starts, the stored digest and the digest of the other bytes."""
    content = path.read_bytes()
    places = list(_SEAL.finditer(content))
    if len(places) != 1:
        raise ValueError(
            f"path must be a whole file that qtlite wrote, got {path} with {len(places)} "
            "checksums instead of 1"
        )
    start, end = places[0].span(1)
    digest = hashlib.sha256(content[:start] + 64 * b"0" + content[end:]).hexdigest()
    return start, content[start:end], digest.encode()
