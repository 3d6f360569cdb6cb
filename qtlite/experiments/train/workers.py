"""Where a sweep's runs take place: processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

from tqdm.auto import tqdm

LOCAL = "local"  # --scheduler local

_line: int | None = None  # of the terminal, for this worker process's progress bar


def worker_line() -> int | None:
    """Line of the terminal for this worker's progress bar; None if it shares none."""
    return _line


@contextmanager
def engine(n_processes: int | None = None, scheduler: str | None = None) -> Iterator[Executor]:
    """Open something that runs functions in other processes; on leaving, nothing new is begun.

    With a Dask cluster, a run whose worker dies is given to another worker, which goes on from its
    checkpoint: all workers have to see the same folders. A run that has cost four workers has
    failed.

    Args:
        n_processes: of this machine; as many as cores if left out.
        scheduler: None for plain processes, "local" for a Dask cluster of this machine's processes,
            or the address of a Dask scheduler, such as ``tcp://host:8786``.

    Raises:
        ValueError: if Dask is not installed, its scheduler does not answer, one of its workers has
            several threads, or ``n_processes`` is given for a cluster that has its own.

    Example:
        >>> with engine(1) as executor:
        ...     executor.submit(max, 3, 4).result()
        4
    """
    if scheduler is None:
        with _processes(n_processes) as pool:
            yield pool
    else:
        with _dask(n_processes, scheduler) as executor:
            yield executor


@contextmanager
def _processes(n_processes: int | None) -> Iterator[Executor]:
    # a fresh interpreter for each process: PyTorch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    n_processes = n_processes or multiprocessing.cpu_count()
    lines = context.SimpleQueue()
    for line in range(1, n_processes + 1):
        lines.put(line)
    tqdm.set_lock(context.RLock())  # one for all bars of the terminal
    pool = ProcessPoolExecutor(
        n_processes, context, initializer=_start_process, initargs=(lines, tqdm.get_lock())
    )
    others = set(multiprocessing.active_children())
    try:
        yield pool
    except KeyboardInterrupt:  # the runs go on from their checkpoints, another time
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        # no run that is still waiting is begun
        pool.shutdown(cancel_futures=True)


def _start_process(lines: Any, lock: Any) -> None:
    global _line
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all: the parent acts
    _line = lines.get()
    tqdm.set_lock(lock)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave no run behind when the sweep is killed: the next sweep would write its checkpoint."""
    multiprocessing.parent_process().join()
    os._exit(1)


@contextmanager
def _dask(n_processes: int | None, scheduler: str) -> Iterator[Executor]:
    try:
        from dask.distributed import Client, LocalCluster
    except ImportError as error:
        raise ValueError(
            f"scheduler must be left out where Dask is not installed, got {scheduler!r}: "
            "pip install 'qtlite[cluster]'"
        ) from error
    if scheduler == LOCAL:
        cluster: Any = LocalCluster(
            n_workers=n_processes, threads_per_worker=1, dashboard_address=None
        )
    elif n_processes is not None:
        raise ValueError(
            f"processes must be left out with a scheduler that has its own, got {n_processes}"
        )
    else:
        cluster = nullcontext(scheduler)
    with cluster as address:
        try:
            client = Client(address)
        except (OSError, ValueError) as error:  # nobody there, or no address
            raise ValueError(f"scheduler must answer, got {scheduler!r}: {error}") from error
        with client:
            # PyTorch's random state, from which layers start, belongs to a whole process
            several = [worker for worker, n in client.nthreads().items() if n != 1]
            if several:
                raise ValueError(
                    f"scheduler must have workers of one thread each, got {several}: "
                    "start them with `dask worker --nthreads 1`"
                )
            executor = client.get_executor(pure=False)
            try:
                yield executor
            finally:
                executor.shutdown(wait=False)
