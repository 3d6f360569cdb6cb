"""Tensors as numpy arrays, for compiled loops."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def as_array(tensor: Tensor) -> np.ndarray:
    """The tensor's numbers, in the same memory if they lie there as they are.

    Half the time of ``tensor.numpy(force=True)``, or less.

    Args:
        tensor: on a CPU, not complex.

    Example:
        >>> import torch
        >>> as_array(torch.ones(2, requires_grad=True))
        array([1., 1.], dtype=float32)
    """
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.is_neg():  # as gradients can be, in name only
        tensor = tensor.resolve_neg()
    return tensor.numpy()
