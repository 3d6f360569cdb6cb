"""Between a tiny file and a model: the reader's constants are those of the recipe ``qtlite``."""

from __future__ import annotations

import torch

from qtlite.experiments.bits.tiny_file import TinyNetwork
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.models.build import build_model
from qtlite.experiments.models.seeded import grid_steps, trained_integers
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
        n_blocks=network.n_blocks,
        hidden=network.hidden,
        seed=network.seed,
        grid=network.grid,
        rounding_epochs=1,
    )


@torch.no_grad()
def model_of(network: TinyNetwork) -> QuantumTrain:
    """Build the model that a tiny file describes: start plus integers times steps.

    Example:
        >>> from qtlite.experiments.bits.tiny_file import group_sizes
        >>> groups = [(1,) * size for size in group_sizes("mnist", 16, (4, 8, 4))]
        >>> network = TinyNetwork("mnist", "ry_linear_cnot", 16, (4, 8, 4), 0, (31, 46), groups)
        >>> model_of(network).n_trainable
        349
    """
    model = build_model(tiny_config(network))
    integers = torch.tensor([k for group in network.groups for k in group], dtype=torch.float32)
    sizes = [parameter.numel() for parameter in model.parameters()]
    steps = grid_steps(model, network.grid)
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
    network = TinyNetwork(
        config.dataset,
        config.block,
        config.n_blocks,
        config.hidden,
        config.seed,
        config.grid,
        trained_integers(model, build_model(config), config.grid),
    )
    taken = tiny_config(network)
    if other := [name for name in CONSTANTS if getattr(config, name) != getattr(taken, name)]:
        raise ValueError(f"run must follow the recipe qtlite in {CONSTANTS}, got another {other}")
    return network
