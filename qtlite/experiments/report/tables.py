"""Tables I-III from the records: the paper's number beside ours, row by row."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.controls import CONTROL_ROWS, CONTROLS
from qtlite.experiments.paper import N_TRAIN, QCML_PARAMETERS, TABLE_NAMES, TABLES, PaperRow
from qtlite.experiments.recipes import RECIPES, WEIGHT_DECAY, recipe_config
from qtlite.experiments.records.records import write_text

Record = Mapping[str, Any]
MORE_TIME_HEAD = """\
The recipe `thorough` has 100 epochs in place of 20 and gives the mapping net the root of each
probability; on MNIST and FashionMNIST also 256 images a step, and at every depth the optimiser that
`qtlite` keeps for few parameters (full-matrix Adam). It was chosen on held-out images of
FashionMNIST; on CIFAR-10 most of its runs took a GPU.
"""
CONTROLS_HEAD = """\
Is it the *quantum* circuit's doing? Nine controls with exactly as many trained parameters as QT-16,
QT-61 and QT-121, the same recipe, and a learning rate chosen for each, as for QT, on held-out
images of MNIST (at 1,042 parameters that of 1,822); test accuracy in %:
"""
DATASET_NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion", "cifar10": "CIFAR-10"}
MARKS = ("<!-- results, written by `qtlite tables` -->", "<!-- end of results -->")


def select(records: Iterable[Record], **values: object) -> list[Record]:
    """Records that follow their recipe to the letter and whose fields have these values.

    A run that departs from its recipe (an ablation, part of the images, a validation run) carries
    the recipe's name but is not the recipe: it never enters a table.
    """
    return [
        record
        for record in records
        if follows_recipe(record) and all(record[name] == value for name, value in values.items())
    ]


def follows_recipe(record: Record) -> bool:
    """Whether a record's config is its recipe's own, for its dataset, model, blocks and seed.

    Example:
        >>> config = recipe_config("literal", "mnist", epochs=1)
        >>> follows_recipe({"config": config.to_dict()})
        False
    """
    config = TrainConfig.from_dict(record["config"])
    own = recipe_config(
        config.recipe,
        config.dataset,
        model=config.model,
        n_blocks=config.n_blocks,
        seed=config.seed,
    )
    return config == own


def with_changes(
    records: Iterable[Record], dataset: str, recipe: str = "qtlite", **changes: object
) -> list[Record]:
    """Records of a recipe with these changes and no others, in the order of seeds.

    Args:
        records: any.
        dataset: such as "mnist".
        recipe: that the changes depart from.
        **changes: fields of ``TrainConfig``.

    Example:
        >>> config = recipe_config("literal", "mnist", epochs=1, seed=3)
        >>> record = {"seed": 3, "config": config.to_dict()}
        >>> len(with_changes([record], "mnist", "literal", epochs=1))
        1
        >>> with_changes([record], "mnist", "literal")
        []
    """
    found = [
        record
        for record in records
        if TrainConfig.from_dict(record["config"])
        == recipe_config(recipe, dataset, **{"seed": record["seed"], **changes})
    ]
    return sorted(found, key=lambda record: record["seed"])


def with_weight_decay(
    records: Iterable[Record], dataset: str, recipe: str = "qtlite"
) -> list[Record]:
    """Records of the usual network with weight decay, as much as ``WEIGHT_DECAY`` says.

    Args:
        records: any.
        dataset: "mnist", "fashion_mnist" or "cifar10".
        recipe: otherwise followed.

    Example:
        >>> with_weight_decay([], "mnist")
        []
    """
    decay = WEIGHT_DECAY.get(recipe, {}).get(dataset)
    if decay is None:
        return []
    return with_changes(records, dataset, recipe, model="classical", weight_decay=decay)


def accuracy_percent(records: Iterable[Record]) -> tuple[float, float | None, int]:
    """Mean and sample standard deviation of the test accuracy in percent, and the number of seeds.

    Raises:
        ValueError: if there is no record, or two of one seed (they would count twice).

    Example:
        >>> accuracy_percent([{"seed": 0, "test_accuracy": 0.96}])
        (96.0, None, 1)
    """
    by_seed: dict[int, Record] = {}
    for record in records:
        seed, found = record["seed"], record.get("id")
        if seed in by_seed:
            raise ValueError(
                f"records must be of different seeds, got seed {seed} twice, "
                f"{by_seed[seed].get('id')} and {found}"
            )
        by_seed[seed] = record
    if not by_seed:
        raise ValueError("records must not be empty, got none")
    values = [100 * record["test_accuracy"] for record in by_seed.values()]
    return (
        statistics.fmean(values),
        statistics.stdev(values) if len(values) > 1 else None,
        len(values),
    )


def format_accuracy(records: list[Record]) -> str:
    """Mean ± sd (seeds) in percent for a table's cell, or a dash where nothing is recorded yet.

    Example:
        >>> format_accuracy([{"seed": s, "test_accuracy": 0.96 + 0.01 * s} for s in (0, 1)])
        '96.50 ± 0.71 (2)'
        >>> format_accuracy([])
        '–'
    """
    if not records:
        return "–"
    number, n_seeds = _mean_and_deviation(records)
    return f"{number} ({n_seeds})"


def accuracy_in_words(records: list[Record]) -> str:
    """``format_accuracy`` for a sentence.

    Example:
        >>> accuracy_in_words([{"seed": 0, "test_accuracy": 0.96}])
        '96.00 % (1 seed)'
    """
    number, n_seeds = _mean_and_deviation(records)
    return f"{number} % ({n_seeds} seed{'s' if n_seeds > 1 else ''})"


def _mean_and_deviation(records: list[Record]) -> tuple[str, int]:
    mean, deviation, n_seeds = accuracy_percent(records)
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}", n_seeds


def mean_difference(some: list[Record], others: list[Record]) -> tuple[float, float | None]:
    """Difference of two mean test accuracies and its standard error, in percentage points.

    The error is None where one of them has a single seed.

    Raises:
        ValueError: if one of them has no records.
    """
    mean, deviation, n_seeds = accuracy_percent(some)
    other_mean, other_deviation, n_others = accuracy_percent(others)
    if deviation is None or other_deviation is None:
        return mean - other_mean, None
    return mean - other_mean, (deviation**2 / n_seeds + other_deviation**2 / n_others) ** 0.5


def format_difference(some: list[Record], others: list[Record]) -> str:
    """Difference of two mean test accuracies ± its standard error, in percentage points.

    Example:
        >>> records = [{"seed": seed, "test_accuracy": 0.96 + 0.01 * seed} for seed in range(3)]
        >>> format_difference(records, records)
        '+0.00 ± 0.82'
        >>> format_difference(records, [])
        '–'
    """
    if not (some and others):
        return "–"
    difference, error = mean_difference(some, others)
    return f"{difference:+.2f} (1 seed)" if error is None else f"{difference:+.2f} ± {error:.2f}"


def against_controls(
    records: Iterable[Record], dataset: str, n_blocks: int
) -> tuple[list[str], list[str], list[str]]:
    """Controls above QT-L, level with it, and below it, each the best first.

    Level means within two standard errors of the difference. In no list: controls with fewer than
    two seeds, or with seeds so different that this error exceeds a percentage point.

    Args:
        records: any.
        dataset: such as "mnist".
        n_blocks: L of the QT row.
    """
    own = {"dataset": dataset, "n_blocks": n_blocks, "recipe": "qtlite"}
    records = select(records, **own)
    qt = [record for record in records if record["model"] == "qt"]
    differences = {}
    for name in CONTROLS:
        found = [record for record in records if record["model"] == name]
        if qt and found:
            difference, error = mean_difference(found, qt)
            if error is not None and error <= 1:
                differences[name] = difference, error
    ranked = sorted(differences, key=lambda name: -differences[name][0])
    two_errors = {name: 2 * error for name, (_, error) in differences.items()}
    above = [name for name in ranked if differences[name][0] > two_errors[name]]
    below = [name for name in ranked if differences[name][0] < -two_errors[name]]
    level = [name for name in ranked if name not in above + below]
    return above, level, below


def table(dataset: str, records: Iterable[Record]) -> str:
    """One of the paper's tables with our columns beside its own, as Markdown.

    The head of a column says how many steps of the optimiser its runs take; a recipe without any
    run has no column.

    Args:
        dataset: "mnist", "fashion_mnist" or "cifar10".
        records: any; those of other datasets are left out.

    Raises:
        ValueError: if the dataset has no table.
    """
    if dataset not in TABLES:
        raise ValueError(f"dataset must be one of {tuple(TABLES)}, got {dataset!r}")
    records = list(records)
    found = select(records, dataset=dataset)
    first = next(iter(RECIPES))
    recipes = [recipe for recipe in RECIPES if recipe == first or select(found, recipe=recipe)]
    head = ["model", "trainable parameters", "paper"]
    head += [f"{recipe}, {n_steps(dataset, recipe):,} steps" for recipe in recipes]
    lines = [_line(head), _line(["---", "--:", "--:", *("--:" for _ in recipes)])]
    lines += [_line(_row(row, found, recipes)) for row in TABLES[dataset]]
    lines += [_line(row) for row in _rows_without_number(dataset, records, recipes)]
    return "\n".join(lines) + "\n"


def with_more_time(records: Iterable[Record], dataset: str) -> str:
    """Sentences on what the recipe ``thorough`` reaches at the table's greatest depth.

    Empty while it is not recorded.

    Args:
        records: any.
        dataset: "mnist", "fashion_mnist" or "cifar10".
    """
    records = list(records)
    n_blocks = TABLES[dataset][-1].n_blocks
    found = select(records, dataset=dataset, recipe="thorough")
    qt, usual = select(found, model="qt", n_blocks=n_blocks), select(found, model="classical")
    sooner = select(records, dataset=dataset, recipe="qtlite", model="classical")
    if not (qt and usual and sooner):
        return ""
    controls = [
        f"`{model}` {accuracy_in_words(beside)}"
        for model in CONTROLS
        if (beside := select(found, model=model, n_blocks=n_blocks))
    ]
    rest = (
        f"Controls with that recipe and as many trained parameters: {', '.join(controls)}."
        if controls
        else "No control has been given that recipe yet."
    )
    decayed = [
        f"{accuracy_in_words(kept)} with `{recipe}`"
        for recipe in WEIGHT_DECAY
        if (kept := with_weight_decay(records, dataset, recipe))
    ]
    to_beat = (
        f"with weight decay {' and '.join(decayed)}. That is what to compare with"
        if decayed
        else "and the better of these two is the one to compare with; weight decay has not been "
        "tried for it here"
    )
    return (
        f"With `thorough` QT-{n_blocks} has {accuracy_in_words(qt)}, and the network trained as "
        f"usual {accuracy_in_words(usual)}; with `qtlite` the latter has "
        f"{accuracy_in_words(sooner)}, {to_beat}. {rest}"
    )


def n_steps(dataset: str, recipe: str) -> int:
    """Steps of the optimiser in a recipe's run on all training images.

    Args:
        dataset: "mnist", "fashion_mnist" or "cifar10".
        recipe: one of ``RECIPES``.

    Example:
        >>> n_steps("cifar10", "literal")
        50000
    """
    config = recipe_config(recipe, dataset)
    return config.epochs * -(-N_TRAIN[dataset] // config.batch_size)


def write_tables(records: Iterable[Record], folder: Path) -> list[Path]:
    """Write every table to ``<folder>/<dataset>.md``; the same records give the same bytes."""
    records = list(records)
    paths = []
    for dataset, name in TABLE_NAMES.items():
        path = folder / f"{dataset}.md"
        note = f"<!-- {name}, written by `qtlite tables` from the records: do not edit -->\n"
        write_text(path, note + table(dataset, records))
        paths.append(path)
    return paths


def results(records: Iterable[Record]) -> str:
    """The README's tables: each dataset's recorded rows beside the paper's; the controls."""
    records = list(records)
    head = ["", "trainable parameters", "paper, test %", "qtlite, test %", "minutes a run"]
    lines = [_line(head), _line(["---", *["--:"] * 4])]
    for dataset, name in TABLE_NAMES.items():
        for row in TABLES[dataset]:
            found = select(
                records,
                dataset=dataset,
                model=row.model,
                n_blocks=row.n_blocks,
                recipe="qtlite",
            )
            if found:
                ours = format_accuracy(found)
                minutes = statistics.fmean(record["wall_seconds"] for record in found) / 60
                cells = [f"{name}, {_name(row)}", f"{row.n_trainable:,}"]
                cells += [f"{row.test_accuracy:.2f}", ours, f"{minutes:.1f}"]
                lines.append(_line(cells))
    more = [
        f"- {DATASET_NAMES[dataset]}: {sentences}\n"
        for dataset in TABLE_NAMES
        if (sentences := with_more_time(records, dataset))
    ]
    text = "\n".join(lines) + "\n"
    if more:
        text += f"\n{MORE_TIME_HEAD}\n{''.join(more)}"
    return f"{text}\n{CONTROLS_HEAD}\n{controls_table(records)}"


