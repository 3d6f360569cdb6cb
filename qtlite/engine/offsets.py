"""Tensors of several shapes, packed one after the other in a flat one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import prod

import numpy as np
import torch
from torch import Tensor


class Offsets:
    """Offsets of tensors packed in a flat one; calling it returns views.

    Three times faster than split and view.

    Args:
        shapes: of the tensors.

    Example:
        >>> offsets = Offsets([(2, 2), (1,)])
        >>> offsets.sizes, offsets.starts
        ([4, 1], [0, 4])
        >>> offsets(torch.arange(5))
        (tensor([[0, 1],
                [2, 3]]), tensor([4]))
    """

    def __init__(self, shapes: Iterable[Sequence[int]]):
        self.shapes = list(shapes)
        self.sizes = list(map(prod, self.shapes))
        *self.starts, _ = 0, *accumulate(self.sizes)
        self._strides = [torch.empty(shape, device="meta").stride() for shape in self.shapes]

    def __call__(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Split a flat tensor.

        Args:
            flat: all numbers, from the first of its memory on.

        Returns:
            Views of ``flat``.
        """
        return tuple(map(flat.as_strided, self.shapes, self._strides, self.starts))


def join(tensors: Iterable[Tensor]) -> np.ndarray:
    """All numbers one after the other, in memory of their own: what ``Offsets`` splits.

    Args:
        tensors: on a CPU, not complex.

    Example:
        >>> join([torch.ones(1, 2, requires_grad=True), torch.zeros(1)])
        array([1., 1., 0.], dtype=float32)
    """
    # forced: parameters want a gradient, and gradients can be negated in name only
    return np.concatenate([tensor.numpy(force=True) for tensor in tensors], axis=None)
