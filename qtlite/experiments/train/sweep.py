"""Many runs: those without a record yet, one process a core, each resumed where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.controls import CONTROL_ROWS, CONTROLS
from qtlite.experiments.data.loading import find_files, load_dataset
from qtlite.experiments.paper import TABLES
from qtlite.experiments.recipes import WEIGHT_DECAY, recipe_config
from qtlite.experiments.records.records import record_id, recorded, write_json
from qtlite.experiments.train.loop import check_device, train
from qtlite.experiments.train.workers import engine, worker_line
from qtlite.export import save_safetensors

NETWORK = "classical.safetensors"
PAPER_TABLES = {"table1": "mnist", "table2": "fashion_mnist", "table3": "cifar10"}
CHOICE_LEARNING_RATES = (0.0008, 0.002, 0.005, 0.0125, 0.03, 0.08, 0.2, 0.5, 1.25, 3.0, 8.0, 20.0)
# Dataset, L, models and what else changes: a row with full_matrix_adam and one with Adam, whose
# rates are chosen; and two that take over such rates, to see whether others would do better: the
# circuit and the controls nearest to it in between, and CIFAR-10, with half the epochs.
CHOICE_ROWS: tuple[tuple[str, int, tuple[str, ...], dict[str, Any]], ...] = (
    ("mnist", 16, ("qt", *CONTROLS), {}),
    ("mnist", 121, ("qt", *CONTROLS), {}),
    ("mnist", 61, ("qt", "hashed", "random_subspace", "hypernetwork"), {}),
    ("cifar10", 19, ("qt",), {"epochs": 10}),
)
TRAINING_SIZES = (500, 2000, 5000, 10_000, 20_000, 40_000, 60_000)

# QT-16 on MNIST with one choice of the recipe put back at a time
ABLATION: dict[str, dict[str, Any]] = {
    "recipe": {},
    "raw feature": {"feature": "raw"},
    "released feature": {"feature": "released"},
    "bits 0 and 1": {"bits": "zero_one"},
    "tanh after the first layer": {"activation": "first"},
    "no tanh": {"activation": "none"},
    "weights scaled, rows not standardised": {"normalisation": "tensor"},
    "weights as generated": {"normalisation": "none"},
    "no ReLU in the network": {"relu": False},
    "pixels in [0, 1]": {"pixel_mean": 0.0, "pixel_std": 1.0},
    "constant learning rate": {"schedule": "constant"},
    "Adam": {"optimiser": "adam", "learning_rate": 0.015},
    "small angles at the start": {"angle_range": 0.1},
}

# QT-19 on CIFAR-10 with one choice changed at a time, half the recipe's epochs, judged on held-out
# images: what to push the recipe with. Their learning rate is the recipe's.
CIFAR_TRIAL = {"n_blocks": 19, "epochs": 10, "n_validation": 5000}
CIFAR_TRIALS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "four times as many epochs": {"epochs": 40},
    "500 images a step": {"batch_size": 500},
    "500 images a step, half the epochs": {"batch_size": 500, "epochs": 5},
    "250 images a step, half the epochs": {"batch_size": 250, "epochs": 5},
    "root feature": {"feature": "root"},
    **{
        name: ABLATION[name]
        for name in (
            "raw feature",
            "bits 0 and 1",
            "tanh after the first layer",
            "weights scaled, rows not standardised",
            "no ReLU in the network",
            "constant learning rate",
            "small angles at the start",
        )
    },
    "mirrored images": {"augmentation": "mirror"},
}

# The usual CNN, which on CIFAR-10 fits all training images if nothing holds it back, with weight
# decay, judged on held-out images: generated weights must not owe their lead to its overfitting.
# The best are ``config.WEIGHT_DECAY``.
USUAL_TRIAL = {"model": "classical", "n_validation": 5000}


def _decays(*decays: float) -> dict[str, dict[str, Any]]:
    return {f"weight decay {decay:g}": {"weight_decay": decay} for decay in decays}


DECAY_TRIALS = {"recipe": {}, **_decays(1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}
LONG_DECAY_TRIALS = {"recipe": {}, **_decays(1e-3, 3e-3, 1e-2, 3e-2)}  # thorough, on CIFAR-10

# And its learning rate with the recipe thorough.
USUAL_TRIALS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "half the learning rate": {"learning_rate": 0.0025},
    "a quarter": {"learning_rate": 0.00125},
}

# The index net beside QT-323 on CIFAR-10, with the recipe thorough: its learning rate, judged on
# held-out images.
HYPERNETWORK_TRIAL = {"model": "hypernetwork", "n_blocks": 323, "n_validation": 5000}
HYPERNETWORK_TRIALS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "MNIST's learning rate": {"learning_rate": 0.08},
    "a third of the learning rate": {"learning_rate": 0.01},
}

# Controls that have been given the recipe thorough: they follow the circuit closest.
THOROUGH_CONTROLS = {
    ("mnist", 121): ("hashed", "hypernetwork"),
    ("fashion_mnist", 121): ("hashed", "hypernetwork"),
    ("cifar10", 323): ("hashed", "hypernetwork", "frozen_circuit"),
}

# QT-121 on FashionMNIST with one choice of the recipe thorough changed at a time, and the usual
# CNN's learning rate, judged on held-out images: what the recipe was chosen from.
THOROUGH_TRIAL = {"n_blocks": 121, "n_validation": 5000}
THOROUGH_TRIALS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "128 images a step, half the epochs": {
        "batch_size": 128,
        "epochs": 50,
        "learning_rate": 0.00182,
    },
    "64 images a step, half the epochs": {
        "batch_size": 64,
        "epochs": 50,
        "learning_rate": 0.00129,
    },
    "scaled feature": {"feature": "scaled"},
    "Adam": {"optimiser": "adam", "learning_rate": 0.0078},
    "classical CNN": {"model": "classical"},
    "classical CNN, half the learning rate": {"model": "classical", "learning_rate": 0.00088},
    "classical CNN, a quarter": {"model": "classical", "learning_rate": 0.00044},
    "classical CNN, twice the learning rate": {"model": "classical", "learning_rate": 0.00354},
    "classical CNN, four times": {"model": "classical", "learning_rate": 0.00707},
    "classical CNN, eight times": {"model": "classical", "learning_rate": 0.01414},
}

# QT-121 on FashionMNIST with the 20 epochs of the recipe qtlite, judged on held-out images: whether
# more steps, each of fewer images, do what the recipe thorough does with 100 epochs.
SHORT_TRIAL = {"n_blocks": 121, "n_validation": 5000}
ROOT_FULL_MATRIX = {"feature": "root", "optimiser": "full_matrix_adam", "refresh_every": 200}
SHORT_TRIALS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "32 images a step": {"batch_size": 32, "learning_rate": 0.0029},
    "root feature, 32 images a step": {
        "batch_size": 32,
        "learning_rate": 0.0029,
        "feature": "root",
    },
    **{
        f"root feature, full matrix{more}": {**ROOT_FULL_MATRIX, **changes}
        for more, changes in {
            "": {"learning_rate": 0.00182, "refresh_every": 100},
            ", twice the learning rate": {"learning_rate": 0.0036},
            ", four times the learning rate": {"learning_rate": 0.0073},
            ", 64 images a step": {"learning_rate": 0.00129, "batch_size": 64},
            ", 32 images a step": {"learning_rate": 0.00091, "batch_size": 32},
            ", 32 images, twice that rate": {"learning_rate": 0.0018, "batch_size": 32},
        }.items()
    },
}


def sweep_configs(
    name: str, recipes: Sequence[str] = ("qtlite",), n_seeds: int = 3
) -> list[TrainConfig]:
    """List the runs behind a table or a figure, all of a seed before the next seed.

    Args:
        name: one of ``SWEEPS``.
        recipes: for the paper's tables, which of ours to put beside its column; the other sweeps
            have "qtlite" alone.
        n_seeds: seeds 0 ... n_seeds - 1.

    Raises:
        ValueError: if the name or a recipe is unknown or not for this sweep, or ``n_seeds`` is
            below 1.

    Example:
        >>> [config.n_blocks for config in sweep_configs("table1", n_seeds=1)[1:4]]
        [16, 31, 46]
    """
    if name not in SWEEPS:
        raise ValueError(f"name must be one of {tuple(SWEEPS)}, got {name!r}")
    if n_seeds < 1:
        raise ValueError(f"n_seeds must be at least 1, got {n_seeds}")
    if name not in PAPER_TABLES and tuple(recipes) != ("qtlite",):
        raise ValueError(f"recipes must be ('qtlite',) for {name!r}, got {tuple(recipes)}")
    return [config for seed in range(n_seeds) for config in SWEEPS[name](seed, recipes)]


def read_configs(path: Path) -> list[TrainConfig]:
    """Read a list of runs from a file: ``[{"recipe": "qtlite", "dataset": "mnist", ...}, ...]``.

    Args:
        path: JSON; each entry has fields of ``TrainConfig``, the others are its recipe's.

    Raises:
        ValueError: if the file is not such a list, or an entry is wrong; the message says which.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"configs must be a JSON list, got {path}: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"configs must be a JSON list of objects, got {path} with something else")
    configs = []
    for place, entry in enumerate(entries):
        try:
            # from_dict checks the names; recipe_config fills in what is left out
            TrainConfig.from_dict(entry)
            entry = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
            configs.append(recipe_config(entry.pop("recipe", "qtlite"), **entry))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"configs must be runs, got {path} whose entry {place} {error}"
            ) from error
    return configs


