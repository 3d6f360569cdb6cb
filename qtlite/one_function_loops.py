"""Circuit, mapping net and normalisation in one compiled function each way (Numba).

For small targets: the state is not divided, one thread does all, and the net's tables are stored.
All arrays are float32 where nothing else is said.

The first call compiles for about 15 s and stores the code beside this file or in the user's cache
folder.
"""

from __future__ import annotations

import numba
import numpy as np

from qtlite.engine.compiled import apply as walk_loops
from qtlite.engine.compiled import mapping as mapping_loops
from qtlite.engine.compiled import normalisation as normalisation_loops
from qtlite.engine.compiled.apply import arrays_like, new_board
from qtlite.engine.compiled.compiling import compiled
from qtlite.engine.compiled.mapping import ROWS, TILE, copy, empty_tables, pack, unpack

# Numba inlines them below: compiling them by themselves first would take as long again.
_walk, _run_net, _run_net_back = (
    numba.njit(loops.py_func, inline="always")
    for loops in (walk_loops.walk, mapping_loops.forward, mapping_loops.backward)
)


@compiled
def forward(circuit, scale, bits, net, target, parameters):
    """Generate the target's numbers.

    Args:
        circuit: what ``Plan.walk`` returns.
        scale: of the probabilities that the net sees, a float.
        bits: the net's inputs but the last, shape (N, M).
        net: features of the inputs and after each layer, the same rounded up, and which layer has a
            tanh.
        target: tensors and scales, see ``normalisation_loops.forward``, and the number of rows.
        parameters: the net's weights and biases, one after the other.

    Returns:
        The numbers, shape (M,), and what ``backward`` needs: the amplitudes, the net's last input,
        its packed parameters and tables, and the rows' steepness.
    """
    shape, permutations, order, last, kinds, gates = circuit
    state = np.empty(shape[0] << shape[1], np.float32)
    here, there = arrays_like((state, state), state.size)
    here[:] = 0
    here[0] = 1
    # np.int64(0): for a literal 0, Numba would compile once more what it is given to
    _walk(
        (here,), (there,), (state,), np.int64(0), shape, permutations, order, last, kinds, gates,
        np.empty((len(order), 0)), new_board(len(order), shape, np.int64(0)), False,
    )  # fmt: skip
    column = np.empty(bits.shape[1], np.float32)
    for i in range(column.size):
        column[i] = np.float32(scale) * (state[i] * state[i])

    features, widths, has_tanh = net
    packed = pack(parameters, features)
    tables = empty_tables((column.size + ROWS - 1) // ROWS, widths[1:].sum() + TILE)
    nothing = np.empty((0, TILE, ROWS), np.float32)
    flat = np.empty_like(column)
    _run_net(bits, column, widths, has_tanh, packed, tables, nothing, flat, 0, 1)

    tensors, scales, n_rows = target
    outputs, steepness = np.empty_like(flat), np.empty(n_rows)
    normalisation_loops.forward(flat, tensors, scales, outputs, steepness)
    return outputs, (state, column, packed, tables, steepness)


@compiled
def backward(circuit, scale, bits, net, target, outputs, kept, gradients, with_circuit):
    """Turn gradients of the target's numbers into those of the net's parameters.

    Args:
        circuit: what ``Plan.walk`` returns for the way back.
        scale, bits, net, target: as given to ``forward``.
        outputs, kept: what it returned.
        gradients: of the outputs, shape (M,); overwritten.
        with_circuit: whether to walk back, too.

    Returns:
        The parameters' gradients, and the walk's overlaps, shape (steps, N), float64.
    """
    state, column, packed, tables, steepness = kept
    tensors, scales, _ = target
    normalisation_loops.backward(gradients, tensors, scales, outputs, steepness)

    features, widths, has_tanh = net
    sums, nothing = np.zeros((1, packed.size)), np.empty((0, TILE, ROWS), np.float32)
    column_gradients = np.empty(column.size if with_circuit else 0, np.float32)
    _run_net_back(
        bits, column, widths, has_tanh, packed, tables, nothing, gradients,
        sums, column_gradients, 0, 1,
    )  # fmt: skip
    parameter_gradients = unpack(sums[0], features)

    shape, permutations, order, last, kinds, gates = circuit
    overlaps = np.zeros(gates[0].shape)
    if with_circuit:
        pair = (state, state)
        here, there = arrays_like(pair, state.size), arrays_like(pair, state.size)
        copy(state, here[0], state.size)
        for i in range(column.size):
            here[1][i] = np.float32(2 * scale) * column_gradients[i] * state[i]
        here[1][column.size :] = 0
        _walk(
            here, there, there, np.int64(0), shape, permutations, order, last, kinds, gates,
            overlaps, new_board(len(order), shape, overlaps.shape[1]), False,
        )  # fmt: skip
    return parameter_gradients, overlaps
