"""The workers of a sweep: processes of this machine, or a Dask cluster."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import SimpleQueue
from typing import Any

from tqdm.auto import tqdm

LOCAL = "local"  # --scheduler local
MAX_DEATHS = 4  # of the workers of one run, after which the run has failed; Dask's number, too

_line: int | None = None  # of the terminal, for this worker's progress bar


def worker_line() -> int | None:
    """Return the line of the terminal for this worker's progress bar, None if there is none."""
    return _line


def worker_pool(
    n_processes: int | None = None, scheduler: str | None = None
) -> AbstractContextManager[Executor]:
    """Open a pool of workers that run functions; on leaving, waiting functions are cancelled.

    If a worker dies, its function is called again by another worker, and nothing else is lost. So a
    function must be able to go on from what an earlier call has written. A function whose workers
    have died four times has failed. The workers of a cluster have to see the same folders.

    Args:
        n_processes: of this machine; as many as cores if left out.
        scheduler: None for plain processes, "local" for a Dask cluster of this machine's processes,
            or the address of a Dask scheduler, such as ``tcp://host:8786``.

    Raises:
        ValueError: if Dask is not installed, its scheduler does not answer, one of its workers has
            several threads, or ``n_processes`` is given for a cluster that has its own.

    Example:
        >>> with worker_pool(1) as workers:
        ...     workers.submit(max, 3, 4).result()
        4
    """
    if scheduler is None:
        return ProcessWorkers(n_processes or multiprocessing.cpu_count())
    return _dask(n_processes, scheduler)


class ProcessWorkers(Executor):
    """Processes of this machine, each in a pool of its own, whose death concerns only its function.

    Args:
        n_processes: number of workers.
    """

    def __init__(self, n_processes: int):
        # fresh interpreters: PyTorch's threads do not survive a fork
        self._context = multiprocessing.get_context("spawn")
        tqdm.set_lock(self._context.RLock())  # one lock for all bars of the terminal
        self._threads = ThreadPoolExecutor(n_processes)  # each waits for one worker
        self._idle: SimpleQueue[tuple[int, ProcessPoolExecutor]] = SimpleQueue()
        for line in range(1, n_processes + 1):
            self._idle.put((line, self._pool(line)))
        self._lock, self._ended = threading.Lock(), False
        self._others = set(multiprocessing.active_children())

    def _pool(self, line: int) -> ProcessPoolExecutor:
        arguments = (line, tqdm.get_lock())
        return ProcessPoolExecutor(1, self._context, initializer=_start, initargs=arguments)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Call a function in a worker; its module must be importable there."""
        return self._threads.submit(self._call, function, args, kwargs)

    def _call(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        line, pool = self._idle.get()
        try:
            for _ in range(MAX_DEATHS):
                with self._lock:  # after terminate() no process is started
                    if self._ended:
                        raise BrokenProcessPool("the workers were terminated")
                    answer = pool.submit(function, *args, **kwargs)
                try:
                    return answer.result()
                except BrokenProcessPool:
                    pool = self._pool(line)
            raise RuntimeError(
                f"worker processes must live, got {MAX_DEATHS} that were killed, one after the "
                "other: perhaps the system lacks memory"
            )
        finally:
            self._idle.put((line, pool))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the functions that have begun; call no other one if told so."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        while wait and not self._idle.empty():
            self._idle.get()[1].shutdown()

    def terminate(self) -> None:
        """End the workers in the middle of their functions."""
        with self._lock:
            self._ended = True
            for worker in set(multiprocessing.active_children()) - self._others:
                worker.terminate()

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.terminate()
        self.shutdown(cancel_futures=True)


def _start(line: int, lock: Any) -> None:
    global _line
    # a terminal sends Ctrl-C to all of its processes: the parent acts
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _line = line
    tqdm.set_lock(lock)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave no worker behind when the sweep is killed."""
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
            client = Client(address, timeout=10)  # seconds; 30 if left out
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
