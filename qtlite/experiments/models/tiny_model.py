"""Between a tiny file and a model: the reader's constants are those of the recipe ``qtlite``."""

from __future__ import annotations

import torch

from qtlite.experiments.bits.tiny_file import TinyNetwork
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.models.build import build_model
from qtlite.experiments.models.seeded import full_grid, grid_steps, trained_integers
from qtlite.experiments.recipes import recipe_config
from qtlite.quantum_train import QuantumTrain

# fields of a config that decide which network a file's integers mean, and that no file holds
CONSTANTS = (
    "model", "relu", "pixel_mean", "pixel_std", "angle_range", "feature", "bits",
    "center_feature", "activation", "center_output", "normalisation", "weight_gain",
)  # fmt: skip


def tiny_config(network: TinyNetwork) -> TrainConfig:
    """Return a config that builds a tiny file's model; how it was trained is not in the file."""
    return recipe_config(
        "qtlite",
        network.dataset,
        block=network.block,
        n_blocks=len(network.blocks),
        hidden=network.hidden,
        seed=network.seed,
        grid=tuple(4 * step for step in network.grid),
        rounding_epochs=1,
    )


@torch.no_grad()
def model_of(network: TinyNetwork) -> QuantumTrain:
    """Build the model that a tiny file describes: start plus integers times steps.

    Example:
        >>> from qtlite.experiments.bits.tiny_file import read_tiny
        >>> model_of(read_tiny("book/models/mnist-tiny.qt")).n_trainable
        401
    """
    config = tiny_config(network)
    model = build_model(config)
    groups = network.blocks + network.layers
    integers = torch.tensor([k for group in groups for k in group], dtype=torch.float32)
    sizes = [parameter.numel() for parameter in model.parameters()]
    steps = grid_steps(model, config.grid)
    for parameter, step, part in zip(model.parameters(), steps, integers.split(sizes), strict=True):
        parameter += part.view_as(parameter) * step
    return model


def tiny_network(model: QuantumTrain, config: TrainConfig) -> TinyNetwork:
    """Return what a tiny file holds of a trained model; ``model_of`` is the inverse.

    Args:
        model: trained.
        config: of its run.

    Raises:
        ValueError: if the run did not end on a grid, or departs from the recipe in what a reader
            takes for granted.
    """
    if not config.grid:
        raise ValueError(
            f"run must have ended on a grid (rounding_epochs, grid), got {config.rounding_epochs}"
        )
    steps = full_grid(config.grid, len(config.hidden) + 1)
    if any(step % 4 for step in steps):
        raise ValueError(f"grid must have multiples of 4 in a tiny file, got {config.grid}")
    network = TinyNetwork(
        config.dataset,
        config.block,
        config.hidden,
        config.seed,
        tuple(step // 4 for step in steps),
        *trained_integers(model, build_model(config), config.grid),
    )
    taken = tiny_config(network)
    if other := [name for name in CONSTANTS if getattr(config, name) != getattr(taken, name)]:
        raise ValueError(f"run must follow the recipe qtlite in {CONSTANTS}, got another {other}")
    return network
