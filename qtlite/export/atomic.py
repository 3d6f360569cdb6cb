"""Atomic writes: a file is complete, or it does not exist."""

import glob
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".unfinished"  # the end of the name of a file that is being written


@contextmanager
def atomic_write(path: str | os.PathLike, overwrite: bool = True) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; the file takes its name once it is complete.

    Where writing fails, nothing is left of the attempt and an older file stays as it was. The
    content is on the disk before the file takes its name, so that a power cut leaves the older file
    or the new one. What killed processes of this machine left of the same file is removed.

    Args:
        path: the file's own name; missing folders above it are made.
        overwrite: whether an existing file may be replaced.

    Raises:
        FileExistsError: if the file exists and ``overwrite`` is off.
        OSError: if the file cannot be written, such as on a full disk; the message names it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "note.txt"
        ...     with atomic_write(path) as unfinished:
        ...         _ = unfinished.write_text("done")
        ...     path.read_text()
        'done'
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"path must be new unless overwrite is on, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    unfinished = path.with_name(f"{_beginning(path)}{os.getpid()}{UNFINISHED}")
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode  # as the umask has it; some libraries make it 0600
        yield unfinished
        unfinished.chmod(mode)
        with unfinished.open("r+b") as file:  # Windows synchronises only what is open for writing
            os.fsync(file.fileno())
        unfinished.replace(path)
        _synchronise_folder(path.parent)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _beginning(path: Path) -> str:
    return f".{path.name}.{platform.node()}."


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that have ended on this machine left when they wrote this file."""
    if os.name != "posix":  # where asking for a process by its number could end it
        return
    start = _beginning(path)
    for other in path.parent.glob(f"{glob.escape(start)}*{UNFINISHED}"):
        process = other.name[len(start) : -len(UNFINISHED)]
        if not process.isdecimal() or int(process) == os.getpid():
            continue
        try:
            os.kill(int(process), 0)  # no signal: only asks whether the process is there
        except ProcessLookupError:
            other.unlink(missing_ok=True)
        except (OSError, OverflowError):  # it is there and another user's
            continue


def _synchronise_folder(folder: Path) -> None:
    """Put a file's new name on the disk; Windows and some network disks have no way to ask."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
