"""The mapping net in compiled loops (Numba): some rows at a time, from the inputs to the output.

Numbers lie in lines of ``ROWS``, one a feature; a block of them stays in the cache until all layers
are done. Numbers of features are rounded up to a multiple of ``TILE`` by idle features, whose
weights are 0. ``products`` has the arithmetic.

In the backward pass a layer's outputs are overwritten by their gradients once they are not needed:
half the lines fit into a smaller cache.
"""

from __future__ import annotations

import numpy as np

from qtlite.engine.compiled.compiling import compiled, compiled_sums
from qtlite.engine.compiled.products import (
    LANES,
    ROWS,
    TILE,
    WIDTH,
    multiply,
    weigh,
    weigh_slope,
    weigh_tanh,
)
from qtlite.engine.compiled.vectors import empty_vectors


@compiled_sums
def _sum(line):
    total = np.float32(0)
    for r in range(ROWS):
        total += line[r]
    return total


@compiled
def rounded_up(width):
    """Features with the idle ones."""
    return (width + TILE - 1) // TILE * TILE


@compiled
def pack(parameters, features):
    """Parameters where idle features have theirs, which are 0.

    Args:
        parameters: each layer's weight, flattened, and bias, one after the other.
        features: of the inputs and after each layer.

    Returns:
        As ``parameters``, for the features rounded up.
    """
    widths = rounded_up(features)
    packed = np.zeros((widths[1:] * (widths[:-1] + 1)).sum(), np.float32)
    _copy_parameters(parameters, features, packed, False)
    return packed


@compiled
def unpack(packed, features):
    """Inverse of ``pack``."""
    parameters = np.empty((features[1:] * (features[:-1] + 1)).sum(), np.float32)
    _copy_parameters(parameters, features, packed, True)
    return parameters


@compiled
def _copy_parameters(tensors, widths, packed, back):
    """From ``tensors`` to ``packed``, or back."""
    here = there = 0
    for layer in range(len(widths) - 1):
        n_in, n_out = widths[layer], widths[layer + 1]
        step, end = rounded_up(n_in), there + rounded_up(n_in) * rounded_up(n_out)
        for j in range(n_out):
            for k in range(n_in):
                if back:
                    tensors[here + j * n_in + k] = packed[there + j * step + k]
                else:
                    packed[there + j * step + k] = tensors[here + j * n_in + k]
            if back:
                tensors[here + n_out * n_in + j] = packed[end + j]
            else:
                packed[end + j] = tensors[here + n_out * n_in + j]
        here += n_out * (n_in + 1)
        there = end + rounded_up(n_out)


@compiled
def empty_tables(n, n_lines):
    """Tables of lines that are not initialised."""
    numbers = empty_vectors(n * n_lines * ROWS, np.empty(0, np.float32))
    return numbers.reshape(n, n_lines, ROWS)


@compiled
def copy(source, target, n):
    """Copy n numbers; written as an assignment to a slice, it takes seconds to compile."""
    for i in range(n):
        target[i] = source[i]


@compiled
def _read_inputs(inputs, bits, column, start):
    """A block's rows of Eq. 2: the bits of each row's number, then its entry of the column."""
    n_bits, zero, one = bits
    n_rows = min(ROWS, column.size - start)
    for k in range(n_bits):
        for r in range(n_rows):
            inputs[k, r] = one if (start + r) >> (n_bits - 1 - k) & 1 else zero
    copy(column[start:], inputs[n_bits], n_rows)
    inputs[: n_bits + 1, n_rows:] = 0
    inputs[n_bits + 1 :] = 0


@compiled
def _run_layers(inputs, lines, widths, has_tanh, parameters, n_layers):
    """Fill the lines of the first layers' outputs."""
    below, start, first, place = inputs, 0, 0, 0
    for layer in range(n_layers):
        n_in, n_out = widths[layer], widths[layer + 1]
        biases = place + n_out * n_in
        for row in range(0, ROWS, WIDTH * LANES):
            for j in range(0, n_out, TILE):
                if has_tanh[layer]:
                    weigh_tanh(
                        lines, first + j, lines, below, start, n_in, row,
                        parameters, place + j * n_in, n_in, 1, parameters, biases + j,
                    )  # fmt: skip
                else:
                    weigh(
                        lines, first + j, lines, below, start, n_in, row,
                        parameters, place + j * n_in, n_in, 1, parameters, biases + j,
                    )  # fmt: skip
        below, start = lines, first
        first += n_out
        place = biases + n_out