def _paper_table(dataset: str) -> Callable[[int, Sequence[str]], Iterator[TrainConfig]]:
    def configs(seed: int, recipes: Sequence[str]) -> Iterator[TrainConfig]:
        for recipe in recipes:
            for row in TABLES[dataset]:
                blocks = {} if row.n_blocks is None else {"n_blocks": row.n_blocks}
                yield recipe_config(recipe, dataset, model=row.model, seed=seed, **blocks)

    return configs


def _qcml(seed: int, recipes: Sequence[str]) -> Iterator[TrainConfig]:
    for dataset in PAPER_TABLES.values():
        yield recipe_config("qtlite", dataset, model="qcml", seed=seed)


def _no_relu(seed: int, recipes: Sequence[str]) -> Iterator[TrainConfig]:
    for dataset in PAPER_TABLES.values():
        yield recipe_config("qtlite", dataset, model="classical", seed=seed, relu=False)


def _controls(seed: int, recipes: Sequence[str]) -> Iterator[TrainConfig]:
    for dataset, n_blocks in CONTROL_ROWS:
        for model in ("qt", *CONTROLS):
            yield recipe_config("qtlite", dataset, model=model, n_blocks=n_blocks, seed=seed)


def _choices(seed: int, recipes: Sequence[str]) -> Iterator[TrainConfig]:
    """Learning rates of QT and of every control, judged on 5,000 held-out training images.

    The present one, the next lower and the next higher. Where one of those is better, it is put in
    the present one's place and the sweep run again: it ends with neighbours that are both worse.
    (Rows that take over their rates keep them.)
    """
    for dataset, n_blocks, models, changes in CHOICE_ROWS:
        for model in models:
            own = recipe_config(
                "qtlite", dataset, model=model, n_blocks=n_blocks, seed=seed, **changes
            )
            present = own.learning_rate
            lower = max(rate for rate in CHOICE_LEARNING_RATES if rate < present / 1.5)
            higher = min(rate for rate in CHOICE_LEARNING_RATES if rate > present * 1.5)
            for learning_rate in (present, lower, higher):
                yield replace(own, learning_rate=learning_rate, n_validation=5000)


