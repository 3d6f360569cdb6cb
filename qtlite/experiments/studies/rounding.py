"""Rounding: how far a run moves when the last bit of one angle of its start changes."""

from pathlib import Path
from typing import Any

import torch

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import Dataset
from qtlite.experiments.models.build import build_model
from qtlite.experiments.studies.study import Row, Study
from qtlite.experiments.train.checkpoint import CHECKPOINT, Run, write_checkpoint
from qtlite.experiments.train.loop import train
from qtlite.experiments.train.optimiser import build_optimiser, build_schedule


def runs_from_neighbours(row: Row, n_runs: int = 10) -> list[dict[str, Any]]:
    """Train the recipe ``qtlite`` once for each neighbour of the seed's start.

    An interrupted study goes on: each run has its folder and checkpoint in ``row.runs``.

    Args:
        row: of the config.
        n_runs: number of neighbours; neighbour k differs from the seed's start in angle k.

    Returns:
        One entry for each run, see ``run_from_neighbour``.
    """
    config = row.config()
    place = row.runs / f"rounding-{row.dataset}-L{row.n_blocks}-s{row.seed}"
    images = row.images()
    return [run_from_neighbour(config, images, place / str(k), k) for k in range(n_runs)]


def run_from_neighbour(
    config: TrainConfig, images: Dataset, folder: Path, angle: int
) -> dict[str, Any]:
    """Train a config whose start has one angle changed to the next larger float32 number.

    Args:
        config: of a model with a circuit.
        images: of ``config.dataset``.
        folder: of the checkpoint, from which an interrupted run goes on.
        angle: which one, counted through the circuit's angles of shape (L, ...).

    Returns:
        ``angle``, ``test_accuracy``, ``train_accuracy``, ``wall_seconds``, and ``history``: the
        test accuracy after each epoch.
    """
    if not (folder / CHECKPOINT).exists():
        model = build_model(config)
        with torch.no_grad():
            flat = model.qnn.angles.view(-1)
            flat[angle] = torch.nextafter(flat[angle], torch.tensor(torch.inf))
        optimiser = build_optimiser(config, model)
        n_steps = -(-len(images.train_labels[: config.n_train]) // config.batch_size)
        schedule = build_schedule(config, optimiser, config.epochs * n_steps)
        folder.mkdir(parents=True, exist_ok=True)
        write_checkpoint(folder / CHECKPOINT, Run(config, model, optimiser, schedule, [], []))
    record = train(config, images, folder, progress=False).record
    kept = {name: record[name] for name in ("test_accuracy", "train_accuracy", "wall_seconds")}
    history = [epoch["test_accuracy"] for epoch in record["history"]]
    return {"angle": angle, **kept, "history": history}


STUDY = Study("rounding", runs_from_neighbours, derived=lambda row: {"seed": 2})
