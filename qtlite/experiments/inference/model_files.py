"""From a finished run to files of its trained network, each with what one must know to use it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.catalogue import CATALOGUE
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.models.build import build_model, classical
from qtlite.experiments.models.qcml import QCML
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records.records import check_id, record_id, recorded
from qtlite.experiments.train.loop import CHECKPOINT
from qtlite.experiments.train.sweep import NETWORK
from qtlite.export import (
    FromPixels,
    load_safetensors,
    quantise_onnx,
    save_compressed,
    save_json,
    save_onnx,
    save_safetensors,
    save_torch_export,
)
from qtlite.quantum_train import QuantumTrain

# format: the end of a file's name
FORMATS = {
    "safetensors": ".safetensors",
    "onnx": ".onnx",
    "pt2": ".pt2",
    "json": ".json",
    "compressed": ".angles.safetensors",
    "int8": ".int8.onnx",
}

# the models of the book's pages: file name -> changes of the qtlite recipe for MNIST
BOOK_MODELS: dict[str, dict[str, Any]] = {
    "mnist-qt-16": {"n_blocks": 16},
    "mnist-qt-121": {"n_blocks": 121},
    "mnist-classical": {"model": "classical"},
}
BOOK_FORMATS = ("json", "onnx", "compressed")

N_CALIBRATION = 500  # training images that int8's scales are taken from


@dataclass(frozen=True)
class FinishedRun:
    """A record and the trained networks that lie in its folder.

    Attributes:
        record: what ``train`` wrote.
        classical: the plain network, in evaluation mode.
        model: what generates it; None for a run that trained the plain network itself.
    """

    record: dict[str, Any]
    classical: nn.Module
    model: QuantumTrain | None


def find_record(name: str, records: Path, runs: Path) -> Path:
    """Find the record of a run by its id, or take a path to one.

    Raises:
        FileNotFoundError: if there is none.
    """
    places = [records / f"{name}.json", runs / name / "record.json", Path(name)]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"record must be a run's id or the path of its record, got {name!r}: neither "
        f"{places[0]} nor {places[1]} exists"
    )


def read_run(record_path: Path, runs: Path) -> FinishedRun:
    """Read a run's record, and its networks from ``runs/<id>``.

    Raises:
        ValueError: if a file is damaged or of another run, the networks do not belong together, or
            the run leaves no classical network (QCML).
        FileNotFoundError: if the network is missing: runs are not kept in git, train again.
    """
    try:
        record = json.loads(record_path.read_text(encoding="utf-8"))
        config = TrainConfig.from_dict(record["config"])
        folder = runs / check_id(record["id"])
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"record must be a run's record, got {record_path}: {error}") from error
    if not (folder / NETWORK).is_file():
        raise FileNotFoundError(
            f"runs must hold the trained network of {record['id']}, got no {folder / NETWORK}: "
            "train it again, or say where it is"
        )
    model = build_model(config)
    if isinstance(model, QCML):
        raise ValueError(
            "record must be of a run that leaves a classical network, "
            f"got {record['id']}: QCML needs its circuit for every image"
        )
    network = classical(model)  # for its structure; what it holds is replaced
    written_for = load_safetensors(network, folder / NETWORK).get("record")
    if written_for != record["id"]:
        raise ValueError(
            f"runs must hold the network of {record['id']}, got that of {written_for} in {folder}"
        )
    if config.model != "qt":
        return FinishedRun(record, network.eval(), None)
    _load_model(model, folder / CHECKPOINT, network)
    return FinishedRun(record, network.eval(), model.eval())


def _load_model(model: QuantumTrain, path: Path, network: nn.Module) -> None:
    """Put a checkpoint into the model, and see that it generates the network."""
    try:
        model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["model"])
    except (RuntimeError, LookupError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"runs must hold the run's checkpoint, got {path}: {error}") from error
    generated = model.to_classical().state_dict()
    for name, tensor in network.state_dict().items():
        # not bit for bit: another machine may have trained it
        if not torch.allclose(generated[name], tensor, rtol=1e-3, atol=1e-5):
            raise ValueError(
                f"runs must hold the checkpoint that the network came from, got another: {path}"
            )


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
    return {
        "record": record["id"],
        "model": f"QT-{config.n_blocks}" if config.model == "qt" else config.model,
        "dataset": config.dataset,
        "classes": json.dumps(CATALOGUE[config.dataset].classes),
        "input": "uint8 pixels, 0 to 255, shape (batch, {}, {}, {})".format(
            *CATALOGUE[config.dataset].image_shape
        ),
        "output": f"logits, shape (batch, {len(CATALOGUE[config.dataset].classes)})",
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
) -> list[Path]:
    """Write a run's network in several formats; each file is read again and compared.

    ``onnx``, ``pt2``, ``json`` and ``int8`` take pixels as they are stored and normalise inside;
    ``safetensors`` and ``compressed`` hold tensors, with the normalisation in the metadata.

    Args:
        run: what ``read_run`` returned.
        folder: where the files go.
        formats: of ``FORMATS``.
        name: the files' name without its end; the record's id if left out.
        data: the images' folder, see ``load_dataset``; for "int8" alone, whose scales are taken
            from 500 training images.
        overwrite: whether existing files may be replaced.

    Returns:
        The files' paths, in the order of ``formats``.

    Raises:
        ValueError: if a format is unknown, or "compressed" is asked of a classical run.
        FileExistsError: if a file exists and ``overwrite`` is off; nothing is written.
    """
    formats = list(formats)
    if unknown := [chosen for chosen in formats if chosen not in FORMATS]:
        raise ValueError(f"formats must be of {tuple(FORMATS)}, got {unknown}")
    if "compressed" in formats and run.model is None:
        raise ValueError(
            "formats must leave out 'compressed' for a network that no circuit generates, "
            f"got it for {run.record['id']}"
        )
    paths = {chosen: folder / f"{name or run.record['id']}{FORMATS[chosen]}" for chosen in formats}
    if existing := [str(path) for path in paths.values() if path.exists() and not overwrite]:
        raise FileExistsError(f"path must be new unless overwrite is on, got {existing}")
    for chosen, path in paths.items():
        _write(run, chosen, path, data)
    return list(paths.values())


def _write(run: FinishedRun, chosen: str, path: Path, data: str | None) -> None:
    config, about = TrainConfig.from_dict(run.record["config"]), describe(run.record)
    network = FromPixels(run.classical, config.pixel_mean, config.pixel_std)
    generator = torch.Generator().manual_seed(0)
    example = torch.randint(
        256, (3, *CATALOGUE[config.dataset].image_shape), dtype=torch.uint8, generator=generator
    )
    match chosen:
        case "safetensors":
            save_safetensors(run.classical, path, about, overwrite=True)
        case "onnx":
            save_onnx(network, example, path, about, overwrite=True)
        case "pt2":
            save_torch_export(network, example, path, about, overwrite=True)
        case "json":
            save_json(network, path, about, overwrite=True)
        case "compressed":
            save_compressed(run.model, path, about, overwrite=True)
        case "int8":
            images = load_dataset(config.dataset, data).train_images[:N_CALIBRATION].numpy()
            whole = path.with_name(f".{path.name}.float.onnx")
            try:
                save_onnx(network, example, whole, about, overwrite=True)
                quantise_onnx(whole, path, images, overwrite=True)
            finally:
                whole.unlink(missing_ok=True)


def export_book_models(
    records: Path = Path("book/records"),
    runs: Path = Path("runs"),
    folder: Path = Path("book/models"),
) -> list[Path]:
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
    paths = []
    for name, run in finished.items():
        formats = [f for f in BOOK_FORMATS if run.model is not None or f != "compressed"]
        paths += export_run(run, folder, formats, name=name, overwrite=True)
    return paths
