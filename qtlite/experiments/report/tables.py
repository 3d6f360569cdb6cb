"""Markdown tables from recorded runs: the paper's Tables I-III beside ours, controls, trials.

README.md holds some of them, between comments such as ``<!-- table: controls -->``.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from qtlite.experiments.controls import ALL_CONTROLS, CONTROL_ROWS, CONTROLS
from qtlite.experiments.paper import N_TRAIN, QCML_PARAMETERS, TABLE_NAMES, TABLES, PaperRow
from qtlite.experiments.recipes import RECIPES, WEIGHT_DECAY, recipe_config
from qtlite.experiments.records.query import accuracy_percent, select, with_changes
from qtlite.experiments.records.records import write_text
from qtlite.experiments.report.comparisons import table_deviation, with_weight_decay
from qtlite.experiments.report.pages import table_text

DATASET_NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion", "cifar10": "CIFAR-10"}
OUTDATED = "†"
START, END = "<!-- table: {} -->\n", "<!-- end of table -->"


def format_accuracy(runs: pd.DataFrame, column: str = "test_accuracy") -> str:
    """Return mean ± sd (seeds) in percent for a table's cell, or a dash where there is no run.

    A dagger marks runs of an earlier version of their recipe.

    Example:
        >>> runs = pd.DataFrame({"seed": [0, 1], "test_accuracy": [0.96, 0.97]})
        >>> format_accuracy(runs)
        '96.50 ± 0.71 (2)'
        >>> format_accuracy(runs[:0])
        '–'
    """
    if runs.empty:
        return "–"
    number, n_seeds = _mean_and_deviation(runs, column)
    is_old = "outdated" in runs and any(runs.outdated)
    return f"{number} ({n_seeds}){OUTDATED * is_old}"


def accuracy_in_words(runs: pd.DataFrame) -> str:
    """Return ``format_accuracy`` for a sentence.

    Example:
        >>> accuracy_in_words(pd.DataFrame({"seed": [0], "test_accuracy": [0.96]}))
        '96.00 % (1 seed)'
    """
    number, n_seeds = _mean_and_deviation(runs)
    return f"{number} % ({n_seeds} seed{'s' if n_seeds > 1 else ''})"


def table(dataset: str, runs: pd.DataFrame) -> str:
    """Return one of the paper's tables with our columns beside its own, as Markdown.

    The head of a column says how many optimiser steps its runs take. A recipe without any run has
    no column. Below is the deviation of one run, see ``table_deviation``.

    Args:
        dataset: "mnist", "fashion_mnist" or "cifar10".
        runs: from ``read_runs``.

    Raises:
        ValueError: if the dataset has no table.
    """
    if dataset not in TABLES:
        raise ValueError(f"dataset must be one of {tuple(TABLES)}, got {dataset!r}")
    found = select(runs, dataset=dataset)
    first, *others = RECIPES
    recipes = [first, *(recipe for recipe in others if (found.recipe == recipe).any())]
    head = ["model", "trainable parameters", "paper"]
    head += [f"{recipe}, {n_steps(dataset, recipe):,} steps" for recipe in recipes]
    rows = []
    for row in TABLES[dataset]:
        own = {"model": row.model, "n_blocks": row.n_blocks}
        ours = [format_accuracy(select(found, recipe=recipe, **own)) for recipe in recipes]
        cells = [row_name(row), f"{row.n_trainable:,}", f"{row.test_accuracy:.2f}"]
        rows.append(cells + ours)
    rows += _rows_without_number(dataset, runs, recipes)
    text = table_text(head, rows, n_left=1) + "\n"
    if deviation := table_deviation(runs, dataset):
        text += (
            f"\nPooled over our rows, one run deviates by {deviation:.2f} points (without rows "
            "that deviate by more than one). "
            f"The mean of three seeds has a standard error of {deviation / 3**0.5:.2f}.\n"
        )
    return with_footnote(text, runs[runs.dataset == dataset])


def n_steps(dataset: str, recipe: str) -> int:
    """Return the optimiser steps of a recipe's run on all training images.

    Example:
        >>> n_steps("cifar10", "literal")
        50000
    """
    config = recipe_config(recipe, dataset)
    return config.epochs * -(-N_TRAIN[dataset] // config.batch_size)


def write_tables(runs: pd.DataFrame, folder: Path) -> list[Path]:
    """Write every table to ``<folder>/<dataset>.md``; the same records give the same bytes."""
    paths = []
    for dataset, name in TABLE_NAMES.items():
        path = folder / f"{dataset}.md"
        note = f"<!-- {name}, written by `qtlite tables` from the records: do not edit -->\n"
        write_text(path, note + table(dataset, runs))
        paths.append(path)
    return paths


def controls_table(runs: pd.DataFrame) -> str:
    """Return the accuracies of QT and of its controls, which train as many parameters."""
    sizes = {(name, row.n_blocks): row.n_trainable for name in TABLES for row in TABLES[name]}
    heads = [f"{DATASET_NAMES[row[0]]}, {sizes[row]:,}" for row in CONTROL_ROWS]
    found = select(runs, recipe="qtlite")
    rows = []
    for model in ("qt", *CONTROLS):
        cells = [select(found, dataset=d, model=model, n_blocks=n) for d, n in CONTROL_ROWS]
        rows.append([f"`{model}`", *map(format_accuracy, cells)])
    return with_footnote(table_text(["model", *heads], rows, n_left=1) + "\n", found)


def long_recipe_table(runs: pd.DataFrame, datasets: Iterable[str] = tuple(TABLES)) -> str:
    """Return accuracies of the recipe ``thorough`` (100 epochs) and of all classical baselines.

    Circuits and controls are those of a table's greatest depth. A row without any run is left out.
    """
    datasets = list(datasets)
    deepest = {dataset: TABLES[dataset][-1].n_blocks for dataset in datasets}
    circuit = "/".join(dict.fromkeys(f"QT-{n_blocks}" for n_blocks in deepest.values()))
    names = {"qt": circuit} | {name: f"`{name}`" for name in CONTROLS}
    found = {}
    for model, name in names.items():
        own = {"recipe": "thorough", "model": model}
        cells = [select(runs, dataset=d, n_blocks=n, **own) for d, n in deepest.items()]
        found[name, "thorough"] = cells
    for recipe in WEIGHT_DECAY:
        own = {"recipe": recipe, "model": "classical"}
        found["classical CNN", recipe] = [select(runs, dataset=d, **own) for d in datasets]
    for recipe in WEIGHT_DECAY:
        cells = [with_weight_decay(runs, dataset, recipe) for dataset in datasets]
        found["classical CNN, weight decay", recipe] = cells
    rows = [
        [name, f"`{recipe}`", *map(format_accuracy, cells)]
        for (name, recipe), cells in found.items()
        if any(len(cell) for cell in cells)
    ]
    head = ["model", "recipe", *(DATASET_NAMES[dataset] for dataset in datasets)]
    return with_footnote(table_text(head, rows, n_left=2) + "\n", runs)


def results_table(runs: pd.DataFrame) -> str:
    """Return every recorded row of the paper's tables: its number, ours, and the minutes a run."""
    rows = []
    for dataset, name in TABLE_NAMES.items():
        for row in TABLES[dataset]:
            own = {"dataset": dataset, "model": row.model, "n_blocks": row.n_blocks}
            found = select(runs, recipe="qtlite", **own)
            if len(found):
                cells = [f"{name}, {row_name(row)}", f"{row.n_trainable:,}"]
                cells += [f"{row.test_accuracy:.2f}", format_accuracy(found)]
                rows.append([*cells, f"{found.wall_seconds.mean() / 60:.1f}"])
    head = ["", "trainable parameters", "paper, test %", "qtlite, test %", "minutes a run"]
    text = table_text(head, rows, n_left=1) + "\n"
    found = {name: table_deviation(runs, dataset) for dataset, name in TABLE_NAMES.items()}
    pooled = [f"{deviation:.2f} points in {name}" for name, deviation in found.items() if deviation]
    if pooled:
        text += f"\nPooled over a table's rows, one run deviates by {', '.join(pooled)}.\n"
    return with_footnote(text, runs)


