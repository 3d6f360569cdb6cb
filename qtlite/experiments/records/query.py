"""Records as a pandas DataFrame, one row a run, and the few questions that tables ask of it.

pandas answers most questions: ``runs.query("dataset == 'mnist' and n_blocks == 16")``, or
``runs.groupby("model").test_accuracy.agg(["mean", "std", "count"])``. A run may depart from its
recipe in some fields (an ablation, a hyperparameter sweep, a run on held-out images); ``select``
keeps those runs out of a row of the recipe.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.records.records import (
    WITHOUT_BLOCKS,
    Record,
    check_folder,
    departures,
    read_records,
)
from qtlite.export.schema import read_json

DECISIONS = "recipes/departures.json"  # beside records older than the field `departures`
ROW = ["recipe", "dataset", "model", "n_blocks"]  # what a row of a table is about
NOT_SHOWN = {"config", "versions", "hardware", "parts"}


def read_runs(folder: str | Path) -> pd.DataFrame:
    """Read a folder's records as a table.

    Args:
        folder: holds records as ``*.json`` files.

    Returns:
        See ``as_frame``.

    Raises:
        ValueError: if a file is not a record; the message names the file, the place and the rule.
        FileNotFoundError: if the folder is missing; the message says where a chapter's is.
    """
    check_folder(Path(folder))
    path, decided = Path(folder) / DECISIONS, {}
    if path.exists():
        content = read_json(path, dict[str, list[str]], "departures and ids")
        decided = {name: fields.split() for fields, names in content.items() for name in names}
    return as_frame(read_records(Path(folder)), decided)


def as_frame(
    records: Iterable[Mapping[str, Any]], decided: Mapping[str, list[str]] | None = None
) -> pd.DataFrame:
    """Put records into a table, one row a run.

    Args:
        records: from ``read_records``.
        decided: departures by id, for records that do not store their own.

    Returns:
        The config's fields and the record's; ``n_blocks`` is missing for models without a circuit,
        ``n_train`` counts the images used. ``departures`` names the fields in which the run departs
        from its recipe, ``outdated`` those in which the recipe has changed since. ``resumed`` runs
        went on on another machine.

    Example:
        >>> as_frame([]).columns[:4].to_list()
        ['dataset', 'model', 'recipe', 'n_blocks']
    """
    rows = []
    for record in records:
        config = TrainConfig.from_dict(record["config"])
        differs = departures(config)
        at_its_time = record.get("departures", (decided or {}).get(record.get("id"), differs))
        values = config.to_dict() | {k: v for k, v in record.items() if k not in NOT_SHOWN}
        rows.append(
            {name: _scalar(value) for name, value in values.items()}
            | {"departures": tuple(n for n in differs if n in at_its_time)}
            | {"outdated": tuple(n for n in differs if n not in at_its_time)}
            | {"resumed": "parts" in record}
        )
    names = Record.__annotations__.keys() - NOT_SHOWN - TrainConfig().to_dict().keys()
    columns = [*TrainConfig().to_dict(), *sorted(names | {"outdated", "resumed"})]
    table = pd.DataFrame(rows).reindex(columns=columns)
    return table.astype({"n_blocks": "Int64", "n_qubits": "Int64"})


def select(runs: pd.DataFrame, vary: Iterable[str] = (), **values: Any) -> pd.DataFrame:
    """Return the runs that follow their recipe, except in the fields that are named here.

    Where the recipe has changed since, a row's runs of today's recipe replace the older ones;
    without any, the older runs stay, and ``format_accuracy`` marks them.

    Args:
        runs: from ``read_runs``.
        vary: fields that may have any value.
        **values: columns and their values; None selects missing values.

    Example:
        >>> runs = as_frame([{"config": TrainConfig(relu=False).to_dict()}])
        >>> len(select(runs, model="qt")), len(select(runs, model="qt", relu=False))
        (0, 1)
    """
    named = {*vary, *values}
    wanted = runs.departures.map(lambda fields: named.issuperset(fields)).astype(bool)
    for name, value in values.items():
        column = runs[name]
        wanted &= column.isna() if value is None else (column == _scalar(value)).fillna(False)
    found = runs[wanted].sort_values("seed", kind="stable")
    found["outdated"] = [tuple(n for n in fields if n not in named) for fields in found.outdated]
    old = found.outdated.astype(bool)
    replaced = old & ~old.groupby([found[name] for name in ROW], dropna=False).transform("all")
    return found[~replaced]


def with_changes(
    runs: pd.DataFrame, dataset: str, recipe: str = "qtlite", **changes: Any
) -> pd.DataFrame:
    """Return the runs of a recipe with these changes and no others, all seeds.

    Args:
        runs: from ``read_runs``.
        dataset: such as "mnist".
        recipe: that the changes depart from.
        **changes: fields of ``TrainConfig``; without a model or a depth, QT and 16 blocks.

    Example:
        >>> config = TrainConfig(relu=False, seed=3)
        >>> runs = as_frame([{"config": config.to_dict()}])
        >>> len(with_changes(runs, "digits", relu=False)), len(with_changes(runs, "digits"))
        (1, 0)
    """
    values = {"model": "qt", "n_blocks": 16, "dataset": dataset, "recipe": recipe, **changes}
    if values["model"] in WITHOUT_BLOCKS:
        del values["n_blocks"]
    return select(runs, **values)


def accuracy_percent(
    runs: pd.DataFrame, column: str = "test_accuracy"
) -> tuple[float, float | None, int]:
    """Return mean and sample standard deviation of an accuracy in percent, and the number of seeds.

    Raises:
        ValueError: if there is no run, or two runs of one seed.

    Example:
        >>> accuracy_percent(pd.DataFrame({"seed": [0], "test_accuracy": [0.96]}))
        (96.0, None, 1)
    """
    if runs.empty:
        raise ValueError("runs must not be empty, got none")
    if (twice := runs[runs.seed.duplicated(keep=False)]).size:
        names = ", ".join(map(str, twice.get("id", twice.index)))
        raise ValueError(
            f"runs must be of different seeds, got seed {twice.seed.iloc[0]} twice: {names}"
        )
    percent = 100 * runs[column]
    deviation = float(percent.std()) if len(percent) > 1 else None
    return float(percent.mean()), deviation, len(percent)


def pooled_deviation(rows: Iterable[pd.DataFrame]) -> float:
    """Return the standard deviation of one run's test accuracy, in points, pooled over rows.

    Three seeds hardly tell a row's own deviation; a table's rows together do.

    Args:
        rows: the runs of each row; rows with a single run do not count.

    Raises:
        ValueError: if no row has two runs.

    Example:
        >>> one = pd.DataFrame({"seed": [0, 1], "test_accuracy": [0.96, 0.97]})
        >>> round(pooled_deviation([one, one]), 2)
        0.71
    """
    counted = [row.test_accuracy for row in rows if len(row) > 1]
    if not counted:
        raise ValueError("rows must have one with at least two runs, got none")
    squares = sum((len(row) - 1) * row.var() for row in counted)
    return 100 * float(squares / sum(len(row) - 1 for row in counted)) ** 0.5


def mean_difference(
    some: pd.DataFrame, others: pd.DataFrame, deviation: float | None = None
) -> tuple[float, float | None]:
    """Return the difference of two mean test accuracies and its standard error, in points.

    Args:
        some, others: the runs of two rows.
        deviation: of one run, in points, such as ``pooled_deviation``. If left out, each row has
            its own; the error is then None where one of them has a single seed.

    Raises:
        ValueError: if one of them has no runs.
    """
    (mean, own, n_seeds), (other_mean, other, n_others) = map(accuracy_percent, (some, others))
    own, other = (own, other) if deviation is None else (deviation, deviation)
    if own is None or other is None:
        return mean - other_mean, None
    return mean - other_mean, (own**2 / n_seeds + other**2 / n_others) ** 0.5


def generalization_error(record: Mapping[str, Any]) -> float:
    """Return test loss minus training loss of the trained network, nats (Eq. 6 of the paper).

    Both are means over all images of the same network, after the last step.

    Example:
        >>> generalization_error({"test_loss": 0.5, "train_loss": 0.25})
        0.25
    """
    return record["test_loss"] - record["train_loss"]


def error_at_training_loss(record: Mapping[str, Any], level: float) -> float | None:
    """Return test loss minus training loss at the first epoch that reaches a training loss, nats.

    At equal training loss, models can be compared: early in training every model has a small error.
    The training loss in the history is the mean over an epoch while the network changes, which is
    usually larger than the loss at the epoch's end.

    Args:
        record: of a run.
        level: training loss to reach, nats.

    Returns:
        None if no epoch reaches it.

    Example:
        >>> history = [{"train_loss": 1.0, "test_loss": 0.9}, {"train_loss": 0.4, "test_loss": 0.5}]
        >>> round(error_at_training_loss({"history": history}, 0.5), 3)
        0.1
    """
    for epoch in record["history"]:
        if epoch["train_loss"] <= level:
            return epoch["test_loss"] - epoch["train_loss"]
    return None


def _scalar(value: Any) -> Any:
    """A value that pandas can compare: widths such as (4, 20, 4) become "4-20-4"."""
    if isinstance(value, (list, tuple)) and all(isinstance(width, int) for width in value):
        return "-".join(map(str, value))
    return value
