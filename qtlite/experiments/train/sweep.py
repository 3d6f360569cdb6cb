"""Runs with files: one run, or many in parallel. An interrupted run continues where it stopped."""

import os
import platform
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import find_files, load_dataset
from qtlite.experiments.records.records import read_record, record_id, recorded, write_json
from qtlite.experiments.train.loop import train
from qtlite.experiments.train.process import check_device
from qtlite.experiments.train.runs import NETWORK, check_network
from qtlite.experiments.train.workers import worker_line, worker_pool
from qtlite.export import save_safetensors
from qtlite.export.atomic import UNFINISHED

LOCK = "lock"  # in a run's folder, while a process trains the run


class RunInUse(RuntimeError):
    """Another process trains this run."""


@contextmanager
def claim(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Reserve a run's folder for this process.

    The operating system locks the file, and frees it when the process ends, even if it is killed.

    Args:
        folder: of the run; made if missing.
        wait: whether to wait for another process that has the folder.

    Raises:
        RunInUse: if another process has the folder and ``wait`` is off; the message names it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, claim(Path(folder)):
        ...     os.listdir(folder)
        ['lock']
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        owner = ""
        with suppress(OSError):  # it has just ended, or Windows does not let others read
            owner = path.read_text(encoding="utf-8").strip()
        raise RunInUse(
            f"run must be free, got {folder}, which {owner or 'another process'} is training"
        ) from None
    try:
        with suppress(OSError):
            path.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        for left in folder.glob(f".*{UNFINISHED}"):  # by a killed process: nobody else writes here
            left.unlink(missing_ok=True)
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            path.unlink()
        lock.release()


def run_to_files(
    config: TrainConfig,
    runs: Path,
    record_path: Path,
    *,
    data: str | os.PathLike | None = None,
    download: bool = False,
    device: str = "cpu",
    progress: bool = True,
    line: int | None = None,
    again: bool = True,
    wait: bool = False,
) -> tuple[dict[str, Any], Path]:
    """Train one config and write its network, then its record: a run with a record is complete.

    Args:
        config: what to train.
        runs: checkpoints and the network go to a folder in it, named like the record.
        record_path: where the record goes.
        data, download: folder and option of ``load_dataset``.
        device, progress, line: see ``train``.
        again: whether to train if the record exists.
        wait: see ``claim``.

    Returns:
        The record and the network's path.

    Raises:
        ValueError: see ``train``.
        RunInUse: see ``claim``.
    """
    folder = runs / record_id(config)
    with claim(folder, wait=wait):
        if record_path.exists() and not again:
            return read_record(record_path), folder / NETWORK
        dataset = load_dataset(config.dataset, data, download=download)
        run = train(config, dataset, folder, device=device, progress=progress, line=line)
        note = {"record": run.record["id"]}
        network_path = save_safetensors(run.classical, folder / NETWORK, note, overwrite=True)
        write_json(record_path, run.record, sealed=True)
        return run.record, network_path


def run_sweep(
    configs: Iterable[TrainConfig],
    runs: Path,
    records: Path,
    *,
    data: str | os.PathLike | None = None,
    download: bool = False,
    device: str = "cpu",
    n_processes: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> list[Path]:
    """Run every config that has no record in a folder yet, several at a time, one core each.

    Interrupted runs go on from their last epoch, at once if only a worker was killed, otherwise at
    the next call. If a run fails, the others are finished first. Several sweeps with the same
    folders share the runs: each run is trained once, and every sweep ends when all runs have ended.

    Args:
        configs: what to train.
        runs: checkpoints and networks go here.
        records: records go here, named after the run.
        data, download: see ``load_dataset``; images are fetched once, before the first run.
        device: "cpu" or "cuda", which the processes then share.
        n_processes: as many as cores if left out, on a GPU one.
        scheduler: of a Dask cluster, see ``worker_pool``; its workers find ``runs``, ``records``
            and ``data`` under the same paths.
        progress: whether to show a bar over the runs and, on this machine, one for each.

    Returns:
        The paths of the records that are new since the call.

    Raises:
        ValueError: if ``worker_pool`` cannot be opened, the device is missing on this machine, or
            the network of a recorded run is damaged.
        FileNotFoundError: if images are missing on this machine and ``download`` is off.
        RuntimeError: if runs failed; the message names each with its error.
    """
    if scheduler is None:
        check_device(device)
        if device != "cpu" and n_processes is None:
            n_processes = 1
    configs, done = list(configs), recorded(records)
    for name in filter(None, map(done.get, configs)):
        with suppress(FileNotFoundError):  # a record may be kept without its network
            check_network(runs / name, name)
    waiting = {
        records / f"{record_id(config)}.json": config for config in configs if config not in done
    }
    if scheduler is None:
        for dataset in sorted({config.dataset for config in waiting.values()} - {"digits"}):
            find_files(dataset, data, download=download)  # once, before any run
    finished, failed = [], []
    # the cluster's workers may have started in another folder
    places = (runs.absolute(), records.absolute(), data and os.path.abspath(data))
    with (
        worker_pool(n_processes, scheduler) as workers,
        tqdm(total=len(waiting), unit="run", disable=not progress, position=0) as bar,
    ):
        for wait in (False, True):  # the second time, for what other sweeps were training
            jobs = {
                workers.submit(_run, config, *places, device, progress, wait): path
                for path, config in waiting.items()
            }
            for job in as_completed(jobs):
                path = jobs[job]
                try:
                    if (accuracy := job.result()) is None:  # another sweep has this run
                        continue
                    finished.append(path)
                    bar.set_postfix_str(f"{path.stem}: {100 * accuracy:.2f} %")
                except CancelledError:  # Dask's, which says nothing
                    failed.append(
                        f"{path.stem}: scheduler must answer until the runs end, got no answer "
                        f"from {scheduler!r}; the same command goes on from here"
                    )
                except Exception as error:  # the other runs' hours must not be lost
                    failed.append(f"{path.stem}: {error}")
                del waiting[path]
                bar.update()
    if failed:
        raise RuntimeError("runs must end, got " + "; ".join(failed))
    return finished


def _run(
    config: TrainConfig,
    runs: Path,
    records: Path,
    data: str | None,
    device: str,
    progress: bool,
    wait: bool,
) -> float | None:
    """In a worker: a run's test accuracy; None if another process trains it and ``wait`` is off."""
    torch.set_num_threads(1)
    line = worker_line()
    try:
        shown = {"progress": progress and line is not None, "line": line}
        path = records / f"{record_id(config)}.json"
        # not again: another sweep, or a worker that was lost with its result, has done it
        options = {"data": data, "device": device, "again": False, "wait": wait}
        record, _ = run_to_files(config, runs, path, **shown, **options)
    except RunInUse:
        return None
    return record["test_accuracy"]
