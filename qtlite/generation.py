"""Circuit, mapping net and normalisation as one function for autograd.

In a small target's training step, what autograd does for three functions, and for the operations
between them, takes about as long as a circuit of 16 blocks. The numbers are the same, bit by bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qtlite import blocked_mlp, flat_normalisation
from qtlite.arrays import as_array
from qtlite.simulators.real_block import RealBlock


class Generation(NamedTuple):
    """What stays the same from step to step."""

    block: RealBlock
    scale: float  # of the probabilities that the mapping net sees
    net: blocked_mlp.Layout
    target: flat_normalisation.Layout


class Generate(torch.autograd.Function):
    """The target's tensors, from angles and the mapping net's weights and biases.

    ``Generate.apply(generation, bits, angles, *tensors)``: ``bits`` are the mapping net's inputs
    but the last, shape (M, N), ``angles`` what ``RealBlock.step_angles`` returns, and ``tensors``,
    with the net's layout, what ``read_net`` returns; all float32 and on a CPU. Differentiable once,
    with respect to angles and tensors.
    """

    @staticmethod
    def forward(ctx, generation: Generation, bits: Tensor, angles: Tensor, *tensors: Tensor):
        from qtlite.simulators import fused_numba

        block, scale, net, target = ctx.generation = generation
        ctx.state = fused_numba.run(block, as_array(angles), None)
        column = np.square(ctx.state[0, : len(bits)])
        column *= scale
        flat, ctx.kept = blocked_mlp.run(net, as_array(bits), column, *map(as_array, tensors))
        outputs, ctx.steepness = flat_normalisation.run(target, flat)
        outputs = torch.from_numpy(outputs)
        ctx.save_for_backward(bits, angles, outputs)
        return target.cuts(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor):
        from qtlite.simulators import fused_numba

        block, scale, net, target = ctx.generation
        _, angles, outputs = ctx.saved_tensors  # raises if one has been changed since
        gradients = list(map(as_array, gradients))
        flat = flat_normalisation.run_back(target, as_array(outputs), ctx.steepness, gradients)
        wanted, angle_gradients = ctx.needs_input_grad[2], None
        column, parameters = blocked_mlp.run_back(net, ctx.kept, flat, wanted)
        if wanted:
            sensitivity = np.zeros_like(ctx.state)
            column *= 2 * scale
            used = slice(len(column))
            np.multiply(ctx.state[0, used], column, out=sensitivity[0, used])
            found, _ = fused_numba.run_back(block, as_array(angles), ctx.state, sensitivity, False)
            angle_gradients = torch.from_numpy(found)
        return None, None, angle_gradients, *net.cuts(torch.from_numpy(parameters))
