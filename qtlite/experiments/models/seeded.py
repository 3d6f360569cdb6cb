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


def trained_groups(model: nn.Module) -> list[list[nn.Parameter]]:
    """Return what a model trains, in groups whose integers are coded together.

    Angles are one group, each layer of a net another.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(name.rpartition(".")[0], []).append(parameter)
    return list(groups.values())
