"""Share compiled loops, which hold no lock of Python's, among threads."""

from __future__ import annotations

import _thread
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

_busy_until = [0.0]  # seconds: no workers are started before, since the last were cancelled


def share_out(n_shares: int, work: Callable[[int], None]) -> None:
    """Call ``work(0)``, ``work(1)``, ..., each in a thread of its own."""
    if n_shares == 1:
        work(0)
        return
    with ThreadPoolExecutor(n_shares) as pool:
        list(pool.map(work, range(n_shares)))


def run_with_workers(loops: Callable, arguments: tuple, n_threads: int) -> None:
    """Call ``loops``, whose last argument is its work queue, here and in n_threads - 1 workers."""
    failures: list[BaseException] = []
    if monotonic() > _busy_until[0]:
        for _ in range(n_threads - 1):
            try:  # not threading.Thread, whose start() waits for the thread to run
                _thread.start_new_thread(_work, (loops, arguments, failures))
            except RuntimeError:  # the system gives no more threads: the caller does it alone
                break
    loops(*arguments, False)
    if failures:
        raise failures[0]
    if arguments[-1][0][-1]:
        _busy_until[0] = monotonic() + 1


def _work(loops: Callable, arguments: tuple, failures: list[BaseException]) -> None:
    """Run a worker; if it dies, the caller is not left waiting for it."""
    try:
        loops(*arguments, True)
    except BaseException as error:  # such as MemoryError
        failures.append(error)
        arguments[-1][0][-1] += 1
