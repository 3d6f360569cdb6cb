"""Comparisons of recorded rows: differences, their standard errors, and who is level with whom.

Three seeds hardly tell a row's own deviation, so it is pooled. Two rows that differ by less than
two standard errors are called level, from two to three is a hint, and more is a lead.
"""

import pandas as pd

from qtlite.experiments.controls import CONTROL_ROWS
from qtlite.experiments.recipes import WEIGHT_DECAY
from qtlite.experiments.records.query import mean_difference, pooled_deviation, select, with_changes
from qtlite.experiments.report.pages import MINUS


def format_difference(
    some: pd.DataFrame, others: pd.DataFrame, deviation: float | None = None
) -> str:
    """Return the difference of two mean test accuracies ± its standard error, in points.

    Args:
        some, others: the runs of two rows.
        deviation: of one run, see ``mean_difference``.

    Example:
        >>> runs = pd.DataFrame({"seed": [0, 1, 2], "test_accuracy": [0.96, 0.97, 0.98]})
        >>> format_difference(runs, runs), format_difference(runs, runs[:0])
        ('+0.00 ± 0.82', '–')
    """
    if some.empty or others.empty:
        return "–"
    difference, error = mean_difference(some, others, deviation)
    number = f"{difference:+.2f}".replace("-", MINUS)
    return f"{number} (1 seed)" if error is None else f"{number} ± {error:.2f}"


def with_weight_decay(runs: pd.DataFrame, dataset: str, recipe: str = "qtlite") -> pd.DataFrame:
    """Return the classical baseline's runs with the weight decay in ``WEIGHT_DECAY``."""
    decay = WEIGHT_DECAY.get(recipe, {}).get(dataset)
    found = with_changes(runs, dataset, recipe, model="classical", weight_decay=decay or 0.0)
    return found if decay else found[:0]


def table_deviation(runs: pd.DataFrame, dataset: str) -> float | None:
    """Return the standard deviation of one run, in points, pooled over the rows of a table.

    Our recipes' rows with two seeds or more: circuits, baselines, QCML. A row that deviates by more
    than a point is left out. Without any such row it is None.

    Args:
        runs: from ``read_runs``.
        dataset: with a table in the paper, such as "mnist".
    """
    rows = []
    for recipe in WEIGHT_DECAY:
        found = select(runs, dataset=dataset, recipe=recipe)
        depths = found[found.model == "qt"].groupby("n_blocks")
        rows += [found for _, found in depths]
        rows += [found[found.model == model] for model in ("classical", "qcml")]
        rows.append(with_weight_decay(runs, dataset, recipe))
    rows = [row for row in rows if len(row) > 1 and 100 * row.test_accuracy.std() <= 1]
    return pooled_deviation(rows) if rows else None


def lead(
    runs: pd.DataFrame, dataset: str, n_blocks: int, one: str, other: str
) -> tuple[float, float] | None:
    """Return the points by which one model leads another of its size, and the standard error.

    The deviation of one run is pooled over both models' rows on the dataset, as in CONTROL_ROWS.

    Args:
        runs: from ``read_runs``.
        dataset, n_blocks: of the QT row with as many trained parameters.
        one, other: "qt", or one of ``CONTROLS``.

    Returns:
        None where one of them has no run, or a run that fell to guessing; such rows are not pooled.
    """
    found = select(runs, dataset=dataset, recipe="qtlite")
    rows = {
        (model, size): row
        for (model, size), row in found.groupby(["model", "n_blocks"])
        if model in (one, other) and (dataset, size) in CONTROL_ROWS
        if row.test_accuracy.min() > 0.2
    }
    pair = rows.get((one, n_blocks)), rows.get((other, n_blocks))
    if pair[0] is None or pair[1] is None or all(len(row) < 2 for row in rows.values()):
        return None
    difference, error = mean_difference(*pair, pooled_deviation(rows.values()))
    return difference, error or 0.0
