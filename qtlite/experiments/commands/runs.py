"""Commands that train: ``train`` and ``sweep``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from qtlite.experiments.commands.options import Run, add, add_choice, check_count


def train(parser: argparse.ArgumentParser) -> Run:
    """Train one model, write its record and its plain classical network.

    Choices that are left out come from the recipe. The same command continues an interrupted run.

    examples:
      qtlite train                              digits, under a minute, no download
      qtlite train --dataset mnist --download   60,000 images, QT-16: 457 parameters
      qtlite train --dataset mnist --blocks 121 --seed 1 --records book/records
      qtlite train --recipe literal             the paper's words (see the book)
      qtlite train --model classical            the baseline: the network trained directly
      qtlite train --images FOLDER              your own: a folder in it for each class
    """
    from qtlite.experiments.config import TrainConfig

    add(parser, "data", "download", "runs", "device")
    add(parser, "records", default=None, help="the record goes here (default: beside the network)")
    own = "your own: a folder with a folder for each class, or an .npz file"
    parser.add_argument("--images", metavar="PATH", help=own)
    parser.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    choices = parser.add_argument_group(
        "choices", "fields of TrainConfig; in brackets, the values of recipe qtlite for digits"
    )
    for option in fields(TrainConfig):
        add_choice(choices, option)

    def run(options: Any) -> None:
        import torch

        from qtlite.experiments.data.images import load_images
        from qtlite.experiments.recipes import recipe_config
        from qtlite.experiments.train.runs import missing_part
        from qtlite.experiments.train.sweep import run_to_files

        check_count("threads", options.threads)
        names = {option.name for option in fields(TrainConfig)}
        given = {name: value for name, value in vars(options).items() if name in names}
        if options.images is not None:
            if "dataset" in given or options.data is not None or options.download:
                raise ValueError(
                    f"images must be given without dataset, data and download, got {options.images}"
                )
            given["dataset"] = load_images(options.images).name
            options.data = options.images
        config = recipe_config(given.pop("recipe", "qtlite"), **given)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        record_path, missing = missing_part(config, options.runs, options.records)
        if missing is None:
            print(f"already done: {record_path}")
            return
        if record_path.exists():
            print(f"qtlite: training again: {missing}", file=sys.stderr)
        record, network_path = run_to_files(
            config,
            options.runs,
            record_path,
            data=options.data,
            download=options.download,
            device=options.device,
            progress=not options.quiet,
        )
        generated = f", which generate {record['n_weights']:,} weights"
        print(
            f"trained parameters  {record['n_trainable']:,}{generated * bool(record['n_blocks'])}\n"
            f"{record['evaluated_on'] + ' accuracy':<19} {100 * record['test_accuracy']:.2f} % of "
            f"{record['n_test']:,} images of {config.dataset}\n"
            f"training time       {record['wall_seconds']:.0f} s\n"
            f"record              {record_path}\n"
            f"classical network   {network_path}"
        )

    return run


def sweep(parser: argparse.ArgumentParser) -> Run:
    """Run everything behind a table or a figure.

    Only runs without a record are made, one process a core. The same command continues interrupted
    runs.

    examples:
      qtlite sweep table1                       MNIST, our recipe, 3 seeds: 27 runs
      qtlite sweep table1 --recipe literal released --seeds 1
      qtlite sweep controls                     other sources of weights, as many parameters
      qtlite sweep mine.json                    [{"dataset": "mnist", "n_blocks": 8}, ...]
      qtlite sweep table1 --scheduler tcp://host:8786    a cluster whose workers see this folder
    """
    from qtlite.experiments.config import RECIPE_NAMES
    from qtlite.experiments.train.sweep import run_sweep
    from qtlite.experiments.train.trials import SWEEPS, read_configs, sweep_configs

    parser.add_argument("name", help=f"{', '.join(SWEEPS)}, or a .json file with a list of runs")
    parser.add_argument("--recipe", nargs="+", choices=RECIPE_NAMES, help="(default: qtlite)")
    parser.add_argument("--seeds", type=int, metavar="N", help="(default: 3)")
    parser.add_argument("--processes", type=int, metavar="N", help="(default: cores; on GPU 1)")
    cluster = "of a Dask cluster, or local (needs qtlite[cluster]; default: processes)"
    parser.add_argument("--scheduler", metavar="ADDRESS", help=cluster)
    add(parser, "data", "download", "runs", "records", "device")

    def run(options: Any) -> None:
        check_count("processes", options.processes)
        check_count("seeds", options.seeds)
        if options.name.endswith(".json"):
            if options.recipe or options.seeds:
                raise ValueError(
                    f"recipe and seeds must be in the file, got {options.name} and them"
                )
            configs = read_configs(Path(options.name))
        else:
            recipes = options.recipe or ["qtlite"]
            configs = sweep_configs(options.name, recipes, options.seeds or 3)
        paths = run_sweep(
            configs,
            options.runs,
            options.records,
            data=options.data,
            download=options.download,
            device=options.device,
            n_processes=options.processes,
            scheduler=options.scheduler,
        )
        print(f"{len(paths)} new records of {len(configs)} in {options.records}")

    return run
