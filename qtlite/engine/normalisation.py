"""From the M generated numbers to the target's normalised tensors in one step.

A small target has its training step in some milliseconds, of which ``split_weights`` and
``normalise_weights``, tensor by tensor, take five per cent. Where loops can be compiled and the
numbers are on a CPU, they are done together here; elsewhere it is these two. The numbers are the
same but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qtlite.engine.compiled.compiling import can_compile
from qtlite.engine.offsets import Cuts, join
from qtlite.inject import count_weights, split_weights
from qtlite.normalisation import WeightScale, normalise_weights


class FlatNormalisation:
    """``split_weights``, then ``normalise_weights``, for one target.

    Where rows are standardised in compiled loops, differentiable once.

    Args:
        shapes: what ``weight_shapes`` returned.
        scales: what ``weight_scales`` returned for the same names.
        scheme: see ``normalise_weights``.

    Example:
        >>> from torch import nn
        >>> from qtlite.inject import weight_shapes
        >>> from qtlite.normalisation import weight_scales
        >>> layer = nn.Linear(16, 1)
        >>> shapes = weight_shapes(layer)
        >>> normalise = FlatNormalisation(shapes, weight_scales(layer, shapes, gain=1))
        >>> normalise(torch.tensor([1.0] * 8 + [3.0] * 8 + [2.0]))["weight"][0, 6:10]
        tensor([-0.2500, -0.2500,  0.2500,  0.2500])
    """

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        scales: Mapping[str, WeightScale],
        scheme: str = "row",
    ):
        self.shapes, self.scales, self.scheme = shapes, scales, scheme
        self._n_weights = count_weights(shapes)
        cuts = Cuts(shapes.values())
        tensors, used = [], []
        for start, size, (name, shape) in zip(cuts.starts, cuts.sizes, shapes.items(), strict=True):
            if size > 0:
                n_rows = shape[0] if scales[name].has_rows else 0
                tensors.append((start, n_rows, size // max(n_rows, 1)))
                used.append((scales[name].scale, scales[name].centre))
        n_rows = sum(n_rows for _, n_rows, _ in tensors)
        self.layout = TargetLayout(cuts, np.array(tensors), np.array(used), n_rows)

    def __call__(self, flat: Tensor) -> dict[str, Tensor]:
        """Cut and normalise.

        Args:
            flat: the generated numbers, shape (M,).

        Returns:
            The target's tensors by name.

        Raises:
            ValueError: if ``flat`` has not exactly M entries on one axis.
        """
        if flat.shape == (self._n_weights,) and self._can_be_compiled(flat):
            return dict(zip(self.shapes, _Normalise.apply(flat, self.layout), strict=True))
        return normalise_weights(split_weights(flat, self.shapes), self.scales, self.scheme)

    def _can_be_compiled(self, like: Tensor) -> bool:
        """Whether compiled loops do this for numbers of such a type and place."""
        fits = self.scheme == "row" and like.dtype in (torch.float32, torch.float64)
        return fits and like.device.type == "cpu" and can_compile()


class TargetLayout(NamedTuple):
    """The target's tensors one after the other."""

    cuts: Cuts
    tensors: np.ndarray  # those that are not empty, see normalisation_loops.forward
    scales: np.ndarray
    n_rows: int  # in all tensors


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, flat: Tensor, layout: TargetLayout) -> tuple[Tensor, ...]:
        from qtlite.engine.compiled import normalisation as loops

        numbers = np.ascontiguousarray(flat.numpy(force=True))
        outputs, ctx.steepness = np.empty_like(numbers), np.empty(layout.n_rows)
        loops.forward(numbers, layout.tensors, layout.scales, outputs, ctx.steepness)
        outputs, ctx.layout = torch.from_numpy(outputs), layout
        ctx.save_for_backward(outputs)
        return layout.cuts(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor):
        from qtlite.engine.compiled import normalisation as loops

        (outputs,) = ctx.saved_tensors  # raises if one has been changed since
        flat = join(gradients)
        layout = ctx.layout
        loops.backward(
            flat, layout.tensors, layout.scales, outputs.numpy(force=True), ctx.steepness
        )
        return torch.from_numpy(flat), None
