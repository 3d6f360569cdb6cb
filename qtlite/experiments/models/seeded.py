"""The start that a seed gives in every programming language, so that files hold only differences.

PyTorch's own random numbers would need PyTorch to read the file.
"""

from __future__ import annotations

from math import pi

import torch
from torch import nn

from qtlite.experiments.data.portable_random import PortableRandom

GAIN = 2.5  # weights and biases start uniform in +-GAIN / sqrt(inputs)


@torch.no_grad()
def seeded_start(model: nn.Module, seed: int) -> None:
    """Give a model's angles and mapping net the portable start; what else it trains keeps its own.

    Angles are uniform in +-pi; weights and biases of the mapping net in +-GAIN / sqrt(inputs). The
    draws are in the order of ``named_parameters``.

    Args:
        model: changed in place.
        seed: 0 to 2**53 - 1.

    Example:
        >>> from qtlite import QuantumTrain
        >>> model = QuantumTrain(nn.Linear(10, 5), n_blocks=2)
        >>> seeded_start(model, 0)
        >>> round(model.qnn.angles[0, 0].item(), 6)
        2.408413
    """
    draws = PortableRandom(seed)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        module = model.get_submodule(name.rpartition(".")[0])
        if name == "qnn.angles":
            size = pi
        elif isinstance(module, nn.Linear):
            size = GAIN * module.in_features**-0.5
        else:
            continue
        uniform = torch.from_numpy(draws.uniform(parameter.numel())).view(parameter.shape)
        parameter.copy_((2 * uniform - 1) * size)


def grid_steps(model: nn.Module, grid: tuple[int, int]) -> list[float]:
    """Return the grid step of each parameter tensor that the model trains."""
    angles, others = (step / 1024 for step in grid)
    named = model.named_parameters()
    return [angles if name == "qnn.angles" else others for name, p in named if p.requires_grad]


@torch.no_grad()
def trained_integers(
    model: nn.Module, start: nn.Module, grid: tuple[int, int]
) -> tuple[tuple[int, ...], ...]:
    """Return how many grid steps each trained number is away from its start.

    Args:
        model: trained on the grid.
        start: the same model before training.
        grid: steps for angles and for other numbers, in 1/1024.

    Returns:
        Groups whose integers are coded together: angles are one, each layer of a net another.

    Raises:
        ValueError: if a number is not on the grid.
    """
    groups: dict[str, list[int]] = {}
    named, origins = model.named_parameters(), dict(start.named_parameters())
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    for (name, parameter), step in zip(trained, grid_steps(model, grid), strict=True):
        places = ((parameter - origins[name]).double() / step).flatten()
        if (places - places.round()).abs().max() > 1e-2:
            raise ValueError(f"model must have all numbers on the grid, got others in {name}")
        groups.setdefault(name.rpartition(".")[0], []).extend(places.round().int().tolist())
    return tuple(map(tuple, groups.values()))
