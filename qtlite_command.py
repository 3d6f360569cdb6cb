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


ENDINGS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}


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
    run, received = None, []

    def stop(number: int, frame: Any) -> None:
        if run is None:  # NumPy and PyTorch crash or go on by halves if their import is interrupted
            os._exit(_say_ended(number))
        received.append(number)
        raise KeyboardInterrupt

    for number in ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as for a shell's background jobs
            signal.signal(number, stop)
    status = 2
    try:
        from qtlite.experiments.cli import main as run

        status = run()
    except KeyboardInterrupt:
        pass
    except ImportError as error:
        print(f"qtlite: {error}", file=sys.stderr)
    for number in ENDINGS:  # nothing is left to stop
        signal.signal(number, signal.SIG_IGN)
    # even if a library has turned our exception into another one
    return _say_ended(received[0]) if received else status


def _say_ended(number: int) -> int:
    """Print how the program ended, and return the exit status."""
    status, what = ENDINGS[number]
    what_next = "; the same command goes on from here" if RESUMED & set(sys.argv[1:2]) else ""
    print(f"qtlite: {what}{what_next}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
