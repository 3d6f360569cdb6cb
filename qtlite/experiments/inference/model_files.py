"""From a finished run to files of its trained network, each with what one must know to use it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.catalogue import entry_of
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.inference.tiny import ALL_FORMATS, tiny_format
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records.records import record_id, recorded
from qtlite.experiments.train.runs import FinishedRun, find_record, read_run
from qtlite.export import FORMATS, FromPixels, Trained, describe_circuit, to_openqasm
from qtlite.export.atomic import atomic_write

# the models of the book's pages: file name -> changes of the qtlite recipe for MNIST
BOOK_MODELS: dict[str, dict[str, Any]] = {
    "mnist-qt-16": {"n_blocks": 16},
    "mnist-qt-121": {"n_blocks": 121},
    "mnist-classical": {"model": "classical"},
}
BOOK_FORMATS = ("json", "onnx", "compressed")

N_CALIBRATION = 500  # training images that int8's scales are taken from


def describe(record: dict[str, Any]) -> dict[str, str]:
    """What a file tells about its model, all of it strings.

    Example:
        >>> from qtlite.experiments.config import TrainConfig
        >>> record = {"id": "x", "n_trainable": 457, "n_weights": 6690, "test_accuracy": 0.9689,
        ...           "evaluated_on": "test", "n_test": 10000, "config": TrainConfig().to_dict()}
        >>> describe(record)["accuracy"], describe(record)["n_trainable"]
        ('0.9689', '457')
    """
    config = TrainConfig.from_dict(record["config"])
    entry = entry_of(config.dataset)
    return {
        "record": record["id"],
        "model": f"QT-{config.n_blocks}" if config.model == "qt" else config.model,
        "dataset": config.dataset,
        "classes": json.dumps(record.get("classes", entry.classes)),
        "input": "uint8 pixels, 0 to 255, shape (batch, {}, {}, {})".format(*entry.image_shape),
        "output": f"logits, shape (batch, {len(entry.classes)})",
        "pixel_mean": repr(config.pixel_mean),
        "pixel_std": repr(config.pixel_std),
        "relu": json.dumps(config.relu),
        "n_trainable": str(record["n_trainable"]),
        "n_weights": str(record["n_weights"]),
        "accuracy": repr(record["test_accuracy"]),
        "evaluated_on": f"{record['n_test']:,} {record['evaluated_on']} images of {config.dataset}",
        "commit": str(record.get("commit")),
    }


def export_run(
    run: FinishedRun,
    folder: Path,
    formats: Iterable[str],
    *,
    name: str | None = None,
    data: str | None = None,
    overwrite: bool = False,
) -> dict[Path, str]:
    """Write a run's network in several formats; each file is read again and compared.

    ``onnx``, ``pt2``, ``json`` and ``int8`` take pixels as they are stored and normalise inside;
    ``safetensors`` and ``compressed`` hold tensors, with the normalisation in the metadata.

    Args:
        run: what ``read_run`` returned.
        folder: where the files go.
        formats: names in ``ALL_FORMATS``.
        name: the files' name without its end; the record's id if left out.
        data: the images' folder, see ``load_dataset``; only for "int8", whose scales are taken
            from 500 training images.
        overwrite: whether existing files may be replaced.

    Returns:
        What was checked, as a sentence, by the file's path, in the order of ``formats``.

    Raises:
        ValueError: if a format is unknown, or "compressed" is asked of a classical run.
        FileExistsError: if a file exists and ``overwrite`` is off; nothing is written.
    """
    formats = list(formats)
    if unknown := [chosen for chosen in formats if chosen not in ALL_FORMATS]:
        raise ValueError(f"formats must be of {tuple(ALL_FORMATS)}, got {unknown}")
    config, about = TrainConfig.from_dict(run.record["config"]), describe(run.record)
    known = {**FORMATS, "tiny": tiny_format(config)}
    kinds = {folder / f"{name or run.record['id']}{known[f].ending}": known[f] for f in formats}
    for kind in kinds.values():
        if kind.needs_model and run.model is None:
            raise ValueError(
                f"formats must leave out {kind.name!r} for a network that no circuit generates, "
                f"got it for {run.record['id']}"
            )
    if existing := [str(path) for path in kinds if path.exists() and not overwrite]:
        raise FileExistsError(f"path must be new unless overwrite is on, got {existing}")
    generator = torch.Generator().manual_seed(0)
    shape = (3, *entry_of(config.dataset).image_shape)
    trained = Trained(
        FromPixels(run.classical, config.pixel_mean, config.pixel_std),
        torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        run.model,
        lambda: load_dataset(config.dataset, data).train_images[:N_CALIBRATION].numpy(),
    )
    return {path: kind.write(trained, path, about) for path, kind in kinds.items()}


def export_circuit(run: FinishedRun, path: Path, *, overwrite: bool = False) -> str:
    """Write a run's circuit as OpenQASM 3, and return its gates, depth and shots in words.

    Raises:
        ValueError: if no circuit generates the run's network, see ``to_openqasm``.
        FileExistsError: if the file exists and ``overwrite`` is off.
    """
    if run.model is None:
        raise ValueError(f"record must be of a run with a circuit, got {run.record['id']}")
    words = describe_circuit(run.model.qnn)
    text = to_openqasm(run.model.qnn, f"{run.record['id']}\n{words}")
    with atomic_write(path, overwrite) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
    return words


def export_book_models(
    records: Path = Path("book/records"),
    runs: Path = Path("runs"),
    folder: Path = Path("book/models"),
) -> dict[Path, str]:
    """Write anew the models that the book's pages run, from seed 0 of the present recipe.

    Raises:
        FileNotFoundError: if the recipe has no such record, or its network is not in ``runs``.
    """
    ids = recorded(records)
    finished = {}
    for name, changes in BOOK_MODELS.items():  # all are read before any is written
        config = recipe_config("qtlite", "mnist", **changes)
        found = find_record(ids.get(config) or record_id(config), records, runs)
        finished[name] = read_run(found, runs)
    checked: dict[Path, str] = {}
    for name, run in finished.items():
        formats = [f for f in BOOK_FORMATS if run.model is not None or not FORMATS[f].needs_model]
        checked |= export_run(run, folder, formats, name=name, overwrite=True)
    return checked
