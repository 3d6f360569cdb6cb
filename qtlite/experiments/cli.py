"""The command line: ``qtlite train``, ``sweep``, ``tables``, ``measure``, ``export``, ..."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import DATA_FOLDER, DATA_VARIABLE, DATASETS
from qtlite.experiments.inference.model_files import (
    FORMATS,
    export_book_models,
    export_run,
    find_record,
    read_run,
)
from qtlite.experiments.inference.predict import load_classifier, prediction_table, read_images
from qtlite.experiments.recipes import RECIPES, recipe_config
from qtlite.experiments.records.measurements import write_measurement
from qtlite.experiments.records.query import read_runs
from qtlite.experiments.records.records import record_id, recorded
from qtlite.experiments.report.readme import write_readme
from qtlite.experiments.report.tables import write_tables
from qtlite.experiments.studies.measure import NAMES, measure
from qtlite.experiments.train.sweep import (
    NETWORK,
    SWEEPS,
    read_configs,
    run_sweep,
    run_to_files,
    sweep_configs,
)

TRAIN_EXAMPLES = """\
examples:
  qtlite train                              digits, well under a minute, no download
  qtlite train --dataset mnist --download   60,000 images, QT-16: 457 parameters
  qtlite train --dataset mnist --blocks 121 --seed 1 --records book/records
  qtlite train --recipe literal             the paper's words (see the book)
  qtlite train --model classical            the same network, trained as usual

A run that was interrupted goes on where it stopped: give the same command again.
"""

EXPORT_EXAMPLES = """\
examples:
  qtlite export mnist-qt-qtlite-L16-s0-1a2b3c4d                 an .onnx file
  qtlite export runs/RUN/record.json --to safetensors onnx pt2 json compressed
  qtlite export --book                      renew book/models from runs and book/records
"""

PREDICT_EXAMPLES = """\
examples:
  qtlite predict book/models/mnist-qt-16.onnx seven.png
  qtlite predict model.json images.npy --invert
"""

SWEEP_EXAMPLES = """\
examples:
  qtlite sweep table1                       MNIST, our recipe, 3 seeds: 27 runs
  qtlite sweep table1 --recipe literal released --seeds 1
  qtlite sweep controls                     other sources of weights, as many parameters
  qtlite sweep mine.json                    [{"dataset": "mnist", "n_blocks": 8}, ...]
  qtlite sweep table1 --scheduler tcp://host:8786
                                            on a Dask cluster whose workers see this folder