def choices_table(runs: pd.DataFrame, dataset: str, n_blocks: int, **changes: object) -> str:
    """Return accuracies on held-out images by learning rate, for QT and its controls.

    Runs of seed 0 that depart from the recipe only in the learning rate and in the changes named
    here. The recipe's rate is in bold.

    Args:
        runs: from ``read_runs``.
        dataset: such as "mnist".
        n_blocks: L of the QT row.
        **changes: other fields of ``TrainConfig``, the same for all runs.
    """
    own = {"dataset": dataset, "n_blocks": n_blocks, "n_validation": 5000, "seed": 0, **changes}
    found = select(runs, vary=["learning_rate"], recipe="qtlite", **own)
    rates = sorted(found[found.model.isin(["qt", *ALL_CONTROLS])].learning_rate.unique())
    rows = []
    for model in ("qt", *ALL_CONTROLS):
        tried = found[found.model == model]
        chosen = recipe_config("qtlite", dataset, model=model, n_blocks=n_blocks).learning_rate
        cells = {
            rate: f"**{100 * accuracy:.2f}**" if rate == chosen else f"{100 * accuracy:.2f}"
            for rate, accuracy in zip(tried.learning_rate, tried.test_accuracy, strict=True)
        }
        if cells:
            rows.append([f"`{model}`", *(cells.get(rate, "") for rate in rates)])
    return table_text(["model", *(f"{rate:g}" for rate in rates)], rows, n_left=1) + "\n"