def _changed(
    recipe: str, dataset: str, trials: dict[str, dict[str, Any]], **common: Any
) -> Callable[[int, Sequence[str]], Iterator[TrainConfig]]:
    """A recipe with one choice changed at a time, on top of what all trials have in common."""

    def configs(seed: int, recipes: Sequence[str]) -> Iterator[TrainConfig]:
        for changes in trials.values():
            yield recipe_config(recipe, dataset, seed=seed, **{**common, **changes})

    return configs


def _decay_trials(seed: int, recipes: Sequence[str]) -> Iterator[TrainConfig]:
    for dataset in PAPER_TABLES.values():
        yield from _changed("qtlite", dataset, DECAY_TRIALS, **USUAL_TRIAL)(seed, recipes)
    yield from _changed("thorough", "cifar10", LONG_DECAY_TRIALS, **USUAL_TRIAL)(seed, recipes)


def _decay(seed: int, recipes: Sequence[str]) -> Iterator[TrainConfig]:
    for recipe, decays in WEIGHT_DECAY.items():
        for dataset, decay in decays.items():
            yield recipe_config(recipe, dataset, model="classical", seed=seed, weight_decay=decay)


def _thorough_controls(seed: int, recipes: Sequence[str]) -> Iterator[TrainConfig]:
    for (dataset, n_blocks), models in THOROUGH_CONTROLS.items():
        for model in models:
            yield recipe_config("thorough", dataset, model=model, n_blocks=n_blocks, seed=seed)


