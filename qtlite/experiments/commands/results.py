"""Commands that evaluate: ``tables`` and ``measure``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from qtlite.experiments.commands.options import Run, add


def tables(parser: argparse.ArgumentParser) -> Run:
    """Write Tables I-III from the records.

    The paper's numbers are printed beside ours, which come only from the records.
    """
    from qtlite.experiments.records.query import read_runs
    from qtlite.experiments.report.readme import write_readme
    from qtlite.experiments.report.tables import write_tables

    add(parser, "records")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="renew its results too")
    add(parser, "to", default=Path("book/tables"))

    def run(options: Any) -> None:
        runs = read_runs(options.records)
        if runs.empty:
            raise ValueError(f"records must hold runs' records, got {options.records} without any")
        for path in write_tables(runs, options.to):
            print(path)
            print(path.read_text(encoding="utf-8").partition("\n")[2])
        if options.readme is not None:
            write_readme(runs, options.readme)
            print(options.readme)

    return run


def measure(parser: argparse.ArgumentParser) -> Run:
    """Run a study, such as of shots, noise or gradients, and write its measurement.

    The new measurement replaces the file in book/measurements. shots, gradient and noise need a
    finished run of this dataset and depth.
    """
    from qtlite.experiments.data.catalogue import DATASETS
    from qtlite.experiments.records.measurements import write_measurement
    from qtlite.experiments.studies import run_study, studies

    parser.add_argument("name", choices=tuple(studies()))
    parser.add_argument("--dataset", default="mnist", choices=DATASETS, help="(default: mnist)")
    parser.add_argument("--blocks", type=int, default=16, metavar="L", help="(default: 16)")
    add(parser, "data", "runs")
    add(parser, "to", default=Path("book/measurements"))

    def run(options: Any) -> None:
        found = run_study(
            options.name, options.dataset, options.blocks, runs=options.runs, data=options.data
        )
        print(f"{write_measurement(found, options.to)}: {found['wall_seconds']:.0f} s")

    return run
