"""The fused simulator in plain torch: runs on any device, needs nothing else.

One step multiplies the state by Kronecker products of its 2 x 2 rotations, a few qubits at a time,
then gathers. The circuit is orthogonal, so the backward pass undoes each step on the state and on
its gradient together (adjoint differentiation) and stores nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qtlite.simulators.real_block import RealBlock

GROUP = 7  # qubits multiplied at a time: 128 x 128 matrices keep a GEMM busy


def apply(block: RealBlock, angles: Tensor, states: Tensor) -> Tensor:
    """Run the block's steps once for every S rows of ``angles``.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians.
        states: amplitudes to start from, shape (B, 2**N).

    Returns:
        Amplitudes, shape (B, 2**N).
    """
    gathers = _gathers(block, states, inverse=False)
    for step, row in enumerate(angles):
        states = _rotate(states, row)
        states = _gather(states, gathers[step % block.n_steps])
    return states


def apply_adjoint(
    block: RealBlock, angles: Tensor, states: Tensor, gradients: Tensor
) -> tuple[Tensor, Tensor]:
    """Walk back from the final states and the loss's gradients with respect to them.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians.
        states: what ``apply`` returned, shape (B, 2**N).
        gradients: d loss / d states, shape (B, 2**N).

    Returns:
        d loss / d angles, shape (L * S, N), and d loss / d initial states, shape (B, 2**N).
    """
    gathers = _gathers(block, states, inverse=True)
    pair = torch.cat([states, gradients])
    angle_gradients = torch.zeros_like(angles)
    for step in reversed(range(len(angles))):
        pair = _gather(pair, gathers[step % block.n_steps])
        _angle_gradients(*pair.chunk(2), out=angle_gradients[step])
        pair = _rotate(pair, -angles[step])
    return angle_gradients, pair.chunk(2)[1]


def _gathers(block: RealBlock, like: Tensor, inverse: bool) -> list[tuple[Tensor, Tensor | None]]:
    sources = block.inverse_sources if inverse else block.sources
    signs = block.inverse_signs if inverse else block.signs
    return [
        (
            torch.as_tensor(sources[step], device=like.device).long(),
            None if signs is None else torch.as_tensor(signs[step]).to(like),
        )
        for step in range(block.n_steps)
    ]


def _gather(states: Tensor, gather: tuple[Tensor, Tensor | None]) -> Tensor:
    source, sign = gather
    states = states[:, source]
    return states if sign is None else states * sign


def _groups(n_qubits: int) -> list[tuple[int, int]]:
    """Ranges of at most GROUP neighbouring qubits, as even as can be."""
    n_groups = -(-n_qubits // GROUP)
    edges = [round(n_qubits * g / n_groups) for g in range(n_groups + 1)]
    return list(zip(edges, edges[1:], strict=False))


def _rotate(states: Tensor, row: Tensor) -> Tensor:
    half = row / 2
    cos, sin = half.cos(), half.sin()
    gates = torch.stack([cos, -sin, sin, cos], dim=-1).reshape(-1, 2, 2)
    shape = states.shape
    for first, last in _groups(len(row)):
        matrix = gates[first]
        for qubit in range(first + 1, last):
            matrix = torch.kron(matrix, gates[qubit])
        states = matrix @ states.reshape(-1, len(matrix), 2 ** (len(row) - last))
        states = states.reshape(shape)
    return states


def _angle_gradients(states: Tensor, gradients: Tensor, out: Tensor) -> None:
    """All rotations of a layer commute, so each angle's gradient is <gradient| -iY/2 |state>."""
    n_qubits = len(out)
    for first, last in _groups(n_qubits):
        view = (-1, 2 ** (last - first), 2 ** (n_qubits - last))
        overlap = torch.einsum("bir,bjr->ij", gradients.reshape(view), states.reshape(view))
        twist = overlap - overlap.T
        for qubit in range(first, last):
            # sum over pairs of indices of the group that differ in this qubit alone
            bit = 1 << (last - 1 - qubit)
            low = torch.arange(len(twist), device=out.device)
            low = low[low & bit == 0]
            out[qubit] = twist[low | bit, low].sum() / 2
