"""The fused simulator's differentiable functions; the loops are in the modules they call."""

from __future__ import annotations

import warnings
from functools import cache, lru_cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qtlite.engine import torch_loops as fused_torch
from qtlite.engine.compiled.compiling import can_compile
from qtlite.engine.read_block import RealBlock
from qtlite.mapping import basis_bits


def engine(device: torch.device, dtype: torch.dtype = torch.float32) -> ModuleType:
    """The module whose loops run on ``device``.

    Numba's on a CPU and Triton's on a GPU, where they are installed; else plain torch's.

    Example:
        >>> engine(torch.device("meta")).__name__
        'qtlite.engine.torch_loops'
    """
    if dtype in (torch.float32, torch.float64):
        if device.type == "cpu" and can_compile():
            from qtlite.engine.compiled import circuit as fused_numba

            return fused_numba
        if device.type == "cuda" and _has_triton(device):
            from qtlite.engine import triton_kernels as fused_triton

            return fused_triton
    return fused_torch


@cache
def _has_triton(device: torch.device) -> bool:
    if find_spec("triton") is None:
        return False
    from qtlite.engine import triton_kernels as fused_triton

    try:
        fused_triton.try_out(device)
    except Exception as reason:  # an old GPU, no C compiler: many things, of many kinds
        warnings.warn(
            f"Triton must be able to compile for {device}, got {reason!r}: the simulator runs in "
            "plain PyTorch there, which is slower",
            stacklevel=2,
        )
        return False
    return True


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx, block: RealBlock, angles: Tensor, states: Tensor) -> Tensor:
        ctx.block, ctx.engine = block, engine(states.device, states.dtype)
        final = ctx.engine.apply(block, angles, states)
        ctx.save_for_backward(angles, final)
        return final

    @staticmethod
    @once_differentiable
    def backward(ctx, gradients: Tensor):
        angles, final = ctx.saved_tensors
        angle_gradients, state_gradients = ctx.engine.apply_adjoint(
            ctx.block, angles, final, gradients.contiguous(), initial=ctx.needs_input_grad[2]
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

    Raises:
        ValueError: if the angles or states have another shape or dtype.
    """
    if states.ndim != 2 or states.shape[1] != 2**block.n_qubits or states.dtype != angles.dtype:
        raise ValueError(
            f"states must have shape (B, {2**block.n_qubits}) and dtype {angles.dtype} as angles, "
            f"got {tuple(states.shape)} and {states.dtype}"
        )
    return _Apply.apply(block, block.step_angles(angles), states)


class _Expect(torch.autograd.Function):
    @staticmethod
    def forward(ctx, block: RealBlock, angles: Tensor, qubits: Tensor, keep: bool) -> Tensor:
        ctx.block, ctx.engine = block, engine(angles.device, angles.dtype)
        values, finals = ctx.engine.expectations(block, angles, qubits, keep)
        ctx.save_for_backward(angles, qubits, finals)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx, gradients: Tensor):
        found = ctx.engine.expectations_adjoint(ctx.block, *ctx.saved_tensors, gradients)
        return None, *found, None


@fused_torch.without_autocast
def expectations(block: RealBlock, angles: Tensor, qubits: Tensor) -> Tensor:
    """<Z> of each qubit for the block applied L times to product states.

    Differentiable once. The block is real: it acts on a state's real and imaginary parts alike.

    Args:
        block: what ``read_block`` returned.
        angles: the block's angles, shape (L, K), radians.
        qubits: the amplitudes of each qubit's |0> and |1>, complex, shape (B, N, 2).

    Returns:
        Shape (B, N), dtype of ``angles``.

    Raises:
        ValueError: if the angles or qubits have another shape, or not the same precision.

    Example:
        >>> from qtlite.circuit import ry_linear_cnot
        >>> from qtlite.engine.read_block import read_block
        >>> block = read_block(ry_linear_cnot, n_qubits=2, n_angles=2)
        >>> qubits = torch.tensor([[[0.6, 0.8j], [1, 0]]])  # 0.6 |00> + 0.8i |10>
        >>> expectations(block, torch.zeros(1, 2), qubits)
        tensor([[-0.2800, -0.2800]])
    """
    if qubits.ndim != 3 or qubits.shape[1:] != (block.n_qubits, 2):
        raise ValueError(
            f"qubits must have shape (batch, {block.n_qubits}, 2), got {tuple(qubits.shape)}"
        )
    step_angles = block.step_angles(angles)
    if qubits.dtype != angles.dtype.to_complex():
        raise ValueError(
            f"qubits must have dtype {angles.dtype.to_complex()} beside angles of {angles.dtype}, "
            f"got {qubits.dtype}"
        )
    if len(step_angles) and hasattr(engine(angles.device, angles.dtype), "expectations"):
        # all at once, an image at a time in the cache
        keep = torch.is_grad_enabled() and (angles.requires_grad or qubits.requires_grad)
        return _Expect.apply(block, step_angles, torch.view_as_real(qubits.resolve_conj()), keep)
    states = product_states(qubits)
    parts = _Apply.apply(block, step_angles, torch.cat([states.real, states.imag]))
    found = parts.square().view(2, *states.shape).sum(dim=0)
    return found @ _signs(block.n_qubits, found.device, found.dtype)


@lru_cache(maxsize=4)
def _signs(n_qubits: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """+1 where a qubit is 0 and -1 where it is 1, shape (2**N, N)."""
    with torch.inference_mode(False):  # for later calls, whatever this one is for
        bits = basis_bits(n_qubits, 2**n_qubits, (1.0, -1.0))
        return bits.to(device=device, dtype=dtype)


def product_states(qubits: Tensor) -> Tensor:
    """The tensor product of each row's qubits.

    Args:
        qubits: the amplitudes of each qubit's |0> and |1>, shape (B, N, 2).

    Returns:
        Shape (B, 2**N), dtype and device of ``qubits``.

    Example:
        >>> product_states(torch.tensor([[[1.0, 0.0], [0.6, 0.8]]]))
        tensor([[0.6000, 0.8000, 0.0000, 0.0000]])
    """
    states = qubits.new_ones(len(qubits), 1)
    for qubit in qubits.unbind(dim=1):
        states = (states[:, :, None] * qubit[:, None, :]).flatten(1)
    return states


class _Probabilities(torch.autograd.Function):
    """One function from angles to p: autograd's own steps would cost as much as a short circuit."""

    @staticmethod
    def forward(ctx, block: RealBlock, angles: Tensor) -> Tensor:
        ctx.block, ctx.engine = block, engine(angles.device, angles.dtype)
        states = torch.eye(1, 2**block.n_qubits, dtype=angles.dtype, device=angles.device)
        final = ctx.engine.apply(block, angles, states)
        ctx.save_for_backward(angles, final)
        return final.flatten().square()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradients: Tensor):
        angles, final = ctx.saved_tensors
        gradients = (final * gradients).mul_(2)
        angle_gradients, _ = ctx.engine.apply_adjoint(
            ctx.block, angles, final, gradients, initial=False
        )
        return None, angle_gradients


def probabilities(block: RealBlock, angles: Tensor) -> Tensor:
    """p_i = |<i|psi(phi)>|^2 for the block applied L times to |0...0>.

    Args:
        block: what ``read_block`` returned.
        angles: phi, shape (L, K), radians.

    Returns:
        Shape (2**N,), dtype and device of ``angles``.

    Raises:
        ValueError: if the angles are no floats, or of another shape.

    Example:
        >>> from qtlite.circuit import ry_linear_cnot
        >>> from qtlite.engine.read_block import read_block
        >>> bell = read_block(ry_linear_cnot, n_qubits=2, n_angles=2)
        >>> probabilities(bell, torch.tensor([[torch.pi / 2, 0.0]])).round(decimals=3).tolist()
        [0.5, 0.0, 0.0, 0.5]
    """
    return _Probabilities.apply(block, block.step_angles(angles))
