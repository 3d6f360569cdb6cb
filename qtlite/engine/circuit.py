"""The circuit as differentiable functions; the loops are in the modules they call."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from qtlite.circuit import Block
from qtlite.engine import torch_loops
from qtlite.engine.again import differentiable_gradients
from qtlite.engine.compiled.compiling import can_compile
from qtlite.engine.read_block import NotRealAmplitude, RealBlock, read_block


@dataclass(frozen=True)
class Prepared:
    """What is read of a block of gates, once for all its angles."""

    block: RealBlock | None  # None where the engine cannot run it
    description: str

    def __deepcopy__(self, memo: dict) -> Prepared:
        return self  # nothing in it changes


# Reading a block of 19 qubits takes a second: once is enough for equal models.
_read_known_block = lru_cache(maxsize=8)(read_block)


def prepare_circuit(block: Block, n_qubits: int, n_angles: int) -> Prepared:
    """Read a block, or say why it cannot be run here.

    Args:
        block: appends one block to a circuit.
        n_qubits: N.
        n_angles: K, angles of one block.

    Example:
        >>> from qtlite.circuit import ry_linear_cnot
        >>> prepare_circuit(ry_linear_cnot, 3, 3).description
        'engine: every gate of the block is real'
        >>> prepare_circuit(lambda c, angles: c.rx(0, theta=angles[0]), 3, 1).description
        "TensorCircuit: gate 'rx' on qubits (0,) must have real entries for the engine"
    """
    # a block of the reader's own is read each time, since what it does may have changed
    known = getattr(block, "__module__", None) == "qtlite.circuit"
    try:
        read = (_read_known_block if known else read_block)(block, n_qubits, n_angles)
    except NotRealAmplitude as reason:
        return Prepared(None, f"TensorCircuit: {reason}")
    return Prepared(read, "engine: every gate of the block is real")


def loops_for(device: torch.device, dtype: torch.dtype = torch.float32) -> ModuleType:
    """The module whose loops run on ``device``.

    Numba's on a CPU and Triton's on a GPU, where they are installed; else plain torch's.

    Example:
        >>> loops_for(torch.device("meta")).__name__
        'qtlite.engine.torch_loops'
    """
    if dtype in (torch.float32, torch.float64):
        if device.type == "cpu" and can_compile():
            from qtlite.engine.compiled import circuit as numba_loops

            return numba_loops
        if device.type == "cuda" and _has_triton(device):
            from qtlite.engine import triton_kernels

            return triton_kernels
    return torch_loops


@cache
def _has_triton(device: torch.device) -> bool:
    if find_spec("triton") is None:
        return False
    from qtlite.engine import triton_kernels

    try:
        triton_kernels.try_out(device)
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
        ctx.block, ctx.engine = block, loops_for(states.device, states.dtype)
        final = ctx.engine.apply(block, angles, states)
        ctx.save_for_backward(angles, states, final)
        return final

    @staticmethod
    def backward(ctx, gradients: Tensor):
        angles, states, final = ctx.saved_tensors
        if torch.is_grad_enabled():
            apply = partial(torch_loops.apply, ctx.block)
            return None, *differentiable_gradients(apply, (angles, states), gradients)
        angle_gradients, state_gradients = ctx.engine.apply_adjoint(
            ctx.block, angles, final, gradients.contiguous(), initial=ctx.needs_input_grad[2]
        )
        return None, angle_gradients, state_gradients


@torch_loops.without_autocast
def expectations(prepared: Prepared, angles: Tensor, qubits: Tensor) -> Tensor | None:
    """<Z> of each qubit for the block applied L times to product states.

    The block is real: it acts on a state's real and imaginary parts alike.

    Args:
        prepared: what ``prepare_circuit`` returned.
        angles: the block's angles, shape (L, K), radians.
        qubits: each one's amplitudes of |0> and |1>, complex as ``angles`` are real, (B, N, 2).

    Returns:
        Shape (B, N), dtype of ``angles``; None where the engine cannot run the block.

    Raises:
        ValueError: if the angles are no floats, or of another shape.

    Example:
        >>> from qtlite.circuit import ry_linear_cnot
        >>> prepared = prepare_circuit(ry_linear_cnot, n_qubits=2, n_angles=2)
        >>> qubits = torch.tensor([[[0.6, 0.8j], [1, 0]]])  # 0.6 |00> + 0.8i |10>
        >>> expectations(prepared, torch.zeros(1, 2), qubits)
        tensor([[-0.2800, -0.2800]])
    """
    block = prepared.block
    if block is None:
        return None
    step_angles = block.step_angles(angles)
    states = qubits.new_ones(len(qubits), 1)
    for qubit in qubits.unbind(dim=1):  # the tensor product of each row's qubits
        states = (states[:, :, None] * qubit[:, None, :]).flatten(1)
    parts = _Apply.apply(block, step_angles, torch.cat([states.real, states.imag]))
    found = parts.square().view(2, *states.shape).sum(dim=0)
    return found @ _signs(block.n_qubits, found.device, found.dtype)


@lru_cache(maxsize=4)
def _signs(n_qubits: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """+1 where a qubit is 0 and -1 where it is 1, shape (2**N, N)."""
    with torch.inference_mode(False):  # cached tensors must not be inference tensors
        bits = torch.arange(2**n_qubits)[:, None] >> torch.arange(n_qubits - 1, -1, -1) & 1
        return (1 - 2 * bits).to(device=device, dtype=dtype)


class _Probabilities(torch.autograd.Function):
    """From angles to p in one function: autograd's own steps would cost as much as a circuit."""

    @staticmethod
    def forward(ctx, block: RealBlock, angles: Tensor) -> Tensor:
        ctx.block, ctx.engine = block, loops_for(angles.device, angles.dtype)
        final = ctx.engine.apply(block, angles, _ground_state(block, angles))
        ctx.save_for_backward(angles, final)
        return final.flatten().square()

    @staticmethod
    def backward(ctx, gradients: Tensor):
        angles, final = ctx.saved_tensors
        if torch.is_grad_enabled():
            function = partial(_plain_probabilities, ctx.block)
            return None, *differentiable_gradients(function, (angles,), gradients)
        gradients = (final * gradients).mul_(2)
        angle_gradients, _ = ctx.engine.apply_adjoint(
            ctx.block, angles, final, gradients, initial=False
        )
        return None, angle_gradients


