"""The start that a seed gives in every programming language, so that files hold only differences.

PyTorch's own random numbers would need PyTorch to read the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor, nn

from qtlite.experiments.bits.entropy_coding import between
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


def full_grid(grid: Sequence[int], n_layers: int) -> list[int]:
    """Return the steps of the first and of the last block's angles, and of each layer.

    Layers beyond the grid's end have its last step.

    Raises:
        ValueError: if the grid has two steps, as in runs of an earlier version.

    Example:
        >>> full_grid((48, 16, 60, 200), 4)
        [48, 16, 60, 200, 200, 200]
    """
    if len(grid) < 3:
        raise ValueError(f"grid must have three steps or more to be trained or written, got {grid}")
    first, last, *layers = grid
    return [first, last, *(layers + layers[-1:] * n_layers)[:n_layers]]


def grid_steps(model: nn.Module, grid: Sequence[int]) -> list[Tensor]:
    """Return the step of each number of each parameter tensor that the model trains.

    Args:
        model: with the parameters.
        grid: see ``full_grid``, in 1/1024. The steps of the blocks between the first and the last
            go evenly from one to the other.
    """
    trained, n_layers = _by_layers(model)
    first, last, *layers = full_grid(grid, n_layers)
    steps = []
    for _, parameter, layer in trained:
        if layer is None:
            rows = torch.tensor(between(first, last, len(parameter))).to(parameter)
            steps.append(rows[:, None].expand_as(parameter) / 1024)
        else:
            steps.append(torch.full_like(parameter, layers[layer] / 1024))
    return steps


def rounding_turns(model: nn.Module) -> list[Tensor]:
    """Return for each number when its group is rounded: the last layer first, the last block last.

    Within such a group, rounding costs about as much for each number, given that those of later
    groups still make up for it. So one step serves the whole group.
    """
    trained, n_layers = _by_layers(model)
    return [
        torch.arange(n_layers, n_layers + len(p)).to(p)[:, None].expand_as(p)
        if layer is None
        else torch.full_like(p, n_layers - 1 - layer)
        for _, p, layer in trained
    ]


def _by_layers(model: nn.Module) -> tuple[list[tuple[str, nn.Parameter, int | None]], int]:
    """Trained parameters: name, tensor, the layer's place or None for angles; how many layers."""
    found, layers = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = name.rpartition(".")[0]
        if name != "qnn.angles" and layer not in layers:
            layers.append(layer)
        found.append((name, parameter, None if name == "qnn.angles" else layers.index(layer)))
    return found, len(layers)


@torch.no_grad()
def trained_integers(
    model: nn.Module, start: nn.Module, grid: Sequence[int]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    """Return how many grid steps each trained number is away from its start.

    Args:
        model: trained on the grid.
        start: the same model before training.
        grid: see ``full_grid``, in 1/1024.

    Returns:
        Those of each block's angles, and those of each layer of a net.

    Raises:
        ValueError: if a number is not on the grid.
    """
    blocks: list[list[int]] = []
    layers: dict[int, list[int]] = {}
    trained, origins = _by_layers(model)[0], _by_layers(start)[0]
    for (name, parameter, layer), (_, origin, _), step in zip(
        trained, origins, grid_steps(model, grid), strict=True
    ):
        places = (parameter - origin).double() / step
        if (places - places.round()).abs().max() > 1e-2:
            raise ValueError(f"model must have all numbers on the grid, got others in {name}")
        integers = places.round().int()
        if layer is None:
            blocks += integers.tolist()
        else:
            layers.setdefault(layer, []).extend(integers.flatten().tolist())
    return tuple(map(tuple, blocks)), tuple(map(tuple, layers.values()))