"""


DATA_HELP = f"where the images are; ${DATA_VARIABLE} if left out, else {DATA_FOLDER}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"qtlite: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and "pip install" not in str(error)
        fix = ": pip install 'qtlite[experiments]'" if missing else ""
        print(f"qtlite: {error}{fix}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        resumes = options.command in (_train, _sweep)
        what_next = "; the same command goes on from here" if resumes else ""
        print(f"qtlite: interrupted{what_next}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qtlite",
        description="Quantum-Train: a quantum circuit with a few hundred angles writes the weights "
        "of an ordinary network (Liu et al. 2024, arXiv 2405.11304).",
    )
    parser.add_argument("--version", action="version", version=f"qtlite {version('qtlite')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train one model, write its record and its plain classical network",
        description="Train one model. What is left out comes from the recipe.",
        epilog=TRAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.set_defaults(command=_train)
    train.add_argument("--data", metavar="FOLDER", help=DATA_HELP)
    train.add_argument("--download", action="store_true", help="fetch the images if missing")
    train.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="FOLDER",
        help="checkpoints and trained networks go here (default: runs)",
    )
    train.add_argument(
        "--records",
        type=Path,
        metavar="FOLDER",
        help="the record goes here (default: beside the network)",
    )
    train.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    train.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    choices = train.add_argument_group("choices (fields of TrainConfig)")
    for option in fields(TrainConfig):
        _add_choice(choices, option)

    sweep = commands.add_parser(
        "sweep",
        help="run everything behind a table or a figure",
        description="Run what has no record yet, one process a core; interrupted runs go on.",
        epilog=SWEEP_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sweep.set_defaults(command=_sweep)
    sweep.add_argument("name", help=f"{', '.join(SWEEPS)}, or a .json file with a list of runs")
    sweep.add_argument("--recipe", nargs="+", choices=tuple(RECIPES), help="(default: qtlite)")
    sweep.add_argument("--seeds", type=int, metavar="N", help="(default: 3)")
    sweep.add_argument("--device", default="cpu", help="as for train; processes share a GPU")
    sweep.add_argument(
        "--processes", type=int, metavar="N", help="(default: all cores; on a GPU one)"
    )
    sweep.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster, or local for one of this machine's processes, whose runs survive "
        "the death of a worker; needs qtlite[cluster] (default: plain processes)",
    )
    sweep.add_argument("--data", metavar="FOLDER", help="as for train")
    sweep.add_argument("--download", action="store_true", help="fetch the images if missing")
    sweep.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER")
    sweep.add_argument("--records", type=Path, default=Path("book/records"), metavar="FOLDER")

    tables = commands.add_parser(
        "tables",
        help="write Tables I-III from the records",
        description="Write the paper's tables with our numbers beside, from the records alone.",
    )
    tables.set_defaults(command=_tables)
    tables.add_argument("--records", type=Path, default=Path("book/records"), metavar="FOLDER")
    tables.add_argument(
        "--readme", type=Path, metavar="FILE", help="renew the results between its comments too"
    )
    tables.add_argument("--to", type=Path, default=Path("book/tables"), metavar="FOLDER")

    measurement = commands.add_parser(
        "measure",
        help="measure what the book says of shots, noise and gradients",
        description="Measure anew and replace the file in book/measurements. shots, gradient and "
        "noise need a finished run of this dataset and depth.",
    )
    measurement.set_defaults(command=_measure)
    measurement.add_argument("name", choices=NAMES)
    measurement.add_argument(
        "--dataset", default="mnist", choices=DATASETS, help="(default: mnist)"
    )
    measurement.add_argument("--blocks", type=int, default=16, metavar="L", help="(default: 16)")
    measurement.add_argument("--data", metavar="FOLDER", help="as for train")
    measurement.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER")
    measurement.add_argument("--to", type=Path, default=Path("book/measurements"), metavar="FOLDER")
    _add_export(commands)
    _add_predict(commands)
    return parser


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="write a run's trained network for other programs",
        description="Write a finished run's plain network as files that run without qtlite, with "
        "its preprocessing and where it comes from. Each file is read again and compared.",
        epilog=EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.set_defaults(command=_export)
    export.add_argument("record", nargs="?", help="the run's id, or the path of its record")
    export.add_argument(
        "--to", nargs="+", choices=tuple(FORMATS), default=["onnx"], help="(default: onnx)"
    )
    export.add_argument("--folder", type=Path, default=Path("."), help="the files go here")
    export.add_argument("--name", help="of the files, without its end (default: the run's id)")
    export.add_argument("--overwrite", action="store_true", help="replace existing files")
    export.add_argument("--book", action="store_true", help="renew the models of the book's pages")
    export.add_argument("--data", metavar="FOLDER", help="as for train; needed for int8 alone")
    export.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER")
    export.add_argument("--records", type=Path, default=Path("book/records"), metavar="FOLDER")


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="classify images with an exported model",
        description="Classify images with a file that `qtlite export` wrote.",
        epilog=PREDICT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.set_defaults(command=_predict)
    predict.add_argument("model", type=Path, help="an exported file, of any format")
    predict.add_argument("images", nargs="+", type=Path, help=".png, .jpg or .npy files")
    predict.add_argument(
        "--invert", action="store_true", help="images are dark on light, as on paper"
    )


def _add_choice(group: Any, option: Any) -> None:
    names = [f"--{option.name.replace('_', '-')}"]
    if option.name == "n_blocks":
        names.insert(0, "--blocks")
    default = option.default
    keywords: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS}
    if option.name == "recipe":
        keywords["choices"] = tuple(RECIPES)
    elif option.metadata["choices"]:
        keywords["choices"] = option.metadata["choices"]
    elif isinstance(default, bool):
        keywords["action"] = argparse.BooleanOptionalAction
    elif isinstance(default, tuple):
        keywords.update(type=int, nargs="+", metavar="WIDTH")
    else:
        keywords.update(type=int if default is None else type(default), metavar="X")
    text = option.metadata["help"]
    group.add_argument(*names, help=f"{text} ({option.name} {default})", **keywords)


def _train(options: argparse.Namespace) -> int:
    given = {
        option.name: getattr(options, option.name)
        for option in fields(TrainConfig)
        if hasattr(options, option.name)
    }
    if "hidden" in given:
        given["hidden"] = tuple(given["hidden"])
    config = recipe_config(given.pop("recipe", "qtlite"), given.pop("dataset", "digits"), **given)
    if options.threads is not None:
        if options.threads < 1:
            raise ValueError(f"threads must be at least 1, got {options.threads}")
        torch.set_num_threads(options.threads)

    name = record_id(config)
    folder = options.runs / name
    record_path = (options.records or folder) / (
        f"{name}.json" if options.records else "record.json"
    )
    if options.records and (done := recorded(options.records).get(config)):
        record_path = options.records / f"{done}.json"  # a checked id: it names a file in here
    if record_path.exists() and (options.records or _is_whole(folder, config)):
        print(f"already done: {record_path}")
        return 0
    record, network_path = run_to_files(
        config,
        options.runs,
        record_path,
        data=options.data,
        download=options.download,
        device=options.device,
        progress=not options.quiet,
    )
    generated = f", which generate {record['n_weights']:,} weights" if record["n_blocks"] else ""
    print(
        f"trained parameters  {record['n_trainable']:,}{generated}\n"
        f"{record['evaluated_on'] + ' accuracy':<19} {100 * record['test_accuracy']:.2f} % of "
        f"{record['n_test']:,} images of {config.dataset}\n"
        f"training time       {record['wall_seconds']:.0f} s\n"
        f"record              {record_path}\n"
        f"classical network   {network_path}"
    )
    return 0


def _is_whole(folder: Path, config: TrainConfig) -> bool:
    """Whether a run's folder holds its record, undamaged, and its network."""
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        found = TrainConfig.from_dict(record["config"])
    except (ValueError, LookupError, TypeError):
        return False
    return found == config and (folder / NETWORK).exists()


