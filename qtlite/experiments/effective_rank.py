"""How many directions the weights can move in: the rank of their derivative by the parameters."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from qtlite.generated import GeneratedNetwork

# Smaller parts of the largest singular value count as zero: single precision, in which networks
# are trained, cannot tell such a direction from none.
RELATIVE_TOLERANCE = torch.finfo(torch.float32).eps
SPARE_ROWS = 20


def singular_values(model: GeneratedNetwork, *, seed: int = 0) -> Tensor:
    """Singular values of d theta / d (trained parameters), largest first, in float64.

    The M x P matrix J (M weights, P parameters) is not built: R J has the rank of J and nearly its
    singular values for a random R of P + 20 rows (Halko et al. 2011), and takes as many backward
    passes.

    Args:
        model: trained or not; left as it is.
        seed: of R.

    Returns:
        Shape (P,), or (M,) if there are fewer weights than parameters.

    Example:
        >>> from qtlite import QuantumTrain
        >>> model = QuantumTrain(torch.nn.Linear(10, 5), n_blocks=2)
        >>> singular_values(model).shape  # 55 weights, 233 parameters
        torch.Size([55])
    """
    model = copy.deepcopy(model).double()
    parameters = [p for p in model.parameters() if p.requires_grad]
    theta = torch.cat([weight.flatten() for weight in model.weights().values()])
    n_parameters, n_weights = sum(p.numel() for p in parameters), len(theta)
    if n_weights <= n_parameters + SPARE_ROWS:
        rows = torch.eye(n_weights, dtype=theta.dtype)
    else:
        generator = torch.Generator().manual_seed(seed)
        shape = (n_parameters + SPARE_ROWS, n_weights)
        rows = torch.randn(shape, generator=generator, dtype=theta.dtype) / shape[0] ** 0.5
    jacobian = [
        torch.cat(
            [
                g.flatten()
                for g in torch.autograd.grad(
                    theta, parameters, row, retain_graph=True, materialize_grads=True
                )
            ]
        )
        for row in rows
    ]
    return torch.linalg.svdvals(torch.stack(jacobian))


def effective_rank(model: GeneratedNetwork) -> int:
    """Count the directions in which the trained parameters can move the weights, to first order.

    It is at most the number of trained parameters. A mapping net without activation, for one, is
    affine, whatever its width.

    Example:
        >>> from qtlite import QuantumTrain
        >>> target = torch.nn.Linear(30, 10)
        >>> affine = QuantumTrain(target, 1, activation="none", normalisation="none")
        >>> _ = affine.qnn.requires_grad_(False)
        >>> affine.n_trainable, effective_rank(affine)  # N + 1 slopes and one constant
        (233, 11)
    """
    values = singular_values(model)
    return int((values > RELATIVE_TOLERANCE * values[0]).sum())
