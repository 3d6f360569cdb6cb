"""Commands for trained networks: ``export`` and ``predict``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from qtlite.experiments.commands.options import Run, add


def export(parser: argparse.ArgumentParser) -> Run:
    """Write a run's trained network for other programs.

    The files run without qtlite. They hold the preprocessing and say which run they come from. Each
    is read again and compared.

    examples:
      qtlite export mnist-qt-qtlite-L16-s0-1a2b3c4d                 an .onnx file
      qtlite export runs/RUN/record.json --to safetensors onnx pt2 json compressed
      qtlite export --book                      renew book/models from runs and book/records
    """
    from qtlite.experiments.inference.model_files import (
        export_book_models,
        export_circuit,
        export_run,
    )
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
            written = export_book_models(options.records, options.runs)
        else:
            record = find_record(options.record, options.records, options.runs)
            found = read_run(record, options.runs)
            if options.circuit:
                name = options.name or found.record["id"]
                path = options.folder / f"{name}.qasm"
                print(f"{export_circuit(found, path, overwrite=options.overwrite)}\n{path}")
            written = export_run(
                found,
                options.folder,
                options.to,
                name=options.name,
                data=options.data,
                overwrite=options.overwrite,
            )
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
