"""Choices of the authors' released code that the library itself does not need (see the book)."""

from collections.abc import Callable

import torch
from torch import Tensor

from qtlite.mapping import FEATURES as METHOD_FEATURES
from qtlite.mapping import MappingNet


def released(probabilities: Tensor) -> Tensor:
    """Return (0.8 tanh(0.1 * 2**(N-1) p))**0.3, held flat near p = 0, where its slope is infinite.

    Args:
        probabilities: p, shape (2**N,).

    Example:
        >>> released(torch.tensor([0.5, 0.0]))
        tensor([0.3806, 0.0158])
    """
    squashed = 0.8 * torch.tanh(0.1 * (len(probabilities) / 2) * probabilities)
    return squashed.clamp(min=1e-6) ** 0.3


FEATURES = {**METHOD_FEATURES, "released": released}


def centred(feature: Callable[[Tensor], Tensor], n_weights: int) -> Callable[[Tensor], Tensor]:
    """A feature minus its mean over the M basis states that are used.

    Args:
        feature: from p, shape (2**N,), to the same shape.
        n_weights: M, the length of the result.

    Example:
        >>> centred(released, 1)(torch.tensor([0.5, 0.5])).tolist()
        [0.0]
    """

    def minus_mean(probabilities: Tensor) -> Tensor:
        column = feature(probabilities)[:n_weights]
        return column - column.mean()

    return minus_mean


class CentredMappingNet(MappingNet):
    """A mapping net whose numbers have mean 0; arguments as of ``MappingNet``.

    Example:
        >>> round(CentredMappingNet(3)(torch.ones(5)).mean().item(), 6) + 0.0
        0.0
    """

    def forward(self, column: Tensor) -> Tensor:
        """Map the feature of the first R basis states to R numbers, shape (R,)."""
        numbers = super().forward(column)
        return numbers - numbers.mean()
