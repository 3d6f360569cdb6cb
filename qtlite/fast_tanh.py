"""tanh at the speed of memory: PyTorch's takes longer, on a CPU, than the mapping net's sums."""

from __future__ import annotations

import torch
from torch import Tensor

from qtlite.compiling import can_compile


def tanh_(values: Tensor) -> Tensor:
    """Replace ``values`` by their tanh, in place; not differentiable.

    The fast way is taken for contiguous float32 on a CPU where Numba can be imported.

    Args:
        values: any shape.

    Returns:
        ``values``.

    Example:
        >>> tanh_(torch.tensor([0.0, 20.0]))
        tensor([0., 1.])
    """
    if not _is_fast(values):
        return values.tanh_()
    from qtlite import mapping_loops

    mapping_loops.tanh(values.numpy().reshape(-1))
    return values


def times_slope_(gradients: Tensor, outputs: Tensor) -> Tensor:
    """Multiply ``gradients`` by tanh' where tanh gave ``outputs``, in place; not differentiable.

    tanh' = 1 - tanh^2; the fast way as for ``tanh_``.

    Args:
        gradients: any shape.
        outputs: what ``tanh_`` returned, shape of ``gradients``.

    Returns:
        ``gradients``.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> times_slope_(torch.tensor([2.0, 2.0]), torch.tensor([0.5, 1.0]))
        tensor([1.5000, 0.0000])
    """
    if gradients.shape != outputs.shape:
        raise ValueError(
            f"gradients must have the shape of outputs, {tuple(outputs.shape)}, "
            f"got {tuple(gradients.shape)}"
        )
    if not (_is_fast(gradients) and _is_fast(outputs)):
        return gradients.mul_(1 - outputs.square())
    from qtlite import mapping_loops

    mapping_loops.times_slope(gradients.numpy().reshape(-1), outputs.numpy().reshape(-1))
    return gradients


def _is_fast(values: Tensor) -> bool:
    fast = values.device.type == "cpu" and values.dtype == torch.float32 and values.is_contiguous()
    return fast and can_compile()
