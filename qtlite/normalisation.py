"""Bring generated weights to the scale that a network's layers need.

Neighbouring basis states get similar weights, so that whole filters share a sign: sums explode and
units die. Standardising each output unit's weights, in the spirit of weight standardisation (Qiao
et al. 2019), removes what they share. It has no parameter, is part of the map from the mapping net
to theta, and leaves a plain network after training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

SCHEMES = ("none", "tensor", "row")

# A row's variance is compared with 1; this keeps the gradient of a constant row finite.
VARIANCE_FLOOR = 1e-8


@dataclass(frozen=True)
class WeightScale:
    """Where one tensor's generated values go: centre + scale * value."""

    is_matrix: bool  # rows (output units or channels) of more than one weight
    centre: float
    scale: float


def weight_scales(
    module: nn.Module, names: Iterable[str], gain: float = 2**0.5
) -> dict[str, WeightScale]:
    """Choose a scale for each tensor of the target, gain/sqrt(fan-in) for matrices and kernels.

    Biases get half the scale of the matrix beside them. A vector that starts constant (the gain
    and shift of a normalisation layer) is varied around that constant.

    Args:
        module: the target network.
        names: its parameters to generate.
        gain: standard deviation of weights times sqrt(fan-in); sqrt(2) suits ReLU (He et al. 2015).

    Raises:
        ValueError: if the gain is not positive.

    Example:
        >>> weight_scales(nn.Linear(4, 2), ["weight", "bias"], gain=1)["bias"]
        WeightScale(is_matrix=False, centre=0.0, scale=0.25)
    """
    if not gain > 0:
        raise ValueError(f"gain must be positive, got {gain}")
    scales = {}
    for name in names:
        tensor = module.get_parameter(name)
        fan_in = _fan_in(tensor)
        if fan_in > 1:
            scales[name] = WeightScale(True, 0.0, gain * fan_in**-0.5)
            continue
        owner = module.get_submodule(name.rpartition(".")[0])
        beside = max((_fan_in(p) for p in owner.parameters(recurse=False)), default=1)
        constant = tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all())
        centre = float(tensor.detach().flatten()[0]) if constant else 0.0
        fan_in = beside if beside > 1 else max(tensor.numel(), 1)
        scales[name] = WeightScale(False, centre, 0.5 * gain * fan_in**-0.5)
    return scales


def _fan_in(tensor: Tensor) -> int:
    return prod(tensor.shape[1:]) if tensor.ndim > 1 else 1


def normalise_weights(
    weights: Mapping[str, Tensor], scales: Mapping[str, WeightScale], scheme: str = "row"
) -> dict[str, Tensor]:
    """Bring generated tensors to their scales.

    ``none`` leaves them; ``tensor`` multiplies each by its scale; ``row`` first standardises every
    output unit's weights (minus their mean, divided by their standard deviation).

    Args:
        weights: generated tensors by name, of order 1.
        scales: what ``weight_scales`` returned for the same names.
        scheme: one of "none", "tensor", "row".

    Raises:
        ValueError: if the scheme is unknown.

    Example:
        >>> import torch
        >>> scales = weight_scales(nn.Linear(4, 1), ["weight"], gain=1)
        >>> generated = {"weight": torch.tensor([[1.0, 1.0, 3.0, 3.0]])}
        >>> normalise_weights(generated, scales)["weight"]
        tensor([[-0.5000, -0.5000,  0.5000,  0.5000]])
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {SCHEMES}, got {scheme!r}")
    if scheme == "none":
        return dict(weights)
    return {name: _normalise(tensor, scales[name], scheme) for name, tensor in weights.items()}


def _normalise(tensor: Tensor, target: WeightScale, scheme: str) -> Tensor:
    if target.is_matrix and scheme == "row":
        rows = tensor.flatten(1)
        tensor = F.layer_norm(rows, rows.shape[1:], eps=VARIANCE_FLOOR).view_as(tensor)
    tensor = tensor * target.scale
    return tensor + target.centre if target.centre else tensor
