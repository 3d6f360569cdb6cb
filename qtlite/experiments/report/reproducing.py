"""How to run again what the book reports: the command of every record, and every choice."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import groupby
from typing import Any

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records.records import departures

# What Liu et al. 2024 say about fields of TrainConfig; they say nothing about the other fields.
PAPER_SAYS = {
    "angle_range": "random",
    "feature": "p itself (Eq. 2)",
    "bits": "0 and 1 (Eq. 2)",
    "hidden": "Tables I-III",
    "activation": "tanh in the initial layer",
    "epochs": "50; CIFAR-10 1000",
    "batch_size": "128; CIFAR-10 1000",
    "learning_rate": "1e-4",
    "optimiser": "Adam",
}

# Fields that name a run; the other fields are choices.
WHICH_RUN = ("dataset", "model", "recipe", "n_blocks", "seed", "n_train", "n_validation")


def command(config: TrainConfig, n_threads: int | None = None, device: str = "cpu") -> str:
    """Write the shell command that trains a config.

    It names only what departs from the recipe.

    Args:
        config: of a run, as its record stores it.
        n_threads: all cores if left out; rounding, and so a result's last digits, depend on it.
        device: "cpu" or "cuda".

    Example:
        >>> command(recipe_config("qtlite", "mnist", n_blocks=121, seed=1), n_threads=1)
        'qtlite train --dataset mnist --blocks 121 --seed 1 --threads 1'
    """
    given = {"dataset", *departures(config)}
    for name in ("recipe", "model", "n_blocks", "seed"):
        if getattr(config, name) != getattr(TrainConfig, name):
            given.add(name)
    words = ["qtlite", "train"]
    for field in fields(TrainConfig):
        if field.name in given:
            words += _option(field.name, getattr(config, field.name))
    if n_threads is not None:
        words += ["--threads", str(n_threads)]
    if device != "cpu":
        words += ["--device", device]
    return shlex.join(words)


def run_rows(records: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table of records.

    Args:
        records: from ``read_records``.

    Example:
        >>> head, rows = run_rows([])
        >>> head
        ['command', 'accuracy / %', 'minutes', 'machine', 'commit']
    """
    head = ["command", "accuracy / %", "minutes", "machine", "commit"]
    rows = []
    for record in records:
        on_validation = record["evaluated_on"] == "validation"
        accuracy = f"{100 * record['test_accuracy']:.2f}{' (validation)' if on_validation else ''}"
        n_threads, accelerator = map(record["hardware"].get, ("n_threads", "accelerator"))
        config = TrainConfig.from_dict(record["config"])
        words = command(config, n_threads, "cuda" if accelerator else "cpu")
        rows.append([f"`{words}`", accuracy, *_how(record)])
    return head, rows


def measurement_rows(
    measurements: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table of measurements.

    Args:
        measurements: by name, as from ``read_measurements``.

    Example:
        >>> measurement_rows({})[0]
        ['measurement', 'command', 'minutes', 'machine', 'commit']
    """
    rows = []
    for name, measurement in measurements.items():
        config = measurement["config"]
        if name.startswith("export-"):
            words = "python -m benchmarks.export"
        elif name == "kills":
            words = "python tests/prove/kill_sweeps.py --to book/measurements"
        elif "n_blocks" in config and "dataset" in config:
            kind = name.removesuffix(f"-{config['dataset']}-L{config['n_blocks']}")
            words = f"qtlite measure {kind} --dataset {config['dataset']}"
            words += f" --blocks {config['n_blocks']}"
        else:
            words = f"qtlite measure {name}"
        rows.append([name, f"`{words}`", *_how(measurement)])
    return ["measurement", "command", "minutes", "machine", "commit"], rows


def choice_rows(dataset: str = "mnist") -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table of choices: what the paper says, and each recipe's value.

    Args:
        dataset: the recipes are those for this dataset and 16 blocks.

    Raises:
        ValueError: if the dataset is unknown.

    Example:
        >>> head, rows = choice_rows()
        >>> head
        ['choice', 'paper', 'literal', 'released', 'qtlite', 'thorough']
        >>> next(row for row in rows if row[0] == "`bits`")
        ['`bits`', '0 and 1 (Eq. 2)', 'zero_one', 'minus_plus', 'minus_plus', 'minus_plus']
    """
    names = ["literal", "released", "qtlite", "thorough"]
    recipes = [recipe_config(name, dataset) for name in names]
    rows = [
        [
            f"`{field.name}`",
            PAPER_SAYS.get(field.name, "–"),
            *(_value(getattr(recipe, field.name)) for recipe in recipes),
        ]
        for field in fields(TrainConfig)
        if field.name not in WHICH_RUN
    ]
    return ["choice", "paper", *names], rows


def _option(name: str, value: Any) -> list[str]:
    flag = "--blocks" if name == "n_blocks" else f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, tuple):
        return [flag, *map(str, value)]
    return [flag, str(value)]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _how(record: Mapping[str, Any]) -> list[str]:
    """Minutes, machine and commit; of a run that was resumed elsewhere, one after another."""
    machines, commits = [], []
    for part in record.get("parts", [record]):
        hardware = part["hardware"]
        cores = f"{hardware['n_threads']} of {hardware['n_cores']} cores"
        machines.append(hardware.get("accelerator") or f"{hardware['processor']}, {cores}")
        commit, plus, changes = (part["commit"] or "–").partition("+")
        commits.append(commit[:8] + plus + changes)
    found = ("; then ".join(name for name, _ in groupby(names)) for names in (machines, commits))
    return [f"{record['wall_seconds'] / 60:.1f}", *found]
