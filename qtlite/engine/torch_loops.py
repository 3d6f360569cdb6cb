"""The fused simulator in plain torch: runs on any device, needs nothing else.

One step multiplies the state by Kronecker products of its 2 x 2 rotations, a few qubits at a time,
then gathers. The circuit is orthogonal, so the backward pass undoes each step on the state and on
its gradient together (adjoint differentiation) and stores nothing else. What does not depend on the
state is done for SLAB steps at once, so that a step costs only a few launches on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from qtlite.engine.read_block import RealBlock

GROUP = 7  # qubits multiplied at a time: 128 x 128 matrices keep a GEMM busy
SLAB = 32  # steps whose matrices are in memory at the same time

Result = TypeVar("Result")


def without_autocast(function: Callable[..., Result]) -> Callable[..., Result]:
    """Have a function of (block, angles, ...) keep its inputs' precision where autocast is on."""

    @wraps(function)
    def run(block: object, angles: Tensor, *arguments: object, **options: object) -> Result:
        if not torch.is_autocast_enabled(angles.device.type):
            return function(block, angles, *arguments, **options)
        with torch.autocast(angles.device.type, enabled=False):
            return function(block, angles, *arguments, **options)

    return run


@without_autocast
def apply(block: RealBlock, angles: Tensor, states: Tensor) -> Tensor:
    """Run the block's steps once for every S rows of ``angles``.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians.
        states: amplitudes to start from, shape (B, 2**N).

    Returns:
        Amplitudes, shape (B, 2**N).
    """
    permutations = _permutations(block, states, inverse=False)
    for steps in torch.arange(len(angles), device="cpu").split(SLAB):
        for step, *matrices in zip(steps.tolist(), *_matrices(block, angles, steps), strict=True):
            states = _rotate(states, matrices)
            states = _permute(states, permutations[step % block.n_steps])
    return states


@without_autocast
def apply_adjoint(
    block: RealBlock, angles: Tensor, states: Tensor, gradients: Tensor, *, initial: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Undo the steps on the final states and the loss's gradients with respect to them.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians.
        states: what ``apply`` returned, shape (B, 2**N).
        gradients: d loss / d states, shape (B, 2**N).
        initial: whether the initial states' gradient is wanted.

    Returns:
        d loss / d angles, shape (L * S, N), zero where a step does not rotate a qubit, and
        d loss / d initial states, shape (B, 2**N), or None.
    """
    if len(angles) == 0:
        return torch.zeros_like(angles), gradients if initial else None
    permutations = _permutations(block, states, inverse=True)
    pair = torch.cat([states, gradients])
    angle_gradients = torch.zeros_like(angles)
    for steps in torch.arange(len(angles), device="cpu").flip(0).split(SLAB):
        overlaps = []
        for step, *matrices in zip(steps.tolist(), *_matrices(block, -angles, steps), strict=True):
            pair = _permute(pair, permutations[step % block.n_steps])
            overlaps.append(_overlaps(*pair.chunk(2), matrices))
            pair = _rotate(pair, matrices)
        groups = map(torch.stack, zip(*overlaps, strict=True))
        slab = torch.cat([_angle_gradients(group) for group in groups], dim=1)
        angle_gradients[steps] = slab * _rotated(block, angles, steps)
    return angle_gradients, pair.chunk(2)[1] if initial else None


def _permutations(
    block: RealBlock, like: Tensor, inverse: bool
) -> list[tuple[Tensor, Tensor | None]]:
    sources = block.inverse_sources if inverse else block.sources
    signs = block.inverse_signs if inverse else block.signs
    return [
        (
            torch.as_tensor(sources[step], device=like.device),
            None if signs is None else torch.as_tensor(signs[step]).to(like),
        )
        for step in range(block.n_steps)
    ]


def _permute(states: Tensor, permutation: tuple[Tensor, Tensor | None]) -> Tensor:
    source, sign = permutation
    states = states.index_select(-1, source)
    return states if sign is None else states * sign


def _rotated(block: RealBlock, like: Tensor, steps: Tensor) -> Tensor:
    return torch.as_tensor(block.rotated, device=like.device)[steps % block.n_steps]


def _matrices(block: RealBlock, angles: Tensor, steps: Tensor) -> Iterator[Tensor]:
    """For each group of neighbouring qubits, the Kronecker products of its rotations at ``steps``.

    A group has at most GROUP qubits and the groups are as even as can be. Shape (steps, D, D).
    """
    half = torch.where(_rotated(block, angles, steps), angles[steps] / 2, 0)
    cos, sin = half.cos(), half.sin()
    gates = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
    n_groups = -(-block.n_qubits // GROUP)
    edges = [round(block.n_qubits * group / n_groups) for group in range(n_groups + 1)]
    for first, last in pairwise(edges):
        product = gates[:, first]
        for qubit in range(first + 1, last):
            product = torch.einsum("sij,skl->sikjl", product, gates[:, qubit])
            product = product.flatten(3).flatten(1, 2)
        yield product


def _rotate(states: Tensor, matrices: list[Tensor]) -> Tensor:
    shape, done = states.shape, 1
    for matrix in matrices:
        done *= len(matrix)
        behind = shape[-1] // done
        if behind == 1:
            states = states.reshape(-1, len(matrix)) @ matrix.T
        else:
            states = matrix @ states.reshape(-1, len(matrix), behind)
    return states.reshape(shape)


def _overlaps(states: Tensor, gradients: Tensor, matrices: list[Tensor]) -> list[Tensor]:
    """For each group, sum over all other qubits of gradient[i] state[j]: shape (D, D)."""
    overlaps, done = [], 1
    for matrix in matrices:
        done *= len(matrix)
        view = (-1, len(matrix), states.shape[-1] // done)
        overlaps.append(torch.einsum("bir,bjr->ij", gradients.reshape(view), states.reshape(view)))
    return overlaps


def _angle_gradients(overlaps: Tensor) -> Tensor:
    """All rotations of a layer commute, so each angle's gradient is <gradient| -iY/2 |state>.

    Shape (steps, qubits of the group) from (steps, D, D).
    """
    size = overlaps.shape[-1]
    twist = (overlaps - overlaps.mT).flatten(1)
    index = torch.arange(size, device=overlaps.device)
    bits = [size >> q + 1 for q in range(size.bit_length() - 1)]
    # pairs of indices of the group that differ in one qubit alone
    lows = torch.stack([index[index & bit == 0] for bit in bits])
    highs = torch.stack([index[index & bit != 0] for bit in bits])
    return twist[:, highs * size + lows].sum(-1) / 2
