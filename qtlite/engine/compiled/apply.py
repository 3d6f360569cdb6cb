"""Compiled loops that take a state through a circuit: permute, rotate, permute, rotate ...

A state of several chunks takes two trips through memory a step: chunk by chunk for the low qubits,
then column by column for the high ones. In memory there is a gap behind each chunk. Where a step's
permutation leaves the numbers of a chunk together, as CNOTs from each qubit to the next do, it is
done in place, along the cycles in which chunks follow each other. Cycles and columns, or the states
of a batch, are the jobs of a work queue.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from qtlite.engine.compiled.compiling import compiled
from qtlite.engine.compiled.rotations import (
    Layout,
    rotate_1,
    rotate_2,
    rotate_3,
    rotate_first,
)
from qtlite.engine.compiled.vectors import VECTOR_BYTES, empty_vectors

COLUMN = 32  # vectors side by side while the high qubits are rotated
# between state and gradient: a power of two apart, they would push each other out of the cache
PADDING = 24  # vectors
SPIN_LIMIT = 32_000_000  # polls of a counter, some 5 ms: a new thread may wait so long for a core


class Permutations(NamedTuple):
    """The T gathers of a block, new[i] = signs[i] * old[sources[i]], in forms fit for the loops."""

    sources: np.ndarray  # (T, 2**N) int32, gaps counted in
    signs: np.ndarray  # (T, 2**N) int8; (T, 0) where every sign is +1
    whole: np.ndarray  # (T,) bool: a vector comes from one vector, sources = heads ^ pattern
    heads: np.ndarray  # (T, vectors) int32: the source of each vector's lane 0, gaps counted in
    pattern: np.ndarray  # (T, lanes), integers as wide as the floats
    # where chunks move as a whole: all chunks, each before the one that it takes the place of
    cycles: np.ndarray  # (T, chunks) int64
    cycle_starts: np.ndarray  # (T, chunks + 1) int64, where in ``cycles`` each cycle begins
    n_cycles: np.ndarray  # (T,), 0 where chunks are mixed, or there is only one


@intrinsic
def add_one(typing, counters, index):
    """counters[index] += 1 as one indivisible operation; returns what stood there before."""

    def emit(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", pointer, one, "seq_cst")

    return types.int64(types.int64[::1], types.int64), emit


@intrinsic
def look(typing, counters, index):
    """counters[index], as other threads have left it."""

    def emit(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(types.int64[::1], types.int64), emit


@compiled
def _rotate(source, target, layout, tan, qubit, n_qubits, overlaps):
    if n_qubits == 3:
        rotate_3(source, target, layout, tan, qubit, overlaps, None, None)
    elif n_qubits == 2:
        rotate_2(source, target, layout, tan, qubit, overlaps, None, None)
    else:
        rotate_1(source, target, layout, tan, qubit, overlaps, None, None)


@compiled
def _gather(source, source_state, target, start, first, stop, permutations, which):
    """Write amplitudes ``first`` to ``stop`` of the permuted state, from ``start`` on.

    The state to permute begins at element ``source_state``.
    """
    # unsigned: Numba would test a signed index for Python's counting from the end
    sources = permutations.sources[which]
    signed = permutations.signs.shape[1] > 0
    for a in range(len(source)):
        old, new = source[a], target[a][start:]
        if signed:
            signs = permutations.signs[which]
            for i in range(first, stop):
                new[i - first] = old[np.uint64(source_state + sources[i])] * signs[i]
        else:
            for i in range(first, stop):
                new[i - first] = old[np.uint64(source_state + sources[i])]


@compiled
def _load_chunk(
    source, state, target, start, chunk, shape, permutations, which, gates, overlaps
):  # fmt: skip
    """Permute into the chunk at ``start`` and rotate its last qubits, within eight vectors."""
    lanes, n_bits, n_high, _ = shape
    tan, scale, _ = gates
    first, stop = chunk * lanes << n_bits, (chunk + 1) * lanes << n_bits
    qubit = n_high + n_bits - 3
    if permutations.whole[which]:
        heads = permutations.heads[which][first // lanes : stop // lanes]
        permutation = (heads, permutations.pattern[which])
        layout = Layout(state, 0, 0, start, lanes, 0, 1, 1 << n_bits - 3, 8 * lanes)
        rotate_first(source, target, layout, tan, qubit, overlaps, permutation, scale)
    else:
        _gather(source, state, target, start, first, stop, permutations, which)
        layout = Layout(start, lanes, 0, start, lanes, 0, 1, 1 << n_bits - 3, 8 * lanes)
        rotate_first(target, target, layout, tan, qubit, overlaps, None, scale)


@compiled
def _rotate_chunk(source, source_start, target, start, shape, gates, overlaps, moves):
    """Rotate the other qubits that number a chunk's vectors.

    The chunk begins at these elements; if it ``moves``, the last sweep takes it to the target.
    """
    lanes, n_bits, n_high, _ = shape
    tan, _, rotated = gates
    qubit, bit = n_high + n_bits - 3, 3
    while bit < n_bits:
        n = min(3, n_bits - bit)
        qubit -= n
        row, n_blocks, n_groups = lanes << bit, 1 << n_bits - bit - n, 1 << bit
        bit += n
        if moves and bit == n_bits:
            layout = Layout(source_start, row, 0, start, row, 0, 1, n_groups, lanes)
            _rotate(source, target, layout, tan, qubit, n, overlaps)
        elif rotated[qubit : qubit + n].any():
            layout = Layout(
                source_start, row, row << n, source_start, row, row << n, n_blocks, n_groups, lanes
            )
            _rotate(source, source, layout, tan, qubit, n, overlaps)


@compiled
def _rotate_cycle(arrays, buffer, state, cycle, shape, permutations, which, gates, overlaps):
    """Do one cycle's chunks in place; the first one's content waits in the buffer for the last."""
    lanes, n_bits, _, gap = shape
    stride = (lanes << n_bits) + gap
    starts = permutations.cycle_starts[which]
    chunks = permutations.cycles[which, starts[cycle] : starts[cycle + 1]]
    last, zero = chunks[-1], np.int64(0)  # Numba would compile again for a literal 0
    _load_chunk(arrays, state, buffer, zero, last, shape, permutations, which, gates, overlaps)
    for chunk in chunks[:-1]:
        start = state + chunk * stride
        _load_chunk(
            arrays, state, arrays, start, chunk, shape, permutations, which, gates, overlaps
        )
        _rotate_chunk(arrays, start, arrays, start, shape, gates, overlaps, False)
    _rotate_chunk(buffer, zero, arrays, state + last * stride, shape, gates, overlaps, True)


@compiled
def _rotate_column(arrays, state, column, shape, gates, overlaps):
    """Rotate the first qubits, which number the chunks, in COLUMN neighbouring vectors of each."""
    lanes, n_bits, n_high, gap = shape
    tan, _, rotated = gates
    first, row = state + column * COLUMN * lanes, (lanes << n_bits) + gap
    for qubit in range(0, n_high, 3):
        n = min(3, n_high - qubit)
        if not rotated[qubit : qubit + n].any():
            continue
        step = row << n_high - qubit - n  # between rows that differ in these qubits
        for block in range(1 << qubit):
            start = first + block * (step << n)
            layout = Layout(start, step, row, start, step, row, step // row, COLUMN, lanes)
            _rotate(arrays, arrays, layout, tan, qubit, n, overlaps)


def arrays_like(arrays, n):
    """As many arrays of n elements, not initialised, PADDING apart, aligned to VECTOR_BYTES."""


@overload(arrays_like)
def _arrays_like_overload(arrays, n):
    padding = PADDING * VECTOR_BYTES * 8 // arrays.dtype.dtype.bitwidth

    def allocate(arrays, n):
        memory = empty_vectors(2 * n + padding, arrays[0])
        return (memory[:n], memory[n + padding :])

    def allocate_one(arrays, n):
        return (empty_vectors(n, arrays[0]),)

    return allocate_one if len(arrays) == 1 else allocate


@compiled
def walk(
    here, there, final, state,
    shape, permutations, order, last, kinds, gates, overlaps, queue, is_worker,
):  # fmt: skip
    """Permute by order[i] and rotate by row i of the gates, for each i; then permute by ``last``.

    The state begins at element ``state`` of each array. It starts ``here`` and goes ``there`` and
    back at each permutation that cannot be done in place, ``n_moves`` times. The last one takes
    it, without gaps, to ``final``, which may be the one of the two where it is not. Writes
    ``overlaps``, shape (steps, N), if there is a gradient.

    Workers call this with the same arguments. ``queue`` is (claimed, done, partial): a thread
    claims a job of the present phase; when all jobs are done, the next phase begins. Chunks have
    their own rows of partial overlaps, added up one phase later, so that the sum does not depend on
    the order of threads. If the system preempts a worker, the others would spin: after SPIN_LIMIT
    polls the workers are cancelled and the caller finishes alone. (OpenMP's barriers took 20 times
    as long as one thread when a second process kept the cores busy.)
    """
    lanes, n_bits, n_high, gap = shape
    tan, scale, rotated = gates
    claimed, done, partial = queue
    size, n_chunks, n_columns = lanes << n_bits, 1 << n_high, (1 << n_bits) // COLUMN
    buffer = arrays_like(here, size if n_high > 0 else 0)
    phase = 0
    for i in range(len(order) + 1):
        step = min(i, len(order) - 1)
        gate = (tan[step], scale[step], rotated[kinds[step]])
        in_place = _is_in_place(permutations, order, i)
        if i < len(order) and not in_place:
            here, there = there, here
        n_jobs = permutations.n_cycles[order[i]] if in_place else n_chunks
        job = _claim_job(claimed, phase, is_worker)
        while job <= n_jobs:
            if job == n_jobs:
                _add_up(partial[(i - 1) % 2], overlaps[i - 1])
            elif in_place:
                row = partial[i % 2, job]
                _rotate_cycle(here, buffer, state, job, shape, permutations, order[i], gate, row)
            elif i < len(order):
                row = partial[i % 2, job]
                start = state + job * (size + gap)
                _load_chunk(
                    there, state, here, start, job, shape, permutations, order[i], gate, row
                )
                _rotate_chunk(here, start, here, start, shape, gate, row, False)
            elif last >= 0:
                start = state // (size + gap) * size + job * size
                _gather(here, state, final, start, job * size, (job + 1) * size, permutations, last)
            add_one(done, phase)
            job = _claim_job(claimed, phase, is_worker)
        if not _wait(claimed, done, phase, n_jobs + 1, is_worker):
            return
        phase += 1
        if n_high > 0 and i < len(order) and gate[2][:n_high].any():
            job = _claim_job(claimed, phase, is_worker)
            while job < n_columns:
                _rotate_column(here, state, job, shape, gate, partial[i % 2, job])
                add_one(done, phase)
                job = _claim_job(claimed, phase, is_worker)
            if not _wait(claimed, done, phase, n_columns, is_worker):
                return
            phase += 1


@compiled
def _is_in_place(permutations, order, i):
    """Whether ``walk`` leaves the state in its array at step i."""
    return i < len(order) and permutations.n_cycles[order[i]] > 0


@compiled
def n_moves(permutations, order):
    """How often ``walk`` takes the state from ``here`` to ``there`` or back."""
    moves = 0
    for i in range(len(order)):
        if not _is_in_place(permutations, order, i):
            moves += 1
    return moves


@compiled
def _claim_job(claimed, phase, is_worker):
    """Claim the next job: its number, or one past all jobs."""
    if is_worker and look(claimed, claimed.size - 1):
        return np.iinfo(np.int64).max
    return add_one(claimed, phase)


@compiled
def _wait(claimed, done, phase, n_jobs, is_worker):
    """Wait until the phase is done; False if a worker should leave."""
    spins_left = SPIN_LIMIT
    while look(done, phase) < n_jobs:
        spins_left -= 1
        if spins_left == 0:
            add_one(claimed, claimed.size - 1)
        if is_worker and spins_left < 0:
            return False
    return not (is_worker and look(claimed, claimed.size - 1))


@compiled
def wait_for_all(claimed, done, n_jobs):
    """Wait for the only phase's jobs, or until the workers are cancelled."""
    while look(done, 0) < n_jobs and not look(claimed, claimed.size - 1):
        pass


