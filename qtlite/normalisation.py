"""Bring generated weights to the scale that a network's layers need.

Neighbouring basis states get similar weights, so that whole filters share a sign: sums explode and
units die. Standardising each output unit's weights, in the spirit of weight standardisation (Qiao
et al. 2019), removes what they share. It has no parameter and leaves a plain network.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isfinite, prod

import torch
from torch import Tensor, nn

from qtlite import acceleration
from qtlite.checks import check_number
from qtlite.inject import split_weights, weight_shapes

SCHEMES = ("none", "tensor", "row")
VARIANCE_FLOOR = 1e-8  # beside a row's variance of about 1: a constant row's gradient is finite
SHORTEST_ROW = 8  # a standardised row of two is only a sign: shorter rows are scaled instead


@dataclass(frozen=True)
class WeightScale:
    """Where one tensor's generated values go: centre + scale * value."""

    has_rows: bool  # rows (output units or channels) long enough to be standardised
    centre: float
    scale: float


def weight_scales(
    module: nn.Module, names: Iterable[str], weight_gain: float = 2**0.5
) -> dict[str, WeightScale]:
    """Choose a scale for each tensor of the target.

    Matrices and kernels get weight_gain / sqrt(fan-in), biases half the scale of the matrix beside
    them. A vector without a matrix beside it, such as the gain and shift of a normalisation layer,
    is varied around the mean of its values, and a bias that starts constant around that constant.
    No other values of the target are used.

    Args:
        module: the target network.
        names: its parameters to generate.
        weight_gain: standard deviation of weights times sqrt(fan-in); sqrt(2) suits ReLU (He et al.
            2015).

    Raises:
        ValueError: if the gain is not between 1e-6 and 1e6, or such a vector's mean is not finite.

    Example:
        >>> weight_scales(nn.Linear(4, 2), ["weight", "bias"], weight_gain=1)["bias"]
        WeightScale(has_rows=False, centre=0.0, scale=0.25)
    """
    check_number("weight_gain", weight_gain, 1e-6, 1e6)
    names, scales = list(weight_shapes(module, names)), {}
    for name in names:
        tensor = module.get_parameter(name)
        owner = module.get_submodule(name.rpartition(".")[0])
        beside = [tensor] if tensor.ndim > 1 else list(owner.parameters(recurse=False))
        matrices = [p.shape[1:] for p in beside if p.ndim > 1]
        fan_in = max(map(prod, matrices), default=tensor.numel()) or 1  # an empty tensor has none
        scale = weight_gain * fan_in**-0.5
        if tensor.ndim > 1:
            scales[name] = WeightScale(fan_in >= SHORTEST_ROW, 0.0, scale)
            continue
        constant = tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all())
        has_centre = tensor.numel() > 0 and (constant or not matrices)
        centre = tensor.detach().double().mean().to(tensor.dtype).item() if has_centre else 0.0
        if not isfinite(centre):
            raise ValueError(f"target must have finite values in {name}, got a mean of {centre}")
        scales[name] = WeightScale(False, centre, 0.5 * scale)
    return scales


def normalise_weights(
    weights: Mapping[str, Tensor], scales: Mapping[str, WeightScale], scheme: str = "row"
) -> dict[str, Tensor]:
    """Bring generated tensors to their scales.

    ``none`` leaves them; ``tensor`` multiplies each by its scale; ``row`` first standardises every
    output unit's weights (minus their mean, divided by their standard deviation), so that each row
    sums to 0 and has a fixed norm. Rows of fewer than 8 weights are only scaled. The rows of a
    transposed convolution are its input channels.

    Args:
        weights: generated tensors by name, of order 1.
        scales: what ``weight_scales`` returned for the same names.
        scheme: "none", "tensor" or "row"; another is a ``ValueError``.

    Example:
        >>> scales = weight_scales(nn.Linear(16, 1), ["weight"], weight_gain=1)
        >>> generated = {"weight": torch.tensor([[1.0] * 8 + [3.0] * 8])}
        >>> normalise_weights(generated, scales)["weight"][0, 6:10]
        tensor([-0.2500, -0.2500,  0.2500,  0.2500])
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {SCHEMES}, got {scheme!r}")
    if scheme == "none":
        return dict(weights)
    if missing := weights.keys() - scales.keys():
        raise ValueError(f"scales must have one for each of the weights, got none for {missing}")
    return {name: _normalise(tensor, scales[name], scheme) for name, tensor in weights.items()}


def _normalise(tensor: Tensor, target: WeightScale, scheme: str) -> Tensor:
    if target.has_rows and scheme == "row":
        rows = tensor.flatten(1)
        rows = rows - rows.mean(1, keepdim=True)  # F.layer_norm's third derivatives are wrong
        deviation = (rows.square().mean(1, keepdim=True) + VARIANCE_FLOOR).sqrt()
        return (target.scale * rows / deviation).view_as(tensor)
    tensor = tensor * target.scale
    return tensor + target.centre if target.centre else tensor


class Normalisation(nn.Module):
    """From the M generated numbers to the target's tensors: cut, then bring to scale.

    Args as for ``split_weights`` and ``normalise_weights``. The scales' centres are part of its
    ``state_dict``: a model around a fresh target that loads it gives the same weights.
    """

    def __init__(self, shapes: Mapping, scales: Mapping, scheme: str = "row"):
        super().__init__()
        if scheme not in SCHEMES:
            raise ValueError(f"normalisation must be one of {SCHEMES}, got {scheme!r}")
        self.shapes, self.scales, self.scheme = dict(shapes), dict(scales), scheme
        self.prepared = acceleration.prepare_normalisation(self.shapes, self.scales, scheme)

    def forward(self, numbers: Tensor) -> dict[str, Tensor]:
        """Map the numbers, shape (M,), to the target's tensors by name."""
        weights = acceleration.normalise(self.prepared, numbers)
        if weights is None:
            pieces = split_weights(numbers, self.shapes)
            weights = normalise_weights(pieces, self.scales, self.scheme)
        return weights

    def get_extra_state(self) -> Tensor:
        """Return the centres, float64, in the order of the target's tensors."""
        return torch.tensor([s.centre for s in self.scales.values()], dtype=torch.float64)

    def set_extra_state(self, centres: Tensor) -> None:
        """Take the centres of the model that wrote a ``state_dict``."""
        if len(centres) != len(self.scales) or not centres.isfinite().all():
            raise ValueError(f"centres must be finite and one for each tensor, got {len(centres)}")
        pairs = zip(self.scales.items(), centres.tolist(), strict=True)
        self.scales = {name: replace(scale, centre=centre) for (name, scale), centre in pairs}
        self.prepared = acceleration.prepare_normalisation(self.shapes, self.scales, self.scheme)
