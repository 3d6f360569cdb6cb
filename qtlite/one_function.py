"""Circuit, mapping net and normalisation as one function for autograd.

In a small target's training step, what autograd does for three functions, and for the operations
between them, takes about as long as a circuit of 16 blocks. The numbers are the same, bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qtlite.arrays import as_array
from qtlite.blocked_mlp import NetLayout, run_net, run_net_back
from qtlite.flat_normalisation import TargetLayout, standardise, standardise_back
from qtlite.simulators.real_block import RealBlock


class Constants(NamedTuple):
    """What stays the same from step to step."""

    block: RealBlock
    scale: float  # of the probabilities that the mapping net sees
    net: NetLayout
    target: TargetLayout


def generate_weights(
    constants: Constants, bits: Tensor, angles: Tensor, tensors: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The target's tensors, from angles and the mapping net's weights and biases.

    Differentiable once, with respect to these. ``QuantumTrain`` knows when this may be called:
    nothing is checked here.

    Args:
        constants: whose layouts belong to what follows.
        bits: the mapping net's inputs but the last, shape (M, N), float32 like all, on a CPU.
        angles: what ``RealBlock.step_angles`` returns, radians, one row at least.
        tensors: the mapping net's weights and biases, what ``read_net`` returns.
    """
    return _GenerateWeights.apply(constants, bits, angles, *tensors)


class _GenerateWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, constants: Constants, bits: Tensor, angles: Tensor, *tensors: Tensor):
        from qtlite.simulators.fused_numba import run_circuit

        block, scale, net, target = ctx.constants = constants
        state = run_circuit(block, as_array(angles), None)
        column = np.square(state[0, : len(bits)])
        column *= scale
        flat, ctx.kept = run_net(net, as_array(bits), column, *map(as_array, tensors))
        outputs, ctx.steepness = standardise(target, flat)
        outputs = torch.from_numpy(outputs)
        ctx.save_for_backward(torch.from_numpy(state), angles, outputs, bits, *tensors)
        return target.cuts(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor):
        from qtlite.simulators.fused_numba import run_circuit_back

        block, scale, net, target = ctx.constants
        saved = ctx.saved_tensors  # raises if one has been changed since
        state, angles, outputs = map(as_array, saved[:3])
        gradients = list(map(as_array, gradients))
        flat = standardise_back(target, outputs, ctx.steepness, gradients)
        wanted, angle_gradients = ctx.needs_input_grad[2], None
        column, parameters = run_net_back(net, ctx.kept, flat, wanted)
        if wanted:
            sensitivity = np.zeros_like(state)
            column *= 2 * scale
            used = slice(len(column))
            np.multiply(state[0, used], column, out=sensitivity[0, used])
            found, _ = run_circuit_back(block, angles, state, sensitivity, False)
            angle_gradients = torch.from_numpy(found)
        return None, None, angle_gradients, *net.cuts(torch.from_numpy(parameters))