def trial_rows(
    runs: pd.DataFrame,
    dataset: str,
    recipe: str,
    trials: Mapping[str, Mapping[str, Any]],
    common: Mapping[str, Any],
    shown: str,
) -> list[list[str]]:
    """Return rows on a recipe with one choice changed at a time; trials without a run are left out.

    Args:
        runs: from ``read_runs``.
        dataset: such as "mnist".
        recipe: that the trials depart from.
        trials: name to changes, such as ``CIFAR_TRIALS``.
        common: changes that all trials have.
        shown: a field of ``TrainConfig`` that holds a number.

    Returns:
        For each trial its name, the field, the steps, and the accuracy in percent.
    """
    rows = []
    for name, changes in trials.items():
        found = with_changes(runs, dataset, recipe, **{**common, **changes})
        if len(found):
            run = found.iloc[0]
            steps = run.epochs * -(-run.n_train // run.batch_size)
            rows.append([name, f"{run[shown]:,g}", f"{steps:,}", format_accuracy(found)])
    return rows


README_TABLES = {
    "results": results_table,
    "long recipe": long_recipe_table,
    "controls": controls_table,
}


def write_readme(runs: pd.DataFrame, path: Path) -> None:
    """Renew the tables of a file between its comments; everything else stays.

    Args:
        runs: from ``read_runs``.
        path: a text file with a start comment and an end comment for each of ``README_TABLES``.

    Raises:
        ValueError: if a comment is missing, or the file is not text in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"path must be a text file, got {path}: {error}") from error
    for name, make in README_TABLES.items():
        before, start, rest = text.partition(START.format(name))
        _, end, after = rest.partition(END)
        if not (start and end):
            comments = START.format(name).strip(), END
            raise ValueError(f"path must hold the comments {comments}, got {path} without")
        text = f"{before}{start}{make(runs)}{end}{after}"
    write_text(path, text)


def row_name(row: PaperRow) -> str:
    """Return a paper row's name in our tables."""
    return "classical CNN" if row.model == "classical" else f"QT-{row.n_blocks}"


def with_footnote(text: str, runs: pd.DataFrame) -> str:
    """Add what the dagger means where a table has one."""
    if OUTDATED not in text:
        return text
    fields = sorted({field for fields in runs.outdated for field in fields})
    return (
        f"{text}\n{OUTDATED} Runs of an earlier recipe, which differed in: {', '.join(fields)}.\n"
    )


def _mean_and_deviation(runs: pd.DataFrame, column: str = "test_accuracy") -> tuple[str, int]:
    mean, deviation, n_seeds = accuracy_percent(runs, column)
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}", n_seeds


def _rows_without_number(
    dataset: str, runs: pd.DataFrame, recipes: Iterable[str]
) -> list[list[str]]:
    """Models for which the paper prints no accuracy; each was run with one recipe."""
    n_classical, n_qcml = TABLES[dataset][0].n_trainable, sum(QCML_PARAMETERS[dataset])
    rows = []
    for recipe in recipes:
        decayed = with_weight_decay(runs, dataset, recipe)
        if len(decayed):
            name = f"classical CNN, weight decay {WEIGHT_DECAY[recipe][dataset]:g}"
            rows.append((name, n_classical, recipe, decayed))
    no_relu = with_changes(runs, dataset, model="classical", relu=False)
    rows.append(("classical CNN, no ReLU", n_classical, "qtlite", no_relu))
    qcml = select(runs, dataset=dataset, model="qcml", recipe="qtlite")
    rows.append(("QCML", n_qcml, "qtlite", qcml))
    return [
        [name, f"{n:,}", "", *(format_accuracy(found) if r == recipe else "" for r in recipes)]
        for name, n, recipe, found in rows
    ]
