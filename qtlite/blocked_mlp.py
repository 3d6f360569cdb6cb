"""The mapping net's arithmetic in blocks of rows that stay in the cache.

CIFAR-10's mapping net has 285,226 rows and up to 200 numbers a row and layer. Layer by layer, each
of these tables goes to memory and back several times, and more time is spent on that than on
computing. Here all layers are done for some thousand rows, then for the next; the backward pass
computes a block's layers again rather than storing them. The numbers are the same.

A net of a few dozen features, as MNIST's, is left to compiled loops that do the same for a hundred
rows (``mapping_loops``), where they can be had and the numbers are float32 on a CPU.

Otherwise torch.get_num_threads() rules: each thread takes its own share of the blocks, since
products this small gain nothing from being split. A number of threads always gives the same sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from qtlite.compiling import can_compile
from qtlite.fast_tanh import tanh_, times_slope_

FEW_NUMBERS = 2**19  # of all tables: so few make one block, whose tables are stored
# Of a block's tables: 4 MB in float32, and as much for gradients. Smaller ones are no faster on one
# thread; on two, each operation is so short that threads wait for the interpreter's lock.
BLOCK_NUMBERS = 2**20

NARROW = 64  # features: so few a layer that products of matrices cost more in calls than in work

# The tables carry a line of ones for the biases. Before a tanh it is this, whose tanh is 1.
ONE_BEFORE_TANH = 20.0


def blocked_mlp(net: nn.Sequential, bits: Tensor, column: Tensor) -> Tensor:
    """Compute ``net`` of ``bits`` and ``column`` side by side, for Linear layers and Tanh.

    Differentiable once with respect to the net's parameters and ``column``. Tables are laid out as
    ``bits`` is, transposed or not: for a few dozen features a layer it is faster transposed.

    Args:
        net: Linear layers with biases, the last with one output; at most one Tanh after each.
        bits: the inputs that never change, shape (M, n_inputs - 1).
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
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            tensors += [layer.weight, layer.bias]
            has_tanh.append(False)
        elif isinstance(layer, nn.Tanh) and has_tanh and not has_tanh[-1]:
            has_tanh[-1] = True
        else:
            raise ValueError(f"net must be Linear layers, each with at most a Tanh, got {layer}")
    if not tensors or len(tensors[-1]) != 1:
        raise ValueError(f"net must end in a Linear layer with one output, got {net}")
    n_inputs = tensors[0].shape[1]
    if bits.ndim != 2 or len(bits) == 0 or bits.shape[1] != n_inputs - 1:
        raise ValueError(
            f"bits must have shape (M, {n_inputs - 1}), M >= 1, got {tuple(bits.shape)}"
        )
    if column.shape != bits.shape[:1]:
        raise ValueError(f"column must have shape ({len(bits)},), got {tuple(column.shape)}")
    if bits.requires_grad:
        raise ValueError("bits must not require a gradient, got one that does: call its detach()")
    narrow = max(n_inputs, *map(len, tensors)) <= NARROW and can_compile()
    floats = {(t.device.type, t.dtype) for t in (bits, column, *tensors)}
    if narrow and floats == {("cpu", torch.float32)}:
        return _NarrowMLP.apply(bits, column, tuple(has_tanh), *tensors)
    return _BlockedMLP.apply(bits, column, tuple(has_tanh), *tensors)


class _NarrowMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, bits: Tensor, column: Tensor, has_tanh: tuple[bool, ...], *tensors: Tensor
    ) -> Tensor:
        from qtlite import mapping_loops

        lines = bits.T.contiguous()
        parameters = torch.cat([tensor.flatten() for tensor in tensors])
        widths = np.array([len(bits.T) + 1, *(len(bias) for bias in tensors[1::2])])
        outputs = torch.empty_like(column)
        ctx.settings = (widths, np.array(has_tanh))
        mapping_loops.forward(
            lines.numpy(), column.detach().contiguous().numpy(), *ctx.settings,
            parameters.numpy(), outputs.numpy(),
        )  # fmt: skip
        ctx.save_for_backward(lines, column, parameters, *tensors)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, output_gradients: Tensor):
        from qtlite import mapping_loops

        lines, column, parameters, *tensors = ctx.saved_tensors
        sums = np.empty(len(parameters))
        column_gradients = column.new_empty(len(column) if ctx.needs_input_grad[1] else 0)
        mapping_loops.backward(
            lines.numpy(), column.contiguous().numpy(), *ctx.settings, parameters.numpy(),
            output_gradients.contiguous().numpy(), sums, column_gradients.numpy(),
        )  # fmt: skip
        gradients = torch.from_numpy(sums).to(column.dtype).split([t.numel() for t in tensors])
        shaped = (g.view_as(tensor) for g, tensor in zip(gradients, tensors, strict=True))
        return None, column_gradients if ctx.needs_input_grad[1] else None, None, *shaped


