"""The mapping net's arithmetic in blocks of rows that stay in the cache.

CIFAR-10's mapping net has 285,226 rows and up to 200 numbers a row and layer. Layer by layer, each
of these tables goes to memory and back several times, and more time is spent on that than on
computing. Here all layers are done for a few thousand rows, then for the next; the backward pass
computes a block's layers again rather than storing them. The numbers are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qtlite.fast_tanh import tanh_

BLOCK_NUMBERS = 2**19  # of all a block's tables: 2 MB in float32, about a second-level cache


def blocked_mlp(net: nn.Sequential, inputs: Tensor) -> Tensor:
    """Compute ``net(inputs)`` for Linear layers with or without a Tanh after each.

    Args:
        net: Linear layers with biases, the last with one output; at most one Tanh after each.
        inputs: shape (M, n_inputs). Fastest if it is the transpose of a contiguous tensor.

    Returns:
        Shape (M,), differentiable once.

    Raises:
        ValueError: if the net has another kind of layer or output, or there are no inputs.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        >>> inputs = torch.randn(5, 3)
        >>> torch.allclose(blocked_mlp(net, inputs), net(inputs).squeeze(1), atol=1e-6)
        True
    """
    tensors: list[Tensor] = []
    has_tanh: list[bool] = []
    for layer in net:
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            tensors += [layer.weight, layer.bias]
            has_tanh.append(False)
        elif isinstance(layer, nn.Tanh) and has_tanh and not has_tanh[-1]:
            has_tanh[-1] = True
        else:
            raise ValueError(f"net must be Linear layers, each with at most a Tanh, got {layer}")
    if not tensors or len(tensors[-1]) != 1:
        raise ValueError(f"net must end in a Linear layer with one output, got {net}")
    if inputs.ndim != 2 or len(inputs) == 0:
        raise ValueError(f"inputs must have shape (M, n_inputs), M >= 1, got {tuple(inputs.shape)}")
    return _BlockedMLP.apply(inputs, tuple(has_tanh), *tensors)


class _BlockedMLP(torch.autograd.Function):
    """Tables are kept transposed, a line a feature, and a line of ones below for the biases."""

    @staticmethod
    def forward(ctx, inputs: Tensor, has_tanh: tuple[bool, ...], *tensors: Tensor) -> Tensor:
        layers = _with_biases(tensors)
        outputs = inputs.new_empty(len(inputs))
        blocks, tables = _blocks(inputs, layers)
        for rows in blocks:
            found = _forward(inputs[rows], layers, has_tanh, tables)
            outputs[rows] = found[-1][0]
        ctx.has_tanh = has_tanh
        ctx.tables = tables if len(blocks) == 1 else None  # then there is nothing to do again
        ctx.save_for_backward(inputs, *tensors)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, output_gradients: Tensor):
        inputs, *tensors = ctx.saved_tensors
        layers = _with_biases(tensors)
        gradients = [torch.zeros_like(layer) for layer in layers]
        input_gradients = inputs.new_empty(inputs.shape[::-1])
        blocks, tables = _blocks(inputs, layers, ctx.tables)
        for rows in blocks:
            found = ctx.tables or _forward(inputs[rows], layers, ctx.has_tanh, tables)
            above = output_gradients[None, rows]
            for place in reversed(range(len(layers))):
                if ctx.has_tanh[place]:
                    above = torch.ops.aten.tanh_backward(above, found[place + 1][:-1])
                gradients[place].addmm_(above, found[place].T)
                if place > 0 or ctx.needs_input_grad[0]:
                    above = layers[place][:, :-1].T @ above
            if ctx.needs_input_grad[0]:
                input_gradients[:, rows] = above
        split = [part for g in gradients for part in (g[:, :-1], g[:, -1])]
        return input_gradients.T if ctx.needs_input_grad[0] else None, None, *split


def _with_biases(tensors: list[Tensor]) -> list[Tensor]:
    """Each layer's weight with its bias as a last column."""
    pairs = zip(tensors[::2], tensors[1::2], strict=True)
    return [torch.cat([weight, bias[:, None]], dim=1) for weight, bias in pairs]


def _blocks(
    inputs: Tensor, layers: list[Tensor], tables: list[Tensor] | None = None
) -> tuple[list[slice], list[Tensor]]:
    """Ranges of rows, and room for a block's inputs and each layer's outputs (if not there yet)."""
    widths = [inputs.shape[1], *(len(layer) for layer in layers)]
    length = min(len(inputs), max(1, BLOCK_NUMBERS // sum(width + 1 for width in widths)))
    blocks = [slice(start, start + length) for start in range(0, len(inputs), length)]
    return blocks, tables or [inputs.new_ones(width + 1, length) for width in widths]


def _forward(
    rows: Tensor, layers: list[Tensor], has_tanh: tuple[bool, ...], tables: list[Tensor]
) -> list[Tensor]:
    """Fill the tables for one block; returns them, cut to its rows."""
    found = [table[:, : len(rows)] for table in tables]
    found[0][:-1] = rows.T
    for layer, tanh, below, above in zip(layers, has_tanh, found, found[1:], strict=False):
        torch.mm(layer, below, out=above[:-1])
        if tanh:
            tanh_(above[:-1])
    return found
