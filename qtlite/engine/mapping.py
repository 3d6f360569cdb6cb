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

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qtlite.engine.compiled.compiling import can_compile
from qtlite.engine.offsets import Cuts, join

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
    layout, tensors = read_net(net)
    if bits.ndim != 2 or len(bits) == 0 or bits.shape[1] != layout.n_bits:
        raise ValueError(
            f"bits must have shape (M, {layout.n_bits}), M >= 1, got {tuple(bits.shape)}"
        )
    if column.shape != bits.shape[:1]:
        raise ValueError(f"column must have shape ({len(bits)},), got {tuple(column.shape)}")
    if bits.requires_grad:
        raise ValueError("bits must not require a gradient, got one that does: call its detach()")
    if can_be_compiled(net, bits, column, *tensors):
        return _CompiledMLP.apply(layout, bits, column, *tensors)
    return net(torch.cat([bits, column[:, None]], dim=1)).squeeze(1)


@dataclass(frozen=True, eq=False)
class NetLayout:
    """Sizes of a net; ``rounded`` and what follows for features rounded up, as the loops want."""

    features: np.ndarray  # of the inputs and after each layer
    cuts: Cuts  # the weights and biases
    has_tanh: np.ndarray  # of each layer

    @cached_property
    def n_bits(self) -> int:
        """Inputs but the last."""
        return int(self.features[0]) - 1

    @cached_property
    def rounded(self) -> np.ndarray:
        """As ``features``; the first property that needs Numba."""
        from qtlite.engine.compiled.mapping import rounded_up

        return rounded_up(self.features)

    @cached_property
    def n_parameters(self) -> int:
        """Of the net, each layer's biases one more column."""
        return int((self.rounded[1:] * (self.rounded[:-1] + 1)).sum())

    @cached_property
    def n_outputs(self) -> int:
        """Of all layers."""
        return int(self.rounded[1:].sum())

    def n_blocks(self, n_rows: int) -> int:
        """Blocks that so many rows fill."""
        from qtlite.engine.compiled.mapping import ROWS

        return -(-n_rows // ROWS)

    def n_shares(self, n_rows: int) -> int:
        """Threads among which so many rows are shared out."""
        works = n_rows * self.n_parameters > PARALLEL_WORK
        return min(torch.get_num_threads(), self.n_blocks(n_rows)) if works else 1

    def is_stored(self, n_rows: int) -> bool:
        """Whether all layers' outputs are few enough to keep them for the backward pass."""
        from qtlite.engine.compiled.mapping import ROWS

        return self.n_blocks(n_rows) * ROWS * self.n_outputs <= FEW_NUMBERS


def read_net(net: nn.Sequential) -> tuple[NetLayout, list[Tensor]]:
    """A net's sizes, and its weights and biases in turn.

    Args:
        net: see ``blocked_mlp``, whose errors this raises.

    Example:
        >>> layout, tensors = read_net(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)))
        >>> layout.features.tolist(), [tuple(tensor.shape) for tensor in tensors]
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
            raise ValueError(f"net must be Linear layers, each with at most a Tanh, got {layer}")
    try:
        return _lay_out(tuple(has_tanh), tuple([tensor.shape for tensor in tensors])), tensors
    except ValueError as error:
        raise ValueError(f"{error}, got {net}") from None


@lru_cache(maxsize=8)
def _lay_out(has_tanh: tuple[bool, ...], shapes: tuple[torch.Size, ...]) -> NetLayout:
    """Of layers whose weights and biases have these shapes; ValueError if they do not fit."""
    weights, biases = shapes[::2], shapes[1::2]
    if not weights or weights[-1][0] != 1:
        raise ValueError("net must end in a Linear layer with one output")
    pairs = zip(weights, biases, strict=True)
    if any(below[0] != above[1] for below, above in pairwise(weights)) or any(
        bias != weight[:1] for weight, bias in pairs
    ):
        raise ValueError("net must have layers and biases that fit each other")
    features = np.array([weights[0][1], *(n_outputs for n_outputs, _ in weights)])
    return NetLayout(features, Cuts(shapes), np.array(has_tanh))


_FORWARDS = (nn.Sequential.forward, nn.Linear.forward, nn.Tanh.forward)


def is_plain(module: nn.Module, forwards: Sequence[Callable] = _FORWARDS) -> bool:
    """Whether calling the module does its arithmetic alone. (Pruning, for example, hooks in.)

    Args:
        module: of any kind.
        forwards: what its ``forward`` may be; that of a Sequential, Linear or Tanh if left out.

    Example:
        >>> is_plain(nn.Tanh()), is_plain(nn.ReLU())
        (True, False)
    """
    return (
        type(module).forward in forwards
        and "forward" not in module.__dict__
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not module._backward_hooks
        and not module._backward_pre_hooks
    )


def can_be_compiled(net: nn.Sequential, *tensors: Tensor) -> bool:
    """Whether compiled loops do what the net would.

    Args:
        net: that ``read_net`` has read.
        tensors: its inputs, weights and biases.

    Example:
        >>> can_be_compiled(nn.Sequential(nn.Linear(3, 1)), torch.ones(2, dtype=torch.float64))
        False
    """
    for tensor in tensors:
        if tensor.dtype != torch.float32 or not tensor.is_cpu:
            return False
    return can_compile() and all(map(is_plain, (net, *net)))


class _CompiledMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx, layout: NetLayout, bits: Tensor, column: Tensor, *tensors: Tensor) -> Tensor:
        from qtlite.engine.compiled import mapping as loops

        packed = loops.pack(join(tensors), layout.features)
        n_rows = len(column)
        n_blocks, n_shares = layout.n_blocks(n_rows), layout.n_shares(n_rows)
        stored = layout.is_stored(n_rows)
        n_tables, n_lines = n_blocks if stored else n_shares, layout.n_outputs + loops.TILE
        tables = loops.empty_tables(n_tables, n_lines)
        # the last hidden outputs of tables that are not stored: little, but they cost a big product
        keeps = not stored and len(layout.has_tanh) > 1 and not layout.has_tanh[-1]
        last_hidden = np.empty(
            (n_blocks if keeps else 0, layout.rounded[-2], loops.ROWS), np.float32
        )
        inputs = [each.contiguous().numpy(force=True) for each in (bits.T, column)]
        ctx.kept = (*inputs, layout.rounded, layout.has_tanh, packed, tables, last_hidden)
        outputs = np.empty(n_rows, np.float32)
        _share_out(n_shares, lambda share: loops.forward(*ctx.kept, outputs, *share))
        ctx.layout, ctx.n_shares = layout, n_shares
        ctx.save_for_backward(bits, column, *tensors)
        return torch.from_numpy(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, output_gradients: Tensor):
        from qtlite.engine.compiled import mapping as loops

        _, column, *_ = ctx.saved_tensors  # raises if one has been changed since
        layout, n_shares, wanted = ctx.layout, ctx.n_shares, ctx.needs_input_grad[2]
        sums = np.zeros((n_shares, layout.n_parameters))
        column_gradients = np.empty(len(column) if wanted else 0, np.float32)
        given = output_gradients.contiguous().numpy(force=True)
        arguments = (*ctx.kept, given, sums, column_gradients)
        _share_out(n_shares, lambda share: loops.backward(*arguments, *share))
        parameters = loops.unpack(sums.sum(0), layout.features)
        gradients = layout.cuts(torch.from_numpy(parameters))
        return None, None, torch.from_numpy(column_gradients) if wanted else None, *gradients


def _share_out(n_shares: int, work: Callable[[tuple[int, int]], None]) -> None:
    """Call ``work((0, n_shares))``, ``work((1, n_shares))``, ..., each in a thread of its own."""
    if n_shares == 1:
        work((0, 1))
        return
    with ThreadPoolExecutor(n_shares) as pool:
        list(pool.map(work, ((share, n_shares) for share in range(n_shares))))
