"""The commands of ``qtlite``.

A command is a function: its docstring is the help text, it declares the options, and it returns
what runs. Each imports what it needs when it is chosen, so that help needs none of it.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

Run = Callable[[Any], None]

MAX_COUNT = 1024  # of threads, processes and seeds


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

    add(parser, "data", "download", "device", "runs")
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
        where, progress = images_and_device(options), not options.quiet
        record, path = run_to_files(config, options.runs, record_path, progress=progress, **where)
        generated = f", which generate {record['n_weights']:,} weights"
        print(
            f"trained parameters  {record['n_trainable']:,}{generated * bool(record['n_blocks'])}\n"
            f"{record['evaluated_on'] + ' accuracy':<19} {100 * record['test_accuracy']:.2f} % of "
            f"{record['n_test']:,} images of {config.dataset}\n"
            f"training time       {record['wall_seconds']:.0f} s\n"
            f"record              {record_path}\n"
            f"classical network   {path}"
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
    add(parser, "data", "download", "device", "runs", "records")

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
        workers = {"n_processes": options.processes, "scheduler": options.scheduler}
        where = images_and_device(options)
        paths = run_sweep(configs, options.runs, options.records, **workers, **where)
        print(f"{len(paths)} new records of {len(configs)} in {options.records}")

    return run


def tables(parser: argparse.ArgumentParser) -> Run:
    """Write Tables I-III from the records.

    The paper's numbers are printed beside ours, which come only from the records.
    """
    from qtlite.experiments.records.query import read_runs
    from qtlite.experiments.report.tables import write_readme, write_tables

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


def export(parser: argparse.ArgumentParser) -> Run:
    """Write a run's trained network for other programs.

    The files run without qtlite. They hold the preprocessing and say which run they come from. Each
    is read again and compared.

    examples:
      qtlite export mnist-qt-qtlite-L16-s0-1a2b3c4d                 an .onnx file
      qtlite export runs/RUN/record.json --to safetensors onnx pt2 json compressed
      qtlite export --book                      renew book/models from runs and book/records
    """
    from qtlite.experiments.inference import model_files
    from qtlite.experiments.inference.tiny import ALL_FORMATS
    from qtlite.experiments.train.runs import find_record, read_run

    parser.add_argument("record", nargs="?", help="the run's id, or the path of its record")
    parser.add_argument(
        "--to", nargs="+", choices=tuple(ALL_FORMATS), default=["onnx"], help="(default: onnx)"
    )
    parser.add_argument("--folder", type=Path, default=Path("."), help="the files go here")
    parser.add_argument("--name", help="of the files, without the ending (default: the run's id)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument("--circuit", action="store_true", help="the circuit too, as OpenQASM 3")
    parser.add_argument("--book", action="store_true", help="renew the models of the book's pages")
    add(parser, "data", "runs", "records")

    def run(options: Any) -> None:
        if options.book == (options.record is not None) or (options.book and options.circuit):
            raise ValueError("record must be given, or --book without it")
        if options.book:
            written = model_files.export_book_models(options.records, options.runs)
        else:
            record = find_record(options.record, options.records, options.runs)
            found = read_run(record, options.runs)
            if options.circuit:
                name = options.name or found.record["id"]
                path = options.folder / f"{name}.qasm"
                words = model_files.export_circuit(found, path, overwrite=options.overwrite)
                print(f"{words}\n{path}")
            choices = {name: getattr(options, name) for name in ("name", "data", "overwrite")}
            written = model_files.export_run(found, options.folder, options.to, **choices)
        for path, checked in written.items():
            print(f"{path}  {path.stat().st_size:,} bytes, {checked}")

    return run


def predict(parser: argparse.ArgumentParser) -> Run:
    """Classify images with an exported model.

    examples:
      qtlite predict book/models/mnist-qt-16.onnx seven.png
      qtlite predict model.json images.npy --invert
    """
    import numpy as np

    from qtlite.experiments.inference.predict import load_classifier, prediction_table, read_images

    parser.add_argument("model", type=Path, help="a file that `qtlite export` wrote")
    parser.add_argument("images", nargs="+", type=Path, help=".png, .jpg or .npy files")
    parser.add_argument("--invert", action="store_true", help="images are dark on light")

    def run(options: Any) -> None:
        model = load_classifier(options.model)
        names, images = [], []
        for path in options.images:
            found = read_images(path, model.image_shape, invert=options.invert)
            many = [f"{path.name}[{i}]" for i in range(len(found))]
            names += [path.name] if len(found) == 1 else many
            images.append(found)
        print(prediction_table(names, model.logits(np.concatenate(images)), model.classes))

    return run


def add(parser: argparse.ArgumentParser, *names: str, **changes: Any) -> None:
    """Add options that several commands share."""
    folder, shown = {"type": Path, "metavar": "FOLDER"}, " (default: %(default)s)"
    shared: dict[str, dict[str, Any]] = {
        "data": {"metavar": "FOLDER", "help": "of the images (default: $QTLITE_DATA, else data)"},
        "download": {"action": "store_true", "help": "fetch the images if they are missing"},
        "runs": folder | {"default": Path("runs"), "help": "of checkpoints and networks" + shown},
        "records": folder | {"default": Path("book/records"), "help": "of records" + shown},
        "to": folder | {"help": "of the files to write" + shown},
        "device": {"default": "cpu", "help": "cpu or cuda" + shown},
    }
    for name in names:
        parser.add_argument(f"--{name}", **{**shared[name], **changes})


def images_and_device(options: Any) -> dict[str, Any]:
    """The options "data", "download" and "device", for functions with arguments of these names."""
    return {name: getattr(options, name) for name in ("data", "download", "device")}


def add_choice(group: Any, option: Any) -> None:
    """Add a field of ``TrainConfig``; one that is not given stays out of the options."""
    names = [f"--{option.name.replace('_', '-')}"]
    if option.name == "n_blocks":
        names.insert(0, "--blocks")
    default, choices = option.default, option.metadata["choices"]
    keywords: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS}
    if choices:
        keywords["choices"] = choices
    elif isinstance(default, bool):
        keywords["action"] = argparse.BooleanOptionalAction
    elif isinstance(default, tuple):
        keywords.update(type=int, nargs="+", metavar="WIDTH")
    else:
        keywords.update(type=int if default is None else type(default), metavar="X")
    group.add_argument(*names, help=f"{option.metadata['help']} [{default}]", **keywords)


def check_count(name: str, value: int | None) -> None:
    if value is not None and not 1 <= value <= MAX_COUNT:
        raise ValueError(f"{name} must be between 1 and {MAX_COUNT}, got {value}")
