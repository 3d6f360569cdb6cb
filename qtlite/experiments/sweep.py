"""Many runs: those without a record yet, one process a core, each resumed where it stopped."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from qtlite.experiments.config import TrainConfig, recipe_config
from qtlite.experiments.data import load_dataset
from qtlite.experiments.paper import TABLES
from qtlite.experiments.records import record_id, write_json
from qtlite.experiments.training import train
from qtlite.export import save_safetensors

SWEEPS = {"table1": "mnist", "table2": "fashion_mnist", "table3": "cifar10"}
NETWORK = "classical.safetensors"


def sweep_configs(
    name: str, recipes: Sequence[str] = ("qtlite",), n_seeds: int = 3
) -> list[TrainConfig]:
    """List the runs behind one of the paper's tables, all rows of a seed before the next seed.

    Args:
        name: "table1", "table2" or "table3".
        recipes: which of ours to put beside the paper's column.
        n_seeds: seeds 0 ... n_seeds - 1.

    Raises:
        ValueError: if the name or a recipe is unknown, or ``n_seeds`` is below 1.

    Example:
        >>> [config.n_blocks for config in sweep_configs("table1", n_seeds=1)[1:4]]
        [16, 31, 46]
    """
    if name not in SWEEPS:
        raise ValueError(f"name must be one of {tuple(SWEEPS)}, got {name!r}")
    if n_seeds < 1:
        raise ValueError(f"n_seeds must be at least 1, got {n_seeds}")
    dataset = SWEEPS[name]
    return [
        recipe_config(
            recipe,
            dataset,
            model=row.model,
            seed=seed,
            **({} if row.n_blocks is None else {"n_blocks": row.n_blocks}),
        )
        for seed in range(n_seeds)
        for recipe in recipes
        for row in TABLES[dataset]
    ]


def run_to_files(
    config: TrainConfig,
    runs: Path,
    record_path: Path,
    *,
    data: str | os.PathLike | None = None,
    download: bool = False,
    device: str = "cpu",
    progress: bool = True,
) -> tuple[dict[str, Any], Path]:
    """Train one config and write its network, then its record: a run with a record is whole.

    Args:
        config: what to train.
        runs: checkpoints and the network go to a folder in it, named like the record.
        record_path: where the record goes.
        data: the images' folder, see ``load_dataset``.
        download: whether to fetch missing images.
        device: "cpu" or "cuda".
        progress: whether to show a bar.

    Returns:
        The record and the network's path.
    """
    folder = runs / record_id(config)
    dataset = load_dataset(config.dataset, data, download=download)
    run = train(config, dataset, folder, device=device, progress=progress)
    note = {"record": run.record["id"]}
    network_path = save_safetensors(run.classical, folder / NETWORK, note, overwrite=True)
    write_json(record_path, run.record)
    return run.record, network_path


def run_sweep(
    configs: Iterable[TrainConfig],
    runs: Path,
    records: Path,
    *,
    data: str | os.PathLike | None = None,
    n_processes: int | None = None,
    progress: bool = True,
) -> list[Path]:
    """Run every config that has no record in a folder yet, several at a time, one core each.

    Interrupted runs go on from their last epoch at the next call. Where one run fails, the others
    are finished first.

    Args:
        configs: what to train.
        runs: checkpoints and networks go here.
        records: records go here, named after the run.
        data: the images' folder, see ``load_dataset``.
        n_processes: as many as cores if left out.
        progress: whether to show a bar over the runs.

    Returns:
        The new records' paths.

    Raises:
        RuntimeError: if runs failed; the message names each with its error.
    """
    waiting = {
        path: config
        for config in configs
        if not (path := records / f"{record_id(config)}.json").exists()
    }
    finished, failed = [], []
    # a fresh interpreter for each process: PyTorch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        n_processes, context, initializer=torch.set_num_threads, initargs=(1,)
    )
    jobs = {
        pool.submit(run_to_files, config, runs, path, data=data, progress=False): path
        for path, config in waiting.items()
    }
    try:
        with tqdm(total=len(waiting), unit="run", disable=not progress) as bar:
            for job in as_completed(jobs):
                path = jobs[job]
                try:
                    record, _ = job.result()
                    finished.append(path)
                    accuracy = 100 * record["test_accuracy"]
                    bar.set_postfix_str(f"{path.stem}: {accuracy:.2f} %")
                except Exception as error:  # the other runs' hours must not be lost
                    failed.append(f"{path.stem}: {error}")
                bar.update()
    finally:
        # after Ctrl-C, too: no run that is still waiting is begun
        pool.shutdown(cancel_futures=True)
    if failed:
        raise RuntimeError("runs must end, got " + "; ".join(failed))
    return finished
