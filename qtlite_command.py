"""The console script ``qtlite``: signals and streams around ``qtlite.experiments.cli``.

It is outside the package, since importing the package takes a second: Ctrl-C must end that, too.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from typing import Any

RESUMED = {"train", "sweep"}  # commands that continue an interrupted run


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends the program wherever Ctrl-C does."""


class Stream:
    """A text stream that drops what it cannot write any more.

    Args:
        stream: where to write.
        dropped: the errors that mean that nobody reads it.
    """

    def __init__(self, stream: Any, *dropped: type[Exception]):
        self._stream, self._dropped = stream, dropped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, and return the number of characters."""
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        self._try(self._stream.flush)

    def _try(self, function: Callable[..., Any], *arguments: str) -> None:
        try:
            function(*arguments)
        except self._dropped:
            with suppress(OSError, ValueError):  # Python writes its buffer once more at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def main() -> int:
    """Run the command line and return the exit status: 130 after Ctrl-C, 143 after SIGTERM."""
    sys.stdout = Stream(sys.stdout or StringIO(), BrokenPipeError)  # None: closed at the start
    sys.stderr = Stream(sys.stderr or StringIO(), OSError, ValueError)
    try:
        signal.signal(signal.SIGTERM, _terminate)
        from qtlite.experiments.cli import main as run

        return run()
    except Terminated:
        status, what = 143, "terminated"
    except KeyboardInterrupt:
        status, what = 130, "interrupted"
    except ImportError as error:
        status, what = 2, str(error)
    goes_on = status != 2 and RESUMED & set(sys.argv[1:2])
    with suppress(KeyboardInterrupt):  # a second Ctrl-C
        what_next = "; the same command goes on from here" if goes_on else ""
        print(f"qtlite: {what}{what_next}", file=sys.stderr, flush=True)
    return status


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())