def _ground_state(block: RealBlock, like: Tensor) -> Tensor:
    """|0...0>, shape (1, 2**N)."""
    return torch.eye(1, 2**block.n_qubits, dtype=like.dtype, device=like.device)


def _plain_probabilities(block: RealBlock, angles: Tensor) -> Tensor:
    return torch_loops.apply(block, angles, _ground_state(block, angles)).flatten().square()


def probabilities(prepared: Prepared, angles: Tensor) -> Tensor | None:
    """p_i = |<i|psi(phi)>|^2 for the block applied L times to |0...0>.

    Args:
        prepared: what ``prepare_circuit`` returned.
        angles: phi, shape (L, K), radians.

    Returns:
        Shape (2**N,), dtype and device of ``angles``; None where the engine cannot run the block.

    Raises:
        ValueError: if the angles are no floats, or of another shape.

    Example:
        >>> from qtlite.circuit import ry_linear_cnot
        >>> bell = prepare_circuit(ry_linear_cnot, n_qubits=2, n_angles=2)
        >>> probabilities(bell, torch.tensor([[torch.pi / 2, 0.0]])).round(decimals=3).tolist()
        [0.5, 0.0, 0.0, 0.5]
    """
    if prepared.block is None:
        return None
    return _Probabilities.apply(prepared.block, prepared.block.step_angles(angles))
