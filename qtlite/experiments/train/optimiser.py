"""The optimiser and the learning-rate schedule that a config names."""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, pi
from typing import Any

import torch
from torch import nn

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.models.seeded import grid_steps, rounding_turns
from qtlite.experiments.train.full_matrix_adam import FullMatrixAdam
from qtlite.experiments.train.rounded_adam import RoundedAdam

ROUNDING_RATE = 0.1  # of the peak, while numbers are rounded: the others must make up for it


def build_optimiser(
    config: TrainConfig, model: nn.Module, n_steps: int = 1
) -> torch.optim.Optimizer:
    """Return the config's optimiser for all of a model's trainable parameters.

    Args:
        config: says which.
        model: whose parameters have their start.
        n_steps: of an epoch; only a config with a grid needs it.

    Example:
        >>> type(build_optimiser(TrainConfig(), nn.Linear(2, 2))).__name__
        'Adam'
    """
    parameters: Iterable[nn.Parameter] = [p for p in model.parameters() if p.requires_grad]
    shared = {"lr": config.learning_rate, "eps": config.adam_eps}
    if config.grid:
        shared |= {
            "steps": grid_steps(model, config.grid),
            "turns": rounding_turns(model),
            "n_exact": (config.epochs - config.rounding_epochs) * n_steps,
            "n_steps": config.epochs * n_steps,
            "pull": config.pull,
        }
        return RoundedAdam(parameters, refresh_every=config.refresh_every, **shared)
    if config.optimiser == "full_matrix_adam":
        return FullMatrixAdam(parameters, refresh_every=config.refresh_every, **shared)
    return torch.optim.Adam(parameters, weight_decay=config.weight_decay, fused=True, **shared)


def build_schedule(config: TrainConfig, optimiser: torch.optim.Optimizer, n_steps: int) -> Any:
    """Return the config's learning-rate schedule, or None for a constant rate.

    Args:
        config: says which.
        optimiser: whose rate it changes.
        n_steps: of the whole run.
    """
    if config.schedule == "one_cycle" and config.grid:
        n_exact = n_steps * (config.epochs - config.rounding_epochs) // config.epochs
        return torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: max(ROUNDING_RATE, _one_cycle(step / max(n_exact, 1)))
        )
    if config.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            config.learning_rate,
            total_steps=n_steps,
            cycle_momentum=config.optimiser == "adam",  # FullMatrixAdam's betas do not change
        )
    if config.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=5)
    return None


def _one_cycle(done: float) -> float:
    """The rate over its peak after a share of the steps: up for 30 % of them, then down to 0."""
    if done < 0.3:
        return 0.04 + 0.96 * (1 - cos(pi * done / 0.3)) / 2
    return (1 + cos(pi * min(done - 0.3, 0.7) / 0.7)) / 2
