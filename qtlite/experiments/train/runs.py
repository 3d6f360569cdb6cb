"""Finished runs: found by id, path, config or table row, read and checked in one place.

The folder ``runs/<id>`` holds a run's checkpoint and its plain network. The record is in it, or in
a folder of records.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.models.build import build_model, classical
from qtlite.experiments.models.qcml import QCML
from qtlite.experiments.records.records import departures, read_record, record_id
from qtlite.experiments.train.checkpoint import CHECKPOINT, read_checkpoint
from qtlite.export import load_safetensors
from qtlite.export.safetensors_file import read_metadata
from qtlite.export.schema import in_one_line
from qtlite.quantum_train import QuantumTrain

NETWORK = "classical.safetensors"
RECORD = "record.json"


@dataclass(frozen=True)
class FinishedRun:
    """A record and the trained networks in its folder.

    Attributes:
        record: what ``train`` wrote.
        classical: the plain network, in evaluation mode.
        model: the model that generates it; None if the run trained the plain network itself.
    """

    record: dict[str, Any]
    classical: nn.Module
    model: QuantumTrain | None


def find_record(name: str, records: Path, runs: Path) -> Path:
    """Find the record of a run by its id, or return a path to one.

    Raises:
        FileNotFoundError: if there is none.
    """
    places = [records / f"{name}.json", runs / name / RECORD, Path(name)]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"record must be a run's id or the path of its record, got {name!r}: neither "
        f"{places[0]} nor {places[1]} exists"
    )


def check_network(folder: Path, name: str) -> Path:
    """Return the path of a run's plain network if the file is whole and belongs to the run.

    Args:
        folder: of the run.
        name: the run's id.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if its checksum is wrong or it belongs to another run.
    """
    path = folder / NETWORK
    if not path.is_file():
        raise FileNotFoundError(
            f"runs must hold the trained network of {name}, got no {path}: "
            "train it again, or say where it is"
        )
    if (owner := read_metadata(path).get("record")) != name:
        raise ValueError(f"runs must hold the network of {name}, got that of {owner} in {folder}")
    return path


def missing_part(config: TrainConfig, runs: Path, records: Path | None) -> tuple[Path, str | None]:
    """Return where a config's record is or goes, and what its finished run lacks, if anything.

    A record is recognised by its config, whatever the name of its file.

    Args:
        config: of the run.
        runs: the folder of run folders.
        records: the folder of records, or None if each record is in its run's folder. With it, the
            network may be missing: runs are not kept in git, records are.

    Raises:
        ValueError: if a file in ``records`` is not a record, or the network of a record with an
            older id is damaged.
    """
    name = record_id(config)
    if records is None:
        own, others = runs / name / RECORD, runs.glob(f"{name.rpartition('-')[0]}-*/{RECORD}")
    else:
        own, others = records / f"{name}.json", records.glob("*.json")
    try:
        for path in (place for place in (own, *sorted(others)) if place.is_file()):
            record = read_record(path)
            if TrainConfig.from_dict(record["config"]) == config:
                break
        else:
            return own, "no record"
    except ValueError as error:
        if records is not None:
            raise
        return own, str(error)
    folder = runs / record["id"]
    try:
        check_network(folder, record["id"])
    except FileNotFoundError as error:
        return path, str(error) if records is None else None
    except ValueError as error:
        if folder.name != name:
            raise ValueError(f"{error}; delete {folder}, or {path} to train again") from error
        return path, str(error)
    return path, None


def read_run(record_path: Path, runs: Path) -> FinishedRun:
    """Read a run's record, and its networks from ``runs/<id>``.

    Raises:
        ValueError: if a file is damaged or of another run, the networks do not belong together, or
            the run leaves no classical network (QCML).
        FileNotFoundError: if the network is missing: runs are not kept in git, train again.
    """
    record = read_record(record_path)
    folder, model = runs / record["id"], build_model(TrainConfig.from_dict(record["config"]))
    path = check_network(folder, record["id"])
    if isinstance(model, QCML):
        raise ValueError(
            "record must be of a run that leaves a classical network, "
            f"got {record['id']}: QCML needs its circuit for every image"
        )
    network = classical(model).eval()  # for its structure; its tensors are replaced
    load_safetensors(network, path)
    if not isinstance(model, QuantumTrain):
        return FinishedRun(record, network, None)
    load_model(model, folder / CHECKPOINT)
    generated = model.to_classical().state_dict()
    for name, tensor in network.state_dict().items():
        # not bit for bit: another machine may have trained it
        if not torch.allclose(generated[name], tensor, rtol=1e-3, atol=1e-5):
            raise ValueError(
                f"runs must hold the checkpoint that the network came from, got another: "
                f"{folder / CHECKPOINT}"
            )
    return FinishedRun(record, network, model.eval())


def load_model(model: nn.Module, path: Path) -> None:
    """Put the model's tensors from a run's checkpoint into it.

    Raises:
        ValueError: if the checkpoint is damaged or of another model.
    """
    try:
        model.load_state_dict(read_checkpoint(path)["model"])
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"runs must hold the run's checkpoint, got {path}: {in_one_line(error)}"
        ) from error


def trained_models(
    runs: Path, dataset: str, n_blocks: int, at_most: int | None = None
) -> dict[str, tuple[TrainConfig, QuantumTrain]]:
    """Load the models, with their circuits, of the finished runs in one row of a table.

    A run counts if its config does not depart from the recipe ``qtlite``. Other rows, outdated
    recipes and unfinished runs are ignored.

    Args:
        runs: the folder that ``qtlite train`` and ``sweep`` write to.
        dataset: such as "mnist".
        n_blocks: L.
        at_most: number of seeds to take, from 0 on; all if left out.

    Returns:
        The config and the model by the record's id, in the order of seeds.

    Raises:
        ValueError: if there is none.
    """
    found = _finished(runs, f"{dataset}-qt-qtlite-L{n_blocks}")
    found = {config: found[config] for config in found if not departures(config)}
    if not found:
        raise ValueError(
            f"runs must hold a finished run of QT-{n_blocks} on {dataset} with the present qtlite "
            f"recipe, got none in {runs}: qtlite train --dataset {dataset} --blocks {n_blocks} "
            "makes one"
        )
    models = {}
    for config in sorted(found, key=lambda config: config.seed)[:at_most]:
        model = build_model(config)
        load_model(model, found[config] / CHECKPOINT)
        models[found[config].name] = config, model
    return models


def finished_run(runs: Path, config: TrainConfig) -> Path:
    """Return the folder of a config's finished run, whatever id the config had at its time.

    Raises:
        ValueError: if there is none.
    """
    like, _, _ = record_id(config).rpartition("-")
    if (found := _finished(runs, like).get(config)) is None:
        raise ValueError(f"runs must hold a finished run {like} of {config}, got none in {runs}")
    return found


def _finished(runs: Path, name: str) -> dict[TrainConfig, Path]:
    """Folders of finished runs whose names begin with ``name``."""
    found = {}
    for path in sorted(runs.glob(f"{name}-*/{CHECKPOINT}")):
        content = read_checkpoint(path)
        try:
            config = TrainConfig.from_dict(content["config"])
        except ValueError:  # fields of another version of the package
            continue
        if len(content["history"]) == config.epochs:
            found[config] = path.parent
    return found
