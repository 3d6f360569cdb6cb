"""How many directions the weights can move in: the rank of their derivative by the parameters."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from qtlite.quantum_train import GeneratedNetwork

# Smaller parts of the largest singular value count as zero: single precision, in which networks
# are trained, cannot tell such a direction from none.
RELATIVE_TOLERANCE = torch.finfo(torch.float32).eps
STEP = 1e-5  # of the central differences in double precision: errors of about 1e-10


@torch.no_grad()
def singular_values(model: GeneratedNetwork) -> Tensor:
    """Singular values of the derivative of all weights by all trained parameters, largest first.

    The M x P matrix (M weights, P parameters) comes from central differences in double precision:
    with far more weights than parameters, 2 P runs forwards are cheaper than M backwards.

    Args:
        model: trained or not; left as it is.

    Returns:
        Shape (min(M, P),), float64.

    Example:
        >>> from qtlite import QuantumTrain
        >>> model = QuantumTrain(torch.nn.Linear(10, 5), n_blocks=2)
        >>> singular_values(model).shape  # 55 weights, 233 parameters
        torch.Size([55])
    """
    model = copy.deepcopy(model).double()

    def all_weights() -> Tensor:
        return torch.cat([weight.flatten() for weight in model.weights().values()])

    columns = []
    for parameter in (p for p in model.parameters() if p.requires_grad):
        numbers = parameter.data.view(-1)
        for i, start in enumerate(numbers.tolist()):
            numbers[i] = start + STEP
            above = all_weights()
            numbers[i] = start - STEP
            columns.append((above - all_weights()) / (2 * STEP))
            numbers[i] = start
    return torch.linalg.svdvals(torch.stack(columns, dim=1))


def rank(values: Tensor) -> int:
    """Count the singular values that are not zero in single precision.

    Args:
        values: shape (n,), largest first.

    Example:
        >>> rank(torch.tensor([1.0, 0.5, 1e-9]))
        2
    """
    return int((values > RELATIVE_TOLERANCE * values[0]).sum())


def effective_rank(model: GeneratedNetwork) -> int:
    """Count the directions in which the trained parameters can move the weights, to first order.

    It is at most the number of trained parameters. A mapping net without activation, for one, is
    affine, whatever its width.

    Example:
        >>> from qtlite import MappingNet, QuantumTrain
        >>> target = torch.nn.Linear(30, 10)
        >>> net = MappingNet(9, activation="none")
        >>> affine = QuantumTrain(target, 1, mapping=net, normalisation="none")
        >>> _ = affine.qnn.requires_grad_(False)
        >>> affine.n_trainable, effective_rank(affine)  # N + 1 slopes and one constant
        (233, 11)
    """
    return rank(singular_values(model))
