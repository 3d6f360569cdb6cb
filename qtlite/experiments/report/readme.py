"""The tables in README.md, between comments such as ``<!-- table: controls -->``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from qtlite.experiments.paper import TABLE_NAMES, TABLES
from qtlite.experiments.records.query import select
from qtlite.experiments.records.records import write_text
from qtlite.experiments.report.comparisons import table_deviation
from qtlite.experiments.report.pages import table_text
from qtlite.experiments.report.tables import (
    controls_table,
    format_accuracy,
    long_recipe_table,
    row_name,
    with_footnote,
)

START, END = "<!-- table: {} -->\n", "<!-- end of table -->"


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
