"""Trained models of finished runs, found by what they are rather than by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.models.build import build_model
from qtlite.experiments.records.records import departures, record_id
from qtlite.experiments.train.loop import CHECKPOINT
from qtlite.quantum_train import QuantumTrain


def trained_models(
    runs: Path, dataset: str, n_blocks: int, recipe: str = "qtlite", at_most: int | None = None
) -> dict[str, tuple[TrainConfig, QuantumTrain]]:
    """Load the finished runs of one row of a table, with their circuits, from their checkpoints.

    As in the tables, a run counts if its config is the recipe's own as it is now. Checkpoints of
    other rows, of earlier versions of the recipe and of unfinished runs are not it.

    Args:
        runs: the folder that ``qtlite train`` and ``sweep`` write to.
        dataset: such as "mnist".
        n_blocks: L.
        recipe: of the run.
        at_most: how many seeds to take, from 0 on; all if left out.

    Returns:
        The record's id to its config and model, in the order of seeds.

    Raises:
        ValueError: if there is none.
    """
    found = {
        config: (folder.name, content["model"])
        for folder, config, content in _finished(runs, f"{dataset}-qt-{recipe}-L{n_blocks}")
        if not departures(config)
    }
    if not found:
        raise ValueError(
            f"runs must hold a finished run of QT-{n_blocks} on {dataset} with the present "
            f"{recipe} recipe, got none in {runs}: qtlite train --dataset {dataset} "
            f"--blocks {n_blocks} --recipe {recipe} makes one"
        )
    models = {}
    for config in sorted(found, key=lambda config: config.seed)[:at_most]:
        name, state = found[config]
        model = build_model(config)
        model.load_state_dict(state)
        models[name] = config, model
    return models


def finished_run(runs: Path, config: TrainConfig) -> Path:
    """The folder of a config's finished run, by its checkpoint rather than by its name.

    Fields that a config got later have changed the name that it would have now.

    Args:
        runs: the folder that ``qtlite train`` and ``sweep`` write to.
        config: of the run.

    Raises:
        ValueError: if there is none.
    """
    like, _, _ = record_id(config).rpartition("-")
    for folder, found, _ in _finished(runs, like):
        if found == config:
            return folder
    raise ValueError(f"runs must hold a finished run {like} of {config}, got none in {runs}")


def _finished(runs: Path, name: str) -> Iterator[tuple[Path, TrainConfig, dict[str, Any]]]:
    """Folders of finished runs whose names begin so, with their configs and checkpoints."""
    for path in sorted(runs.glob(f"{name}-*/{CHECKPOINT}")):
        content = torch.load(path, weights_only=True, map_location="cpu")
        try:
            config = TrainConfig.from_dict(content["config"])
        except ValueError:  # fields of another version of the package
            continue
        if len(content["history"]) == config.epochs:
            yield path.parent, config, content
