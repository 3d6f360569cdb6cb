"""tanh at the speed of memory: PyTorch's, on a CPU, takes longer than the mapping net's products.

tanh(x) = 1 - 2 / (1 + e^2x), with e^2x = 2^n 2^r, |r| <= 1/2, and a Taylor polynomial for 2^r: a
dozen instructions on whole vectors. Within 2e-7 of the true value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import factorial, log

import numpy as np
import torch
from torch import Tensor

FLAT = 10.0  # tanh(10) is 1 in float32
# A float32 of this size has no digits after the point: adding it and taking it away again rounds,
# and in between the last bits hold the rounded number.
ROUNDING = 1.5 * 2**23


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
    _compiled()[0](values.numpy().reshape(-1))
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
    _compiled()[1](gradients.numpy().reshape(-1), outputs.numpy().reshape(-1))
    return gradients


def _is_fast(values: Tensor) -> bool:
    fast = values.device.type == "cpu" and values.dtype == torch.float32 and values.is_contiguous()
    return fast and _compiled() is not None


@cache
def _compiled() -> tuple[Callable, Callable] | None:
    """The loops of ``tanh_`` and of ``times_slope_`` on flat arrays."""
    try:
        import numba
    except ImportError:
        return None
    if numba.config.DISABLE_JIT:
        return None
    one, two, flat, rounding = map(np.float32, (1, 2, FLAT, ROUNDING))
    scale = np.float32(2 / log(2))
    c0, c1, c2, c3, c4, c5, c6 = (np.float32(log(2) ** k / factorial(k)) for k in range(7))

    def tanh(values):
        for i in range(values.size):
            exponent = min(max(values[i], -flat), flat) * scale
            rounded = np.float32(exponent + rounding)
            r = exponent - (rounded - rounding)
            power = c6
            power = power * r + c5
            power = power * r + c4
            power = power * r + c3
            power = power * r + c2
            power = power * r + c1
            power = np.float32(power * r + c0)
            # times 2**rounded: added to the exponent among the float's bits
            bits = np.int32(power.view(np.int32) + np.int32(rounded.view(np.int32) << np.int32(23)))
            values[i] = one - two / (bits.view(np.float32) + one)

    def times_slope(gradients, outputs):
        for i in range(gradients.size):
            gradients[i] *= one - outputs[i] * outputs[i]

    # half a second to compile, at the first call; a closure cannot be stored on disk
    compiler = numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
    return compiler(tanh), compiler(times_slope)
