"""Compiled loops that take states through a circuit: permute, rotate, permute, rotate ...

``apply_whole`` is for states that stay in a core's L2 cache. Larger ones are divided into chunks
that do: ``divided`` uses the same two steps, chunk by chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qtlite.engine.compiled.compiling import compiled, inlined
from qtlite.engine.compiled.rotations import Layout, rotate_1, rotate_2, rotate_3, rotate_first


class Permutations(NamedTuple):
    """The T gathers of a block, new[i] = signs[i] * old[sources[i]], in forms fit for the loops."""

    sources: np.ndarray  # (T, 2**N) int32, gaps counted in
    signs: np.ndarray  # (T, 2**N) int8; (T, 0) where every sign is +1
    # where chunks move as a whole: all chunks, each before the one that it takes the place of
    cycles: np.ndarray  # (T, chunks) int64
    cycle_starts: np.ndarray  # (T, chunks + 1) int64, where in ``cycles`` each cycle begins
    n_cycles: np.ndarray  # (T,), 0 where chunks are mixed, or there is only one


class Vectors(NamedTuple):
    """Permutations that take each vector from one vector: sources = heads ^ pattern."""

    heads: np.ndarray  # (T, vectors) int32: the source of each vector's lane 0, gaps counted in
    pattern: np.ndarray  # (T, lanes), integers as wide as the floats


@inlined
def rotate(source, target, layout, tan, qubit, n_qubits, overlaps):
    """Rotate up to three qubits that number the vectors; see ``rotations``."""
    if n_qubits == 3:
        rotate_3(source, target, layout, tan, qubit, overlaps, None, None)
    elif n_qubits == 2:
        rotate_2(source, target, layout, tan, qubit, overlaps, None, None)
    else:
        rotate_1(source, target, layout, tan, qubit, overlaps, None, None)


@compiled
def gather(old, old_start, new, new_start, first, stop, permutations, which):
    """Write amplitudes ``first`` to ``stop`` of a permuted state, which begin at these elements."""
    # unsigned: Numba would test a signed index for Python's counting from the end
    sources, new = permutations.sources[which], new[new_start:]
    if permutations.signs.shape[1] > 0:
        signs = permutations.signs[which]
        for i in range(first, stop):
            new[i - first] = old[np.uint64(old_start + sources[i])] * signs[i]
    else:
        for i in range(first, stop):
            new[i - first] = old[np.uint64(old_start + sources[i])]


@compiled
def load_chunk(
    source, source_start, target, start, chunk, shape, permutations, vectors, which, gates, overlaps
):  # fmt: skip
    """Permute into the chunk at ``start`` and rotate its last qubits, within eight vectors."""
    lanes, n_bits, n_high, _ = shape
    tan, scale, _ = gates
    first, stop = chunk * lanes << n_bits, (chunk + 1) * lanes << n_bits
    qubit = n_high + n_bits - 3
    if vectors is None:  # known when this is compiled
        for a in range(len(source)):
            gather(source[a], source_start, target[a], start, first, stop, permutations, which)
        layout = Layout(start, lanes, 0, start, lanes, 0, 1, 1 << n_bits - 3, 8 * lanes)
        rotate_first(target, target, layout, tan, qubit, overlaps, None, scale)
    else:
        heads = vectors.heads[which][first // lanes : stop // lanes]
        permutation = (heads, vectors.pattern[which])
        layout = Layout(source_start, 0, 0, start, lanes, 0, 1, 1 << n_bits - 3, 8 * lanes)
        rotate_first(source, target, layout, tan, qubit, overlaps, permutation, scale)


@inlined
def rotate_chunk(arrays, start, shape, gates, overlaps):
    """Rotate the other qubits that number the vectors of the chunk at ``start``."""
    lanes, n_bits, n_high, _ = shape
    tan, _, turned = gates
    qubit, bit = n_high + n_bits - 3, 3
    while bit < n_bits:
        n = min(3, n_bits - bit)
        qubit -= n
        if turned[qubit]:
            row, n_blocks = lanes << bit, 1 << n_bits - bit - n
            layout = Layout(start, row, row << n, start, row, row << n, n_blocks, 1 << bit, lanes)
            rotate(arrays, arrays, layout, tan, qubit, n, overlaps)
        bit += n


@compiled
def apply_whole(
    here, there, states, shape, permutations, vectors, order, kinds, gates, overlaps
):  # fmt: skip
    """Permute by order[i] and rotate by row i of the gates, for each i, each of these states.

    They begin ``here``, one behind the other; each permutation takes them ``there`` or back. Adds
    to ``overlaps``, shape (steps, N), if there is a gradient.
    """
    lanes, n_bits, _, _ = shape
    tan, scale, turned = gates
    for state in range(states[0], states[1]):
        start = state * (lanes << n_bits)
        old, new = here, there
        for i in range(len(order)):
            gate = (tan[i], scale[i], turned[kinds[i]])
            load_chunk(
                old, start, new, start, 0, shape, permutations, vectors, order[i], gate, overlaps[i]
            )
            rotate_chunk(new, start, shape, gate, overlaps[i])
            old, new = new, old
