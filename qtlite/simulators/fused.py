"""The fused simulator's one differentiable function; the loops are in the two modules it calls."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qtlite.simulators import fused_torch
from qtlite.simulators.real_block import RealBlock


def engine(device: torch.device, dtype: torch.dtype = torch.float32) -> ModuleType:
    """The module whose loops run on ``device``: Numba's on a CPU if it is installed, else torch's.

    Example:
        >>> engine(torch.device("cuda")).__name__
        'qtlite.simulators.fused_torch'
    """
    if device.type == "cpu" and dtype in (torch.float32, torch.float64):
        return _compiled() or fused_torch
    return fused_torch


@cache
def _compiled() -> ModuleType | None:
    try:
        import numba
    except ImportError:
        return None
    if numba.config.DISABLE_JIT:
        return None
    from qtlite.simulators import fused_numba

    return fused_numba


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx, block: RealBlock, angles: Tensor, states: Tensor) -> Tensor:
        final = engine(states.device, states.dtype).apply(block, angles, states)
        ctx.block = block
        ctx.save_for_backward(angles, final)
        return final

    @staticmethod
    @once_differentiable
    def backward(ctx, gradients: Tensor):
        angles, final = ctx.saved_tensors
        angle_gradients, state_gradients = engine(final.device, final.dtype).apply_adjoint(
            ctx.block, angles, final, gradients.contiguous()
        )
        return None, angle_gradients, state_gradients


def apply_block(block: RealBlock, angles: Tensor, states: Tensor) -> Tensor:
    """Apply a fused block once for each row of angles, differentiably (first order).

    Args:
        block: what ``read_block`` returned.
        angles: the block's angles, shape (L, K), radians.
        states: real amplitudes to start from, shape (B, 2**N), dtype and device of ``angles``.

    Returns:
        Amplitudes, shape (B, 2**N).
    """
    return _Apply.apply(block, block.step_angles(angles), states)


def probabilities(block: RealBlock, angles: Tensor) -> Tensor:
    """p_i = |<i|psi(phi)>|^2 for the block applied L times to |0...0>.

    Args:
        block: what ``read_block`` returned.
        angles: phi, shape (L, K), radians.

    Returns:
        Shape (2**N,), dtype and device of ``angles``.

    Example:
        >>> from qtlite.circuit import ry_linear_cnot
        >>> from qtlite.simulators.real_block import read_block
        >>> bell = read_block(ry_linear_cnot, n_qubits=2, n_angles=2)
        >>> probabilities(bell, torch.tensor([[torch.pi / 2, 0.0]])).round(decimals=3).tolist()
        [0.5, 0.0, 0.0, 0.5]
    """
    states = angles.new_zeros(1, 2**block.n_qubits)
    states[0, 0] = 1
    return apply_block(block, angles, states).square().flatten()