def _generalization(seed: int, recipes: Sequence[str]) -> Iterator[TrainConfig]:
    for n_train in TRAINING_SIZES:
        images = {} if n_train == TRAINING_SIZES[-1] else {"n_train": n_train}
        for model, n_blocks in (("qt", 16), ("qt", 121), ("classical", 16)):
            yield recipe_config(
                "qtlite", "mnist", model=model, n_blocks=n_blocks, seed=seed, **images
            )


SWEEPS: dict[str, Callable[[int, Sequence[str]], Iterator[TrainConfig]]] = {
    **{name: _paper_table(dataset) for name, dataset in PAPER_TABLES.items()},
    "qcml": _qcml,
    "no-relu": _no_relu,
    "controls": _controls,
    "choices": _choices,
    "ablation": _changed("qtlite", "mnist", ABLATION),
    "cifar-trials": _changed("qtlite", "cifar10", CIFAR_TRIALS, **CIFAR_TRIAL),
    "decay-trials": _decay_trials,
    "decay": _decay,
    "usual-trials": _changed("thorough", "cifar10", USUAL_TRIALS, **USUAL_TRIAL),
    "hypernetwork-trials": _changed(
        "thorough", "cifar10", HYPERNETWORK_TRIALS, **HYPERNETWORK_TRIAL
    ),
    "thorough-controls": _thorough_controls,
    "thorough-trials": _changed("thorough", "fashion_mnist", THOROUGH_TRIALS, **THOROUGH_TRIAL),
    "short-trials": _changed("qtlite", "fashion_mnist", SHORT_TRIALS, **SHORT_TRIAL),
    "generalization": _generalization,
}


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
        line: of the terminal, counted from the cursor's, where several runs have one each.

    Returns:
        The record and the network's path.
    """
    folder = runs / record_id(config)
    dataset = load_dataset(config.dataset, data, download=download)
    run = train(config, dataset, folder, device=device, progress=progress, line=line)
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
    download: bool = False,
    device: str = "cpu",
    n_processes: int | None = None,
    scheduler: str | None = None,
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
        download: whether to fetch missing images, once, before the first run.
        device: "cpu" or "cuda", which the processes then share.
        n_processes: as many as cores if left out, on a GPU one.
        scheduler: of a Dask cluster, see ``engine``; its workers find ``runs``, ``records`` and
            ``data`` under the same paths.
        progress: whether to show a bar over the runs and, on this machine, one for each.

    Returns:
        The new records' paths.

    Raises:
        ValueError: if ``engine`` cannot be opened, or the device is missing on this machine.
        FileNotFoundError: if images are missing on this machine and ``download`` is off.
        RuntimeError: if runs failed; the message names each with its error.
    """
    if scheduler is None:
        check_device(device)
        if device != "cpu" and n_processes is None:
            n_processes = 1
    done = recorded(records)
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
        engine(n_processes, scheduler) as executor,
        tqdm(total=len(waiting), unit="run", disable=not progress, position=0) as bar,
    ):
        jobs = {
            executor.submit(_run, config, *places, device, progress): path
            for path, config in waiting.items()
        }
        for job in as_completed(jobs):
            path = jobs[job]
            try:
                accuracy = 100 * job.result()
                finished.append(path)
                bar.set_postfix_str(f"{path.stem}: {accuracy:.2f} %")
            except Exception as error:  # the other runs' hours must not be lost
                failed.append(f"{path.stem}: {error}")
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
) -> float:
    """A run's test accuracy; in a worker process."""
    torch.set_num_threads(1)
    path = records / f"{record_id(config)}.json"
    if path.exists():  # its result was lost with a worker: the run was not
        return json.loads(path.read_text(encoding="utf-8"))["test_accuracy"]
    line = worker_line()
    record, _ = run_to_files(
        config,
        runs,
        path,
        data=data,
        device=device,
        progress=progress and line is not None,
        line=line,
    )
    return record["test_accuracy"]