@compiled
def _add_up(partial, overlaps):
    for row in partial:
        for q in range(row.size):
            overlaps[q] += row[q]
            row[q] = 0


@compiled
def new_queue(n_steps, shape, n_overlaps):
    """An empty work queue."""
    _, n_bits, n_high, _ = shape
    n_jobs = max(1 << n_high, (1 << n_bits) // COLUMN) if n_high else 1
    n_phases = 2 * n_steps + 1
    claimed = np.zeros(n_phases + 1, np.int64)  # the last: the workers are cancelled
    return claimed, np.zeros(n_phases, np.int64), np.zeros((2, n_jobs, n_overlaps))


@compiled
def walk_batch(
    here, there, final,
    shape, permutations, order, last, kinds, gates, overlaps, queue, is_worker,
):  # fmt: skip
    """``walk`` with every state of a batch, in groups that have each a row of ``overlaps``."""
    lanes, n_bits, n_high, gap = shape
    size = (lanes << n_bits) + gap << n_high
    n_states, n_groups, n_steps = here[0].size // size, len(overlaps), len(order)
    claimed, done, _ = queue
    group = add_one(claimed, 0)
    while group < n_groups:
        for n in range(n_states * group // n_groups, n_states * (group + 1) // n_groups):
            own = new_queue(n_steps, shape, overlaps.shape[2])
            walk(
                here, there, final, n * size,
                shape, permutations, order, last, kinds, gates, overlaps[group], own, is_worker,
            )  # fmt: skip
        add_one(done, 0)
        group = add_one(claimed, 0)
    if not is_worker:
        wait_for_all(claimed, done, n_groups)