@compiled
def forward(
    bits, column, widths, has_tanh, parameters, tables, kept, outputs, share, n_shares
):  # fmt: skip
    """Run the net for each ``n_shares``-th block of rows.

    Args:
        bits: the number of a row's bits, and what stands for 0 and for 1, float32 like all.
        column: the last input, shape (M,).
        widths: features of the inputs and after each layer, rounded up; the last TILE for one.
        has_tanh: of each layer.
        parameters: see ``pack``.
        tables: written, shape (blocks, sum of widths[1:] + TILE, ROWS), each layer's outputs for
            ``backward``; with another number of blocks they are of no use to it.
        kept: written, the last hidden outputs for ``backward`` in that case, shape (blocks,
            widths[-2], ROWS); or none.
        outputs: written, shape (M,).
        share: the first block, less than ``n_shares``.
    """
    n_blocks, end = (column.size + ROWS - 1) // ROWS, widths[1:-1].sum()
    inputs = empty_tables(1, widths[0])[0]
    for block in range(share, n_blocks, n_shares):
        start = block * ROWS
        lines = tables[block if len(tables) == n_blocks else share]
        _read_inputs(inputs, bits, column, start)
        _run_layers(inputs, lines, widths, has_tanh, parameters, len(has_tanh))
        for k in range(kept.shape[1] if len(kept) else 0):
            copy(lines[end - widths[-2] + k], kept[block, k], ROWS)
        copy(lines[end], outputs[start:], min(ROWS, column.size - start))


@compiled
def backward(
    bits, column, widths, has_tanh, parameters, tables, kept, output_gradients,
    sums, column_gradients, share, n_shares,
):  # fmt: skip
    """Gradients for each ``n_shares``-th block, from those of the outputs.

    What ``forward`` has left neither in ``tables`` nor in ``kept`` is computed again.

    Args:
        sums: zeros to which each share adds the parameters' gradients, shape (n_shares,
            len(parameters)), float64.
        column_gradients: written, shape (M,), or empty if not wanted.
    """
    n_layers, end = len(has_tanh), widths[1:-1].sum()
    n_blocks, n_lines = (column.size + ROWS - 1) // ROWS, end + widths[-1]
    inputs, sums = empty_tables(1, widths[0])[0], sums[share]
    # where nothing is stored, gradients may take the place of the outputs
    is_stored = len(tables) == n_blocks
    slopes = empty_tables(1, tables.shape[1])[0] if is_stored else tables[share]
    nothing = np.zeros(TILE, np.float32)
    for block in range(share, n_blocks, n_shares):
        start, n_rows = block * ROWS, min(ROWS, column.size - block * ROWS)
        lines = tables[block if len(tables) == n_blocks else share]
        _read_inputs(inputs, bits, column, start)
        if len(tables) < n_blocks:
            n_again = n_layers - 2 if len(kept) else n_layers
            _run_layers(inputs, lines, widths, has_tanh, parameters, n_again)
            for k in range(kept.shape[1] if len(kept) else 0):
                copy(kept[block, k], lines[end - widths[-2] + k], ROWS)
        for r in range(n_rows):
            slope = np.float32(1) - lines[end, r] ** 2 if has_tanh[-1] else np.float32(1)
            slopes[end, r] = slope * output_gradients[start + r]
        slopes[end, n_rows:] = 0
        slopes[end + 1 : n_lines] = 0
        top, place = n_lines, parameters.size
        for layer in range(n_layers - 1, -1, -1):
            n_in, n_out = widths[layer], widths[layer + 1]
            first = top - n_out
            place -= n_out * (n_in + 1)
            below, bottom = (lines, first - n_in) if layer > 0 else (inputs, 0)
            for j in range(0, n_out, TILE):
                for k in range(0, n_in, TILE):
                    multiply(sums, place + j * n_in + k, n_in, slopes, first + j, below, bottom + k)
            for j in range(n_out):
                sums[place + n_out * n_in + j] += _sum(slopes[first + j])
            if layer > 0:
                for row in range(0, ROWS, WIDTH * LANES):
                    for k in range(0, n_in, TILE):
                        if has_tanh[layer - 1]:
                            weigh_slope(
                                slopes, bottom + k, lines, slopes, first, n_out, row,
                                parameters, place + k, 1, n_in, nothing, 0,
                            )  # fmt: skip
                        else:
                            weigh(
                                slopes, bottom + k, lines, slopes, first, n_out, row,
                                parameters, place + k, 1, n_in, nothing, 0,
                            )  # fmt: skip
            top = first
        if column_gradients.size > 0:
            tile = bits[0] // TILE * TILE  # of the inputs, the column among them
            for row in range(0, ROWS, WIDTH * LANES):
                weigh(
                    slopes, n_lines, lines, slopes, 0, widths[1], row,
                    parameters, tile, 1, widths[0], nothing, 0,
                )  # fmt: skip
            copy(slopes[n_lines + bits[0] - tile], column_gradients[start:], n_rows)
