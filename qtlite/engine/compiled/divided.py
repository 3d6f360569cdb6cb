"""Compiled loops for a state of several chunks, which threads share.

A step takes two trips through memory: chunk by chunk for the low qubits, then column by column for
the high ones. In memory there is a gap behind each chunk. Where a step's permutation leaves the
numbers of a chunk together, as CNOTs from each qubit to the next do, it is done in place, along the
cycles in which chunks follow each other. Cycles and columns are the jobs of a work queue.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qtlite.engine.compiled.apply import gather, load_chunk, rotate, rotate_chunk
from qtlite.engine.compiled.compiling import compiled
from qtlite.engine.compiled.rotations import Layout

COLUMN = 32  # vectors side by side while the high qubits are rotated
SPIN_LIMIT = 32_000_000  # polls of a counter, some 5 ms: a new thread may wait so long for a core


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
def _rotate_cycle(
    arrays, buffers, buffer, cycle, shape, permutations, vectors, which, gates, overlaps
):  # fmt: skip
    """Do one cycle's chunks in place; the first one's content waits in a buffer for the last."""
    lanes, n_bits, _, gap = shape
    size = lanes << n_bits
    starts = permutations.cycle_starts[which]
    chunks = permutations.cycles[which, starts[cycle] : starts[cycle + 1]]
    for i in range(-1, len(chunks) - 1):
        chunk = chunks[i]  # the last one first
        target, start = (buffers, buffer) if i < 0 else (arrays, chunk * (size + gap))
        load_chunk(
            arrays, 0, target, start, chunk, shape, permutations, vectors, which, gates, overlaps
        )
        rotate_chunk(target, start, shape, gates, overlaps)
    for a in range(len(arrays)):
        last = arrays[a][chunks[-1] * (size + gap) :]
        for i in range(size):  # assigned to a slice, it takes seconds to compile
            last[i] = buffers[a][buffer + i]


@compiled
def _rotate_column(arrays, column, shape, gates, overlaps):
    """Rotate the first qubits, which number the chunks, in COLUMN neighbouring vectors of each."""
    lanes, n_bits, n_high, gap = shape
    tan, _, turned = gates
    first, row = column * COLUMN * lanes, (lanes << n_bits) + gap
    for qubit in range(0, n_high, 3):
        if not turned[qubit]:
            continue
        n = min(3, n_high - qubit)
        step = row << n_high - qubit - n  # between rows that differ in these qubits
        for block in range(1 << qubit):
            start = first + block * (step << n)
            layout = Layout(start, step, row, start, step, row, step // row, COLUMN, lanes)
            rotate(arrays, arrays, layout, tan, qubit, n, overlaps)


@compiled
def apply_divided(
    here, there, buffers, final, last,
    shape, permutations, vectors, order, kinds, gates, overlaps, queue, is_worker,
):  # fmt: skip
    """Permute by order[i] and rotate by row i of the gates, for each i; then permute by ``last``.

    The state starts ``here`` and goes ``there`` and back at each permutation that cannot be done in
    place. The last one takes it, without gaps, to ``final``. Writes ``overlaps``, shape (steps, N),
    if there is a gradient.

    Workers call this with the same arguments. ``queue`` is (claimed, done, partial): a thread
    claims a job of the present phase; when all jobs are done, the next phase begins. Chunks have
    their own rows of partial overlaps, added up one phase later, so that the sum does not depend on
    the order of threads. If the system preempts a worker, the others would spin: after SPIN_LIMIT
    polls the workers are cancelled and the caller finishes alone. (OpenMP's barriers took 20 times
    as long as one thread when a second process kept the cores busy.)
    """
    lanes, n_bits, n_high, gap = shape
    tan, scale, turned = gates
    claimed, done, partial = queue
    size, n_chunks, n_columns = lanes << n_bits, 1 << n_high, (1 << n_bits) // COLUMN
    buffer = add_one(claimed, claimed.size - 2) * size  # this thread's
    phase = 0
    for i in range(len(order) + 1):
        step = min(i, len(order) - 1)
        gate = (tan[step], scale[step], turned[kinds[step]])
        n_cycles = permutations.n_cycles[order[step]] if i < len(order) else 0
        if i < len(order) and n_cycles == 0:
            here, there = there, here
        n_jobs = n_cycles if n_cycles > 0 else n_chunks
        job = _claim_job(claimed, phase, is_worker)
        while job <= n_jobs:
            if job == n_jobs:
                _add_up(partial[(i - 1) % 2], overlaps[i - 1])
            elif n_cycles > 0:
                _rotate_cycle(
                    here, buffers, buffer, job, shape, permutations, vectors, order[i], gate,
                    partial[i % 2, job],
                )  # fmt: skip
            elif i < len(order):
                start, row = job * (size + gap), partial[i % 2, job]
                load_chunk(
                    there, 0, here, start, job, shape, permutations, vectors, order[i], gate, row
                )
                rotate_chunk(here, start, shape, gate, row)
            elif last >= 0:
                start, stop = job * size, (job + 1) * size
                gather(here[0], 0, final, start, start, stop, permutations, last)
            add_one(done, phase)
            job = _claim_job(claimed, phase, is_worker)
        if not _wait(claimed, done, phase, n_jobs + 1, is_worker):
            return
        phase += 1
        if i < len(order) and gate[2][:n_high].any():
            job = _claim_job(claimed, phase, is_worker)
            while job < n_columns:
                _rotate_column(here, job, shape, gate, partial[i % 2, job])
                add_one(done, phase)
                job = _claim_job(claimed, phase, is_worker)
            if not _wait(claimed, done, phase, n_columns, is_worker):
                return
            phase += 1


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
def _add_up(partial, overlaps):
    for row in partial:
        for q in range(row.size):
            overlaps[q] += row[q]
            row[q] = 0


def new_queue(n_steps, shape, n_overlaps):
    """An empty work queue."""
    _, n_bits, n_high, _ = shape
    n_jobs = max(1 << n_high, (1 << n_bits) // COLUMN)
    n_phases = 2 * n_steps + 1
    claimed = np.zeros(n_phases + 2, np.int64)  # the last two: threads; the workers are cancelled
    return claimed, np.zeros(n_phases, np.int64), np.zeros((2, n_jobs, n_overlaps))