def controls_table(records: Iterable[Record]) -> str:
    """QT and what else can generate weights with as many trained parameters, as Markdown."""
    records = list(records)
    sizes = {
        (dataset, row.n_blocks): row.n_trainable for dataset in TABLES for row in TABLES[dataset]
    }
    heads = [f"{DATASET_NAMES[row[0]]}, {sizes[row]:,}" for row in CONTROL_ROWS]
    lines = [_line(["model", *heads]), _line(["---", *["--:"] * len(heads)])]
    for model in ("qt", *CONTROLS):
        accuracies = [
            format_accuracy(
                select(records, dataset=dataset, model=model, n_blocks=n_blocks, recipe="qtlite")
            )
            for dataset, n_blocks in CONTROL_ROWS
        ]
        lines.append(_line([f"`{model}`", *accuracies]))
    return "\n".join(lines) + "\n"


def choices_table(records: Iterable[Record], dataset: str, n_blocks: int, **changes: object) -> str:
    """Accuracy on held-out images by learning rate, for QT and its controls, as Markdown.

    Runs of seed 0 that depart from the recipe in their learning rate, and in what is said here,
    alone; the recipe's rate is in bold.

    Args:
        records: any.
        dataset: such as "mnist".
        n_blocks: L of the QT row.
        **changes: other fields of ``TrainConfig``, the same for all runs.
    """
    found: dict[str, dict[float, str]] = {}
    for record in records:
        config = TrainConfig.from_dict(record["config"])
        options = {"model": config.model, "n_blocks": n_blocks, "n_validation": 5000, **changes}
        own = recipe_config("qtlite", dataset, **options)
        if config == replace(own, learning_rate=config.learning_rate):
            accuracy = f"{100 * record['test_accuracy']:.2f}"
            chosen = config.learning_rate == own.learning_rate
            row = found.setdefault(config.model, {})
            row[config.learning_rate] = f"**{accuracy}**" if chosen else accuracy
    rates = sorted({rate for row in found.values() for rate in row})
    lines = [_line(["model", *(f"{rate:g}" for rate in rates)])]
    lines.append(_line(["---", *["--:"] * len(rates)]))
    for model in ("qt", *CONTROLS):
        if model in found:
            lines.append(_line([f"`{model}`", *(found[model].get(rate, "") for rate in rates)]))
    return "\n".join(lines) + "\n"