def _sweep(options: argparse.Namespace) -> int:
    if options.processes is not None and options.processes < 1:
        raise ValueError(f"processes must be at least 1, got {options.processes}")
    if options.name.endswith(".json"):
        if options.recipe is not None or options.seeds is not None:
            raise ValueError(
                f"recipe and seeds must stand in the file, got {options.name} and them"
            )
        configs = read_configs(Path(options.name))
    else:
        seeds = 3 if options.seeds is None else options.seeds
        configs = sweep_configs(options.name, options.recipe or ["qtlite"], seeds)
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
    return 0


def _tables(options: argparse.Namespace) -> int:
    runs = read_runs(options.records)
    if runs.empty:
        raise ValueError(f"records must hold records of runs, got {options.records} without any")
    for path in write_tables(runs, options.to):
        print(path)
        print(path.read_text(encoding="utf-8").partition("\n")[2])
    if options.readme is not None:
        write_readme(runs, options.readme)
        print(options.readme)
    return 0


def _measure(options: argparse.Namespace) -> int:
    found = measure(
        options.name, options.dataset, options.blocks, runs=options.runs, data=options.data
    )
    print(f"{write_measurement(found, options.to)}: {found['wall_seconds']:.0f} s")
    return 0


def _export(options: argparse.Namespace) -> int:
    if options.book == (options.record is not None):
        raise ValueError("record must be given, or --book alone")
    if options.book:
        paths = export_book_models(options.records, options.runs)
    else:
        run = read_run(find_record(options.record, options.records, options.runs), options.runs)
        paths = export_run(
            run,
            options.folder,
            options.to,
            name=options.name,
            data=options.data,
            overwrite=options.overwrite,
        )
    for path in paths:
        print(f"{path}  {path.stat().st_size:,} bytes, checked: read again, it gives the same")
    return 0


def _predict(options: argparse.Namespace) -> int:
    model = load_classifier(options.model)
    names, images = [], []
    for path in options.images:
        found = read_images(path, model.image_shape, invert=options.invert)
        names += (
            [path.name] if len(found) == 1 else [f"{path.name}[{i}]" for i in range(len(found))]
        )
        images.append(found)
    print(prediction_table(names, model.logits(np.concatenate(images)), model.classes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
