"""The mapping net's arithmetic in blocks of rows that stay in the cache.

CIFAR-10's mapping net has 285,226 rows and up to 200 numbers a row and layer. Layer by layer, each
of these tables goes to memory and back several times, and more time is spent on that than on
computing. Where loops can be compiled and the numbers are float32 on a CPU, all layers are computed
for some hundred rows, then for the next (``compiled.mapping``). Of large tables, the backward pass
computes again what would have to be stored. The numbers are the same but for rounding.

torch.get_num_threads() rules: each thread takes its own share of the blocks. A given number of
threads always gives the same sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qtlite.engine.again import differentiable_gradients
from qtlite.engine.compiled.compiling import can_compile
from qtlite.engine.threads import share_out
from qtlite.mapping import mapping_inputs

MAX_STORED = 2**19  # of all layers' outputs: so few are stored for the backward pass
PARALLEL_WORK = 2**24  # multiply-adds: fewer are done before a thread has started


def map_column(
    net: nn.Sequential, bit_values: tuple[float, float], column: Tensor
) -> Tensor | None:
    """Map the rows of Eq. 2 that belong to a column.

    Args:
        net: Linear layers with biases, the last with one output; at most one Tanh after each.
        bit_values: what stands for bit 0 and for bit 1 in a row.
        column: the rows' last entries, shape (R,), R <= 2**N for a net with N + 1 inputs.

    Returns:
        Shape (R,); None where the compiled loops do not do what the net would: another kind of
        layer, dtype, device or shape, or a layer with hooks or a forward pass of its own.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        >>> inputs = torch.tensor([[0, 0, 0.1], [0, 1, 0.2], [1, 0, 0.3]])
        >>> torch.allclose(map_column(net, (0, 1), inputs[:, 2]), net(inputs).squeeze(1), atol=1e-6)
        True
    """
    found = read_net(net) if can_compile() and all(map(is_plain, (net, *net))) else None
    if found is None:
        return None
    layout, tensors = found
    if column.ndim != 1 or not 1 <= len(column) <= 2 ** (layout.features[0] - 1):
        return None
    if any(each.dtype != torch.float32 or not each.is_cpu for each in (column, *tensors)):
        return None
    return _CompiledMLP.apply(layout, bit_values, column, *tensors)


@dataclass(frozen=True, eq=False)
class NetLayout:
    """Layer sizes; ``rounded`` and below are padded to a multiple of TILE."""

    features: list[int]  # of the inputs and after each layer
    has_tanh: np.ndarray  # of each layer

    @cached_property
    def rounded(self) -> np.ndarray:
        """As ``features``; the first property that needs Numba."""
        from qtlite.engine.compiled.mapping import TILE

        return -(-np.array(self.features) // TILE) * TILE

    @cached_property
    def n_parameters(self) -> int:
        """Of the net, each layer's biases one more column."""
        return int((self.rounded[1:] * (self.rounded[:-1] + 1)).sum())

    @cached_property
    def n_outputs(self) -> int:
        """Of all layers."""
        return int(self.rounded[1:].sum())

    def split(self, packed: np.ndarray) -> list[np.ndarray]:
        """Views of packed parameters: each layer's weight and bias, without idle features."""
        views, place = [], 0
        for layer, (n_in, n_out) in enumerate(pairwise(self.rounded.tolist())):
            end = place + n_in * n_out
            weight = packed[place:end].reshape(n_out, n_in)
            views.append(weight[: self.features[layer + 1], : self.features[layer]])
            views.append(packed[end : end + self.features[layer + 1]])
            place = end + n_out
        return views

    def pack(self, tensors: Iterable[Tensor]) -> np.ndarray:
        """Inverse of ``split``, with 0 for idle features."""
        packed = np.zeros(self.n_parameters, np.float32)
        for view, tensor in zip(self.split(packed), tensors, strict=True):
            view[...] = tensor.numpy(force=True)
        return packed

    def tables(self, n: int) -> np.ndarray:
        """Memory for ``n`` blocks of rows, see ``compiled.mapping.forward``."""
        from qtlite.engine.compiled.mapping import ROWS, TILE
        from qtlite.engine.compiled.vectors import empty_vectors

        n_lines = self.n_outputs + TILE + int(self.rounded[0])
        return empty_vectors(n * n_lines * ROWS, np.empty(0, np.float32)).reshape(n, n_lines, ROWS)

    def division(self, n_rows: int) -> tuple[int, int, bool]:
        """Blocks and threads for ``n_rows`` rows; are all outputs kept for the backward pass?"""
        from qtlite.engine.compiled.mapping import ROWS

        n_blocks = -(-n_rows // ROWS)
        works = n_rows * self.n_parameters > PARALLEL_WORK
        n_shares = min(torch.get_num_threads(), n_blocks) if works else 1
        stored = n_blocks == n_shares or n_blocks * ROWS * self.n_outputs <= MAX_STORED
        return n_blocks, n_shares, stored


def read_net(net: nn.Sequential) -> tuple[NetLayout, list[Tensor]] | None:
    """A net's sizes, and its weights and biases in turn; None for other kinds of net.

    Args:
        net: see ``map_column``.

    Example:
        >>> layout, tensors = read_net(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)))
        >>> layout.features, [tuple(tensor.shape) for tensor in tensors]
        ([3, 4, 1], [(4, 3), (4,), (1, 4), (1,)])
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
            return None
    layout = _lay_out(tuple(has_tanh), tuple([tensor.shape for tensor in tensors]))
    return None if layout is None else (layout, tensors)


@lru_cache(maxsize=8)
def _lay_out(has_tanh: tuple[bool, ...], shapes: tuple[torch.Size, ...]) -> NetLayout | None:
    """Lay out layers whose weights and biases have these shapes; None if they do not fit."""
    weights, biases = shapes[::2], shapes[1::2]
    if not weights or weights[-1][0] != 1:
        return None
    pairs = zip(weights, biases, strict=True)
    if any(below[0] != above[1] for below, above in pairwise(weights)) or any(
        bias != weight[:1] for weight, bias in pairs
    ):
        return None
    features = [weights[0][1], *(n_outputs for n_outputs, _ in weights)]
    return NetLayout(features, np.array(has_tanh))


_FORWARDS = (nn.Sequential.forward, nn.Linear.forward, nn.Tanh.forward)


def is_plain(module: nn.Module) -> bool:
    """True if calling the module only does its arithmetic. (Pruning, for example, hooks in.)

    Args:
        module: of any kind.

    Example:
        >>> is_plain(nn.Tanh()), is_plain(nn.ReLU())
        (True, False)
    """
    return (
        type(module).forward in _FORWARDS
        and "forward" not in module.__dict__
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not module._backward_hooks
        and not module._backward_pre_hooks
    )


def _plain(layout: NetLayout, bit_values: tuple[float, float], column: Tensor, *tensors: Tensor):
    """The same in plain PyTorch."""
    values = mapping_inputs(column, layout.features[0] - 1, bit_values)
    for weight, bias, tanh in zip(tensors[::2], tensors[1::2], layout.has_tanh, strict=True):
        values = F.linear(values, weight, bias)
        values = values.tanh() if tanh else values
    return values.squeeze(1)


class _CompiledMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, layout: NetLayout, bit_values: tuple[float, float], column: Tensor, *tensors: Tensor
    ) -> Tensor:
        from qtlite.engine.compiled import mapping as loops

        n_rows = len(column)
        n_blocks, n_shares, stored = layout.division(n_rows)
        # the last hidden outputs of tables that are not stored: little, but they cost a big product
        keeps = not stored and len(layout.has_tanh) > 1 and not layout.has_tanh[-1]
        ctx.kept = (
            (layout.features[0] - 1, *map(np.float32, bit_values)),
            column.contiguous().numpy(force=True),
            layout.rounded,
            layout.has_tanh,
            layout.pack(tensors),
            layout.tables(n_blocks if stored else n_shares),
            np.empty((n_blocks if keeps else 0, layout.rounded[-2], loops.ROWS), np.float32),
        )
        outputs = np.empty(n_rows, np.float32)
        share_out(n_shares, lambda share: loops.forward(*ctx.kept, outputs, share, n_shares))
        ctx.layout, ctx.bit_values, ctx.division = layout, bit_values, (n_shares, stored)
        ctx.save_for_backward(column, *tensors)
        return torch.from_numpy(outputs)

    @staticmethod
    def backward(ctx, output_gradients: Tensor):
        from qtlite.engine.compiled import mapping as loops

        column, *_ = ctx.saved_tensors  # raises if one has been changed since
        if torch.is_grad_enabled():
            plain = partial(_plain, ctx.layout, ctx.bit_values)
            return None, None, *differentiable_gradients(plain, ctx.saved_tensors, output_gradients)
        layout, (n_shares, stored), wanted = ctx.layout, ctx.division, ctx.needs_input_grad[2]
        slopes = layout.tables(n_shares) if stored else ctx.kept[5]
        sums = np.zeros((n_shares, layout.n_parameters))
        column_gradients = np.empty(len(column) if wanted else 0, np.float32)
        given = output_gradients.contiguous().numpy(force=True)
        arguments = (*ctx.kept, given, slopes, sums, column_gradients)
        share_out(n_shares, lambda share: loops.backward(*arguments, share, n_shares))
        found = [torch.from_numpy(each.astype(np.float32)) for each in layout.split(sums.sum(0))]
        return None, None, torch.from_numpy(column_gradients) if wanted else None, *found