class _BlockedMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, bits: Tensor, column: Tensor, has_tanh: tuple[bool, ...], *tensors: Tensor
    ) -> Tensor:
        layers = _with_biases(tensors, has_tanh)
        blocks = _Blocks(bits, column, layers, has_tanh)
        outputs = torch.empty_like(column)
        pieces = outputs.split(blocks.length)
        memory = blocks.room_to_keep()

        def work(share: range) -> _Tables | None:
            tables = None
            for place in share:
                tables = blocks.forward(place, tables, memory)
                pieces[place].copy_(tables.memory[-1])
            return tables

        tables = blocks.share_out(work)
        ctx.has_tanh = has_tanh
        ctx.tables = tables[0] if len(pieces) == 1 else None  # then nothing is computed again
        ctx.save_for_backward(bits, column, memory, *layers)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, output_gradients: Tensor):
        bits, column, memory, *layers = ctx.saved_tensors
        blocks = _Blocks(bits, column, layers, ctx.has_tanh)
        pieces = output_gradients.split(blocks.length)
        column_gradients = torch.empty_like(column) if ctx.needs_input_grad[1] else None
        column_pieces = () if column_gradients is None else column_gradients.split(blocks.length)

        def work(share: range) -> list[Tensor]:
            gradients = [torch.zeros_like(layer) for layer in layers]
            tables, slopes = ctx.tables, None
            for place in share:
                tables = ctx.tables or blocks.forward(place, tables, memory, again=True)
                slopes = blocks.backward(pieces[place], tables, slopes, gradients)
                if column_pieces:
                    torch.mv(slopes.lines[1].T, layers[0][:, -2], out=column_pieces[place])
            return gradients

        shares = zip(*blocks.share_out(work), strict=True)
        total = [sum(rest, first) for first, *rest in shares]
        total[:-1] = [g[:-1] for g in total[:-1]]  # less the line that passes the ones on
        return None, column_gradients, None, *(p for g in total for p in (g[:, :-1], g[:, -1]))


class _Tables:
    """A block's inputs and each layer's outputs: a line a feature, and a line of ones below.

    Through the ones, each layer's matrix takes its biases and passes the ones on: products and
    tanh need no care for them.
    """

    def __init__(self, n_rows: int, widths: list[int], like: Tensor):
        self.n_rows, self.transposed = n_rows, like.stride(0) == 1
        self.memory = [like.new_empty(width * n_rows) for width in widths]
        self.lines = [self._lines(memory) for memory in self.memory]
        self.bits, self.column = self.lines[0][:-2].T, self.lines[0][-2]
        self.lines[0][-1] = 1

    def replace(self, place: int, memory: Tensor) -> None:
        """Use ``memory`` for the table at ``place``."""
        self.memory[place], self.lines[place] = memory, self._lines(memory)

    def _lines(self, memory: Tensor) -> Tensor:
        return memory.view(-1, self.n_rows) if self.transposed else memory.view(self.n_rows, -1).T


