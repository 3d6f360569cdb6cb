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

NOTHING = np.zeros(TILE, np.float32)


@compiled_sums
def _sum(line):
    total = np.float32(0)
    for r in range(ROWS):
        total += line[r]
    return total


@compiled
def copy(source, target, n):
    """Copy n numbers; written as an assignment to a slice, it takes seconds to compile."""
    for i in range(n):
        target[i] = source[i]


@compiled
def _read_inputs(lines, bits, column, start):
    """A block's rows of Eq. 2: the bits of each row's number, then its entry of the column."""
    n_bits, zero, one = bits
    n_rows = min(ROWS, column.size - start)
    for k in range(n_bits):
        for r in range(n_rows):
            lines[k, r] = one if (start + r) >> (n_bits - 1 - k) & 1 else zero
    copy(column[start:], lines[n_bits], n_rows)
    lines[: n_bits + 1, n_rows:] = 0
    lines[n_bits + 1 :] = 0


@compiled
def _run_layers(lines, widths, has_tanh, parameters, n_layers):
    """Fill the lines of the first layers' outputs."""
    below, first, place = len(lines) - widths[0], 0, 0
    for layer in range(n_layers):
        n_in, n_out = widths[layer], widths[layer + 1]
        biases = place + n_out * n_in
        for row in range(0, ROWS, WIDTH * LANES):
            for j in range(0, n_out, TILE):
                if has_tanh[layer]:
                    weigh_tanh(
                        lines, first + j, lines, lines, below, n_in, row,
                        parameters, place + j * n_in, n_in, 1, parameters, biases + j,
                    )  # fmt: skip
                else:
                    weigh(
                        lines, first + j, lines, lines, below, n_in, row,
                        parameters, place + j * n_in, n_in, 1, parameters, biases + j,
                    )  # fmt: skip
        below = first
        first += n_out
        place = biases + n_out


@compiled
def forward(
    bits, column, widths, has_tanh, parameters, tables, kept, outputs, share, n_shares
):  # fmt: skip
    """Compute every ``n_shares``-th block of rows.

    Args:
        bits: the number of a row's bits, and what stands for 0 and for 1, float32 like all.
        column: the last input, shape (M,).
        widths: features of the inputs and after each layer, rounded up; the last TILE for one.
        has_tanh: of each layer.
        parameters: each layer's weight and bias one after the other, with 0 for idle features.
        tables: written, shape (blocks, lines, ROWS): each layer's outputs, TILE lines for the
            column's gradients, and the inputs; with another number of blocks of no use to
            ``backward``.
        kept: written, the last hidden outputs for ``backward`` in that case, shape (blocks,
            widths[-2], ROWS); or none.
        outputs: written, shape (M,).
        share: the first block, less than ``n_shares``.
    """
    n_blocks = (column.size + ROWS - 1) // ROWS
    end = tables.shape[1] - widths[0] - TILE - widths[-1]
    for block in range(share, n_blocks, n_shares):
        start = block * ROWS
        lines = tables[block if len(tables) == n_blocks else share]
        _read_inputs(lines[len(lines) - widths[0] :], bits, column, start)
        _run_layers(lines, widths, has_tanh, parameters, len(has_tanh))
        for k in range(kept.shape[1] if len(kept) else 0):
            copy(lines[end - widths[-2] + k], kept[block, k], ROWS)
        copy(lines[end], outputs[start:], min(ROWS, column.size - start))


@compiled
def backward(
    bits, column, widths, has_tanh, parameters, tables, kept,
    output_gradients, slopes, sums, column_gradients, share, n_shares,
):  # fmt: skip
    """Gradients for each ``n_shares``-th block, from those of the outputs.

    What ``forward`` has left neither in ``tables`` nor in ``kept`` is computed again.

    Args:
        slopes: memory for each share's gradients; where nothing is stored, ``tables``: they take
            the place of the outputs.
        sums: zeros to which each share adds the parameters' gradients, shape (n_shares,
            len(parameters)), float64.
        column_gradients: written, shape (M,), or empty if not wanted.
    """
    n_layers, n_blocks = len(has_tanh), (column.size + ROWS - 1) // ROWS
    n_lines = tables.shape[1] - widths[0] - TILE
    end, slopes, sums = n_lines - widths[-1], slopes[share], sums[share]
    for block in range(share, n_blocks, n_shares):
        start, n_rows = block * ROWS, min(ROWS, column.size - block * ROWS)
        lines = tables[block if len(tables) == n_blocks else share]
        if len(tables) < n_blocks:
            _read_inputs(lines[len(lines) - widths[0] :], bits, column, start)
            n_again = n_layers - 2 if len(kept) else n_layers
            _run_layers(lines, widths, has_tanh, parameters, n_again)
            for k in range(kept.shape[1] if len(kept) else 0):
                copy(kept[block, k], lines[end - widths[-2] + k], ROWS)
        for r in range(n_rows):
            slope = np.float32(1) - lines[end, r] ** 2 if has_tanh[-1] else np.float32(1)
            slopes[end, r] = slope * output_gradients[start + r]
        slopes[end, n_rows:] = 0
        slopes[end + 1 : n_lines] = 0
        first, place = n_lines, parameters.size
        for layer in range(n_layers - 1, -1, -1):
            n_in, n_out = widths[layer], widths[layer + 1]
            first -= n_out
            place -= n_out * (n_in + 1)
            below = first - n_in if layer > 0 else len(lines) - n_in
            for j in range(0, n_out, TILE):
                for k in range(0, n_in, TILE):
                    multiply(sums, place + j * n_in + k, n_in, slopes, first + j, lines, below + k)
            for j in range(n_out):
                sums[place + n_out * n_in + j] += _sum(slopes[first + j])
            if layer > 0:
                tiles, target, is_slope = range(0, n_in, TILE), below, has_tanh[layer - 1]
            elif column_gradients.size > 0:  # of the inputs, the tile with the column among them
                tile = bits[0] // TILE * TILE
                tiles, target, is_slope = range(tile, tile + TILE, TILE), n_lines - tile, False
            else:
                continue
            for row in range(0, ROWS, WIDTH * LANES):
                for k in tiles:
                    if is_slope:
                        weigh_slope(
                            slopes, target + k, lines, slopes, first, n_out, row,
                            parameters, place + k, 1, n_in, NOTHING, 0,
                        )  # fmt: skip
                    else:
                        weigh(
                            slopes, target + k, lines, slopes, first, n_out, row,
                            parameters, place + k, 1, n_in, NOTHING, 0,
                        )  # fmt: skip
        if column_gradients.size > 0:
            copy(slopes[n_lines + bits[0] % TILE], column_gradients[start:], n_rows)
