"""The mapping net's arithmetic in blocks of rows that stay in the cache.

CIFAR-10's mapping net has 285,226 rows and up to 200 numbers a row and layer. Layer by layer, each
of these tables goes to memory and back several times, and more time is spent on that than on
computing. Where loops can be compiled and the numbers are float32 on a CPU, all layers are done for
some hundred rows, then for the next (``mapping_loops``); of large tables, the backward pass
computes again what would have to be stored. Elsewhere, and where a layer has hooks or a forward
pass of its own, this is ``net`` itself. The numbers are the same but for rounding.

torch.get_num_threads() rules: each thread takes its own share of the blocks. A number of threads
always gives the same sums.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qtlite.compiling import can_compile
from qtlite.cuts import Cuts

FEW_NUMBERS = 2**19  # of all layers' outputs: so few are stored for the backward pass
PARALLEL_WORK = 2**24  # multiply-adds: fewer are done before a thread has started


def blocked_mlp(net: nn.Sequential, bits: Tensor, column: Tensor) -> Tensor:
    """Compute ``net`` of ``bits`` and ``column`` side by side, for Linear layers and Tanh.

    Differentiable once with respect to the net's parameters and ``column``.

    Args:
        net: Linear layers with biases, the last with one output; at most one Tanh after each.
        bits: the inputs that never change, shape (M, n_inputs - 1), best laid out column by column.
        column: the last input, shape (M,).

    Returns:
        Shape (M,).

    Raises:
        ValueError: if the net has another kind of layer or output, there are no inputs, shapes do
            not fit, or ``bits`` asks for a gradient.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        >>> bits, column = torch.randn(5, 2), torch.randn(5)
        >>> inputs = torch.cat([bits, column[:, None]], dim=1)
        >>> torch.allclose(blocked_mlp(net, bits, column), net(inputs).squeeze(1), atol=1e-6)
        True
    """
    tensors: list[Tensor] = []
    has_tanh: list[bool] = []
    for layer in net:
        if isinstance(layer, nn.Linear) and (bias := layer.bias) is not None:
            tensors += [layer.weight, bias]
            has_tanh.append(False)
        elif isinstance(layer, nn.Tanh) and has_tanh and not has_tanh[-1]:
            has_tanh[-1] = True
        else:
            raise ValueError(f"net must be Linear layers, each with at most a Tanh, got {layer}")
    weights, biases = tensors[::2], tensors[1::2]
    if not weights or weights[-1].shape[0] != 1:
        raise ValueError(f"net must end in a Linear layer with one output, got {net}")
    pairs = zip(weights, biases, strict=True)
    if any(below.shape[0] != above.shape[1] for below, above in pairwise(weights)) or any(
        bias.shape != weight.shape[:1] for weight, bias in pairs
    ):
        raise ValueError(f"net must have layers and biases that fit each other, got {net}")
    n_inputs = weights[0].shape[1]
    if bits.ndim != 2 or len(bits) == 0 or bits.shape[1] != n_inputs - 1:
        raise ValueError(
            f"bits must have shape (M, {n_inputs - 1}), M >= 1, got {tuple(bits.shape)}"
        )
    if column.shape != bits.shape[:1]:
        raise ValueError(f"column must have shape ({len(bits)},), got {tuple(column.shape)}")
    if bits.requires_grad:
        raise ValueError("bits must not require a gradient, got one that does: call its detach()")
    fits = all(t.dtype == torch.float32 and t.is_cpu for t in (bits, column, *tensors))
    if fits and can_compile() and all(map(_is_plain, (net, *net))):
        layout = _layout(tuple(has_tanh), n_inputs, *(weight.shape[0] for weight in weights))
        return _CompiledMLP.apply(bits, column, layout, *tensors)
    return net(torch.cat([bits, column[:, None]], dim=1)).squeeze(1)


_FORWARDS = (nn.Sequential.forward, nn.Linear.forward, nn.Tanh.forward)


def _is_plain(module: nn.Module) -> bool:
    """Whether calling the module does its arithmetic alone. (Pruning, for example, hooks in.)"""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return type(module).forward in _FORWARDS and not any(hooks)


class _Layout(NamedTuple):
    """Sizes of a net; ``rounded`` and what follows for features rounded up, as the loops want."""

    features: np.ndarray  # of the inputs and after each layer
    cuts: Cuts  # the weights and biases
    has_tanh: np.ndarray  # of each layer
    rounded: np.ndarray
    n_parameters: int
    n_outputs: int  # of all layers


@lru_cache(maxsize=8)
def _layout(has_tanh: tuple[bool, ...], *features: int) -> _Layout:
    from qtlite.mapping_loops import rounded_up

    widths = np.array(features)
    rounded = rounded_up(widths)
    shapes = [shape for below, above in pairwise(features) for shape in ((above, below), (above,))]
    n_parameters = int((rounded[1:] * (rounded[:-1] + 1)).sum())
    n_outputs = int(rounded[1:].sum())
    return _Layout(widths, Cuts(shapes), np.array(has_tanh), rounded, n_parameters, n_outputs)


class _CompiledMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx, bits: Tensor, column: Tensor, layout: _Layout, *tensors: Tensor) -> Tensor:
        from qtlite import mapping_loops as loops

        packed = np.zeros(layout.n_parameters, np.float32)
        parameters = np.concatenate([tensor.numpy(force=True) for tensor in tensors], axis=None)
        loops.pack(parameters, layout.features, packed, False)

        widths, n_lines = layout.rounded, layout.n_outputs
        n_rows = column.shape[0]
        n_blocks = -(-n_rows // loops.ROWS)
        works = n_rows * packed.size > PARALLEL_WORK
        ctx.n_shares = min(torch.get_num_threads(), n_blocks) if works else 1
        stored = n_blocks * n_lines * loops.ROWS <= FEW_NUMBERS
        # torch's memory, not numpy's: it begins with a line of the cache, as vectors should
        inputs = column.new_empty(ctx.n_shares, int(widths[0]), loops.ROWS)
        n_tables = n_blocks if stored else ctx.n_shares
        tables = column.new_empty(n_tables, n_lines + loops.TILE, loops.ROWS)
        # else the last hidden outputs: little, but they cost a big product. Here numpy's memory,
        # which asks the system for huge pages
        keeps = not stored and len(layout.has_tanh) > 1 and not layout.has_tanh[-1]
        kept = np.empty((n_blocks if keeps else 0, widths[-2], loops.ROWS), np.float32)
        outputs = torch.empty_like(column)
        ctx.layout = layout
        ctx.arguments = (
            bits.T.contiguous().numpy(), column.detach().contiguous().numpy(), widths,
            layout.has_tanh, packed, inputs.numpy(), tables.numpy(), kept,
        )  # fmt: skip
        ctx.save_for_backward(bits, column, *tensors)
        _share_out(
            ctx.n_shares, lambda share: loops.forward(*ctx.arguments, outputs.numpy(), *share)
        )
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, output_gradients: Tensor):
        from qtlite import mapping_loops as loops

        _, column, *_ = ctx.saved_tensors  # raises if one has been changed since
        *_, packed, _, tables, _ = ctx.arguments
        sums = np.zeros((ctx.n_shares, packed.size))
        if len(tables) * loops.ROWS < len(column):  # nothing in them is wanted
            slopes = tables
        else:
            slopes = column.new_empty(ctx.n_shares, *tables.shape[1:]).numpy()
        column_gradients = column.new_empty(len(column) if ctx.needs_input_grad[1] else 0)
        given = output_gradients.contiguous().numpy()
        _share_out(
            ctx.n_shares,
            lambda share: loops.backward(
                *ctx.arguments, given, slopes, sums, column_gradients.numpy(), *share
            ),
        )
        cuts = ctx.layout.cuts
        gradients = column.new_empty(sum(cuts.sizes))
        total = sums.sum(0) if len(sums) > 1 else sums[0]
        loops.pack(gradients.numpy(), ctx.layout.features, total, True)
        wanted = column_gradients if ctx.needs_input_grad[1] else None
        return None, wanted, None, *cuts(gradients)


def _share_out(n_shares: int, work: Callable[[tuple[int, int]], None]) -> None:
    """Call ``work((0, n_shares))``, ``work((1, n_shares))``, ..., each in a thread of its own."""
    if n_shares == 1:
        work((0, 1))
        return
    with ThreadPoolExecutor(n_shares) as pool:
        list(pool.map(work, ((share, n_shares) for share in range(n_shares))))