def trial_rows(
    records: Iterable[Record],
    dataset: str,
    recipe: str,
    trials: Mapping[str, Mapping[str, Any]],
    common: Mapping[str, Any],
    shown: str,
) -> list[list[str]]:
    """Rows on a recipe with one choice changed at a time; without those that are not recorded.

    Args:
        records: any.
        dataset: such as "mnist".
        recipe: that the trials depart from.
        trials: name to changes, such as ``CIFAR_TRIALS``.
        common: changes that all trials have.
        shown: a field of ``TrainConfig`` that holds a number.

    Returns:
        For each trial its name, the field, steps, and accuracy in percent.
    """
    records, rows = list(records), []
    for name, changes in trials.items():
        if found := with_changes(records, dataset, recipe, **{**common, **changes}):
            config = found[0]["config"]
            steps = config["epochs"] * -(-found[0]["n_train"] // config["batch_size"])
            rows.append([name, f"{config[shown]:,g}", f"{steps:,}", format_accuracy(found)])
    return rows


def write_between_marks(text: str, path: Path) -> None:
    """Replace what stands between a file's two ``results`` comments.

    Raises:
        ValueError: if the file lacks a comment.
    """
    old = path.read_text(encoding="utf-8")
    if MARKS[0] not in old or MARKS[1] not in old:
        raise ValueError(f"path must hold the comments {MARKS}, got {path} without")
    before, rest = old.split(MARKS[0], 1)
    after = rest.split(MARKS[1], 1)[1]
    write_text(path, f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}")


def _name(row: PaperRow) -> str:
    return "classical CNN" if row.model == "classical" else f"QT-{row.n_blocks}"


def _row(row: PaperRow, records: list[Record], recipes: Iterable[str]) -> list[str]:
    ours = [
        format_accuracy(select(records, model=row.model, n_blocks=row.n_blocks, recipe=recipe))
        for recipe in recipes
    ]
    return [_name(row), f"{row.n_trainable:,}", f"{row.test_accuracy:.2f}", *ours]


def _rows_without_number(
    dataset: str, records: list[Record], recipes: list[str]
) -> list[list[str]]:
    """Models for which the paper prints no accuracy: QCML is in its figures, ReLU in none.

    They have been run with one recipe each.
    """
    no_relu = with_changes(records, dataset, model="classical", relu=False)
    qcml = select(records, dataset=dataset, model="qcml", recipe="qtlite")
    n_classical, n_qcml = TABLES[dataset][0].n_trainable, sum(QCML_PARAMETERS[dataset])
    rows = []
    for recipe in recipes:
        if decayed := with_weight_decay(records, dataset, recipe):
            name = f"classical CNN, weight decay {WEIGHT_DECAY[recipe][dataset]:g}"
            rows.append((name, n_classical, recipe, decayed))
    rows.append(("classical CNN, no ReLU", n_classical, "qtlite", no_relu))
    rows.append(("QCML", n_qcml, "qtlite", qcml))
    return [
        [name, f"{n:,}", "", *(format_accuracy(found) if r == recipe else "" for r in recipes)]
        for name, n, recipe, found in rows
    ]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
