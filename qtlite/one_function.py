"""Circuit, mapping net and normalisation as one function for autograd and one for Numba.

In a small target's training step, what autograd does for three functions, and Python and numpy
between compiled loops, take about as long as a circuit of 13 qubits and 16 blocks. The numbers are
the same, bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qtlite.engine.mapping import NetLayout
from qtlite.engine.normalisation import TargetLayout
from qtlite.engine.offsets import join
from qtlite.engine.read_block import RealBlock


class Constants(NamedTuple):
    """What stays the same from step to step."""

    block: RealBlock
    scale: float  # of the probabilities that the mapping net sees
    net: NetLayout
    target: TargetLayout


def is_small(net: NetLayout, n_weights: int) -> bool:
    """Whether ``generate_weights`` may be used: it does all in one thread, and stores all outputs.

    Args:
        net: the mapping net's layout, of a net that ``can_be_compiled``.
        n_weights: M.
    """
    from qtlite.engine.compiled.plan import WHOLE
    from qtlite.engine.compiled.vectors import VECTOR_BYTES

    undivided = n_weights <= WHOLE * (VECTOR_BYTES // 4)  # amplitudes
    return undivided and net.is_stored(n_weights) and net.n_shares(n_weights) == 1


def generate_weights(
    constants: Constants, bits: Tensor, angles: Tensor, tensors: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The target's tensors, from angles and the mapping net's weights and biases.

    Differentiable once, with respect to these. ``QuantumTrain`` knows when this may be called, and
    asks ``is_small``: nothing is checked here.

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
        from qtlite import one_function_loops as loops
        from qtlite.engine.compiled.plan import lay_out

        block, scale, net, target = ctx.constants = constants
        plan, gates = lay_out(block, angles.numpy(force=True))
        ctx.arguments = (
            scale,
            np.ascontiguousarray(bits.numpy(force=True).T),
            (net.features, net.rounded, net.has_tanh),
            (target.tensors, target.scales, target.n_rows),
        )
        parameters = join(tensors)
        outputs, ctx.kept = loops.forward(plan.walk(gates), *ctx.arguments, parameters)
        outputs = torch.from_numpy(outputs)
        ctx.save_for_backward(angles, outputs, bits, *tensors)
        return target.cuts(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor):
        from qtlite import one_function_loops as loops
        from qtlite.engine.compiled.plan import angle_gradients, lay_out

        angles, outputs, *_ = ctx.saved_tensors  # raises if one has been changed since
        block, _, net, _ = ctx.constants
        plan, gates = lay_out(block, angles.numpy(force=True), back=True)
        flat = join(gradients)
        wanted = ctx.needs_input_grad[2]
        parameters, overlaps = loops.backward(
            plan.walk(gates), *ctx.arguments, outputs.numpy(force=True), ctx.kept, flat, wanted
        )
        found = torch.from_numpy(angle_gradients(plan, gates, overlaps)) if wanted else None
        return None, None, found, *net.cuts(torch.from_numpy(parameters))