class _Blocks:
    """The blocks of rows, what is done to one of them, and their sharing among threads."""

    def __init__(
        self, bits: Tensor, column: Tensor, layers: Sequence[Tensor], has_tanh: tuple[bool, ...]
    ):
        self.layers, self.has_tanh = layers, has_tanh
        self.widths = [layers[0].shape[1], *map(len, layers)]
        numbers = len(bits) * sum(self.widths)
        one_block = numbers <= FEW_NUMBERS or bits.device.type != "cpu"
        self.length = len(bits) if one_block else max(1, BLOCK_NUMBERS // sum(self.widths))
        self.inputs = list(zip(bits.split(self.length), column.split(self.length), strict=True))

    def room_to_keep(self) -> Tensor | None:
        """Memory for all last hidden outputs: little, but they cost a big product."""
        n_blocks, n_hidden = len(self.inputs), len(self.layers) - 1
        if n_blocks == 1 or n_hidden == 0:
            return None
        like, n_rows = self.layers[0], sum(len(column) for _, column in self.inputs)
        # numpy's memory, not torch's: it asks the system for huge pages
        memory = np.empty(n_rows * self.widths[-2] * like.itemsize, np.uint8)
        return torch.from_numpy(memory).view(like.dtype)

    def forward(
        self, place: int, tables: _Tables | None, kept: Tensor | None, again: bool = False
    ) -> _Tables:
        """Fill the tables for one block, or new ones if it is shorter; returns them.

        The last hidden outputs lie in ``kept`` and are there already if it is done ``again``.
        """
        bits, column = self.inputs[place]
        if tables is None or tables.n_rows != len(column):
            tables = _Tables(len(column), self.widths, bits)
        if kept is not None:
            size = self.widths[-2] * len(column)
            start = self.widths[-2] * self.length * place
            tables.replace(-2, kept[start : start + size])
        tables.bits.copy_(bits)
        tables.column.copy_(column)
        for i, layer in enumerate(self.layers):
            if again and not self._is_needed_again(i):
                continue
            torch.mm(layer, tables.lines[i], out=tables.lines[i + 1])
            if self.has_tanh[i]:
                tanh_(tables.memory[i + 1])
        return tables

    def _is_needed_again(self, place: int) -> bool:
        """Whether the backward pass has to compute this layer: it keeps the last hidden outputs.

        Of the last outputs it needs none, unless they are a tanh, whose slope they give.
        """
        last = len(self.layers) - 1
        return place < last - 1 or (place == last and self.has_tanh[last])

    def backward(
        self, above: Tensor, tables: _Tables, slopes: _Tables | None, gradients: list[Tensor]
    ) -> _Tables:
        """Add one block's share to the layers' gradients; returns the tables' gradients.

        ``slopes`` are tables to put them in, or new ones if they do not fit; ``above`` is the
        outputs' gradient, ``tables`` what ``forward`` returned.
        """
        if slopes is None or slopes.n_rows != len(above):
            slopes = _Tables(len(above), self.widths, tables.bits)
        slopes.memory[-1].copy_(above)
        for i in reversed(range(len(self.layers))):
            if self.has_tanh[i]:
                times_slope_(slopes.memory[i + 1], tables.memory[i + 1])
            # not addmm_, which would round each row's share to the size of the sum so far
            gradients[i] += slopes.lines[i + 1] @ tables.lines[i].T
            if i > 0:
                torch.mm(self.layers[i].T, slopes.lines[i + 1], out=slopes.lines[i])
        return slopes

    def share_out(self, work: Callable[[range], Any]) -> list[Any]:
        """Each thread's ``work(its blocks)``; the caller does a single block itself."""
        n_blocks, n_threads = len(self.inputs), torch.get_num_threads()
        n_shares = min(n_threads, n_blocks)
        try:
            torch.set_num_threads(1)  # this small, a product takes longer on two
            if n_shares == 1:
                return [work(range(n_blocks))]
            work = torch.inference_mode()(work)  # a mode is each thread's own
            shares = [range(first, n_blocks, n_shares) for first in range(n_shares)]
            with ThreadPoolExecutor(
                n_shares, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                return list(pool.map(work, shares))
        finally:
            torch.set_num_threads(n_threads)


def _with_biases(tensors: Sequence[Tensor], has_tanh: tuple[bool, ...]) -> list[Tensor]:
    """Each layer's weight with its bias as a last column; a line that passes on the ones below."""
    layers = []
    for weight, bias, tanh in zip(tensors[::2], tensors[1::2], has_tanh, strict=True):
        layer = weight.new_zeros(len(weight) + 1, weight.shape[1] + 1)
        layer[:-1, :-1], layer[:-1, -1] = weight, bias
        layer[-1, -1] = ONE_BEFORE_TANH if tanh else 1
        layers.append(layer)
    layers[-1] = layers[-1][:-1]
    return layers
