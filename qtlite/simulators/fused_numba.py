"""The fused simulator in compiled loops (Numba): the fast one on a CPU.

A state is read as vectors of 64 bytes: the last qubits (4 in float32, 3 in float64) lie inside a
vector, the others number the vectors. One sweep loads groups of eight vectors that differ in three
qubits, rotates these in registers and stores the eight again. The first sweep of a step also
rotates the qubits inside the vectors and loads through the permutation of the step before. Loops
written in Python do not compile to this reliably, so the sweep is written in LLVM's portable vector
instructions (``_sweep``) and Numba compiles the loops around it.

Rotations are done without their cosines, by one multiply-add an amplitude; the product of a step's
cosines is multiplied in once, as its first sweep loads.

A state of more than ``WHOLE`` vectors takes two trips through memory a step: chunk by chunk for the
low qubits, then column by column for the high ones. In memory there is a gap behind each chunk.
Where a step's permutation leaves the numbers of a chunk together, as CNOTs from each qubit to the
next do, it is done in place, along the cycles in which chunks follow each other.
torch.get_num_threads() rules here too: where it pays, cycles and columns, or the states of a batch,
are shared among so many threads.

The backward pass undoes each step on the state and on its gradient together and keeps no other
state. ``expectations`` takes a batch of product states one after the other, each from its qubits to
<Z> (and from the gradients of <Z> back to those of its qubits) while it is in the cache.

The first call for a dtype compiles for about 7 s (12 s for a batch, 14 s for ``expectations``) and
stores the code beside this file or in the user's cache folder; later processes load it in 0.4 s.
"""

from __future__ import annotations

import _thread
import weakref
from collections.abc import Callable
from functools import cache, lru_cache
from time import monotonic
from typing import NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from torch import Tensor
from torch.nn.functional import pad

from qtlite.compiling import compiled, compiled_sums
from qtlite.simulators.real_block import RealBlock
from qtlite.vectors import VECTOR_BYTES, Vectors, const

WHOLE = 2**13  # vectors, 512 KB: four arrays of so many fit into the L2 cache: not divided
# vectors, 2 MB: smaller states stay in one core's L2 cache, and would be slow to fetch from there
SHARED = 2**15
CHUNK = 2**9  # vectors: 32 KB, which take all sweeps of the low qubits while in the L1 cache
MOST_CHUNKS = 2**6  # of a larger state, chunks are larger: columns of more rows were slower
COLUMN = 32  # vectors side by side while the high qubits are rotated
# between chunks: a power of two apart, those of a column would share few lines of the cache
GAP = 9  # vectors
AHEAD = 32  # vectors: so far in front of a permuted load, its cache line is asked for
# between state and gradient: a power of two apart, they would push each other out of the cache
PADDING = 24  # vectors
GROUPS = 32  # of the states in a batch: what threads share out
PATIENCE = 32_000_000  # looks at a counter, some 5 ms: a new thread may wait so long for its core
# What the amplitudes are scaled to at most before a step's rotations let them grow again: overlaps
# are taken in between, and must be far from the smallest float32.
SMALLEST_SCALE = 2.0**-32
KEPT_BYTES = 2**26  # of memory from one walk for the next: enough for a gradient of 22 qubits
PARALLEL_WORK = 2**21  # amplitudes times steps: less is done before a thread has started


class Layout(NamedTuple):
    """Where a sweep finds its groups of R vectors, in elements of an array."""

    source_start: int
    source_row: int  # from one vector of a group to the next
    source_block: int  # from one block of groups to the next
    target_start: int
    target_row: int
    target_block: int
    n_blocks: int
    n_groups: int  # in a block
    group: int  # from one group to the next


class Permutations(NamedTuple):
    """The T gathers of a block, new[i] = signs[i] * old[sources[i]], in forms fit for the loops."""

    sources: np.ndarray  # (T, 2**N) int32, gaps counted in
    signs: np.ndarray  # (T, 2**N) int8; (T, 0) where every sign is +1
    whole: np.ndarray  # (T,) bool: a vector comes from one vector, sources = heads ^ pattern
    heads: np.ndarray  # (T, vectors) int32: the source of each vector's lane 0, gaps counted in
    pattern: np.ndarray  # (T, lanes), integers as wide as the floats
    # where chunks move as a whole: all chunks, each before the one that it takes the place of
    cycles: np.ndarray  # (T, chunks) int32
    cycle_starts: np.ndarray  # (T, chunks + 1) int32, where in ``cycles`` each cycle begins
    n_cycles: np.ndarray  # (T,), 0 where chunks are mixed, or there is only one


# ---------------------------------------------------------------- one sweep, in LLVM's instructions


def _sweep(n_row_qubits: int, in_vector: bool):
    """Make the intrinsic that rotates neighbouring qubits in groups of R = 2**n_row_qubits vectors.

    With ``in_vector`` it rotates the qubits inside a vector too. The intrinsic takes the arrays to
    read and the arrays to write, each (state,) or (state, gradient); their ``Layout``; the tangents
    of half the angles, and the number of the first qubit among them; overlaps, to which it adds
    sum(g1 * s0 - g0 * s1) over the pairs of each qubit if there is a gradient; and how to load:
    (heads, pattern) of a permutation or None, and what to multiply by or None.
    """

    def intrinsic_sweep(typing, source, target, layout, tan, qubit, overlaps, permutation, scale):
        arguments = (source, target, layout, tan, types.int64, overlaps, permutation, scale)
        return types.void(*arguments), emit

    def emit(context, builder, signature, arguments):
        def data(type_, array):
            return context.make_array(type_)(context, builder, array).data

        def unpack(type_, arrays):
            if isinstance(type_, types.NoneType):
                return None
            arrays = cgutils.unpack_tuple(builder, arrays)
            return [data(t, array) for t, array in zip(type_.types, arrays, strict=True)]

        def along(start, n, step):
            return builder.add(start, builder.mul(n, step))

        types_ = signature.args
        source, target, permutation = (unpack(types_[i], arguments[i]) for i in (0, 1, 6))
        tan, overlaps = (data(types_[i], arguments[i]) for i in (3, 5))
        layout = Layout(*cgutils.unpack_tuple(builder, arguments[2]))
        first_qubit = arguments[4]
        adjoint = len(source) == 2
        v = Vectors(builder, types_[0].dtype.dtype.bitwidth)
        rows = range(2**n_row_qubits)
        n_qubits = n_row_qubits + (v.n_lanes.bit_length() - 1 if in_vector else 0)
        row_bits = [2**n_row_qubits >> q + 1 for q in range(n_row_qubits)]
        lane_bits = [2**n_qubits >> q + 1 for q in range(n_row_qubits, n_qubits)]

        qubits = [builder.add(first_qubit, const(q)) for q in range(n_qubits)]
        tan = [v.splat(builder.load(builder.gep(tan, [q]))) for q in qubits]
        for q, bit in enumerate(lane_bits, start=n_row_qubits):
            tan[q] = builder.fmul(tan[q], v.minus_where_zero(bit, v.type))
        scale = None if isinstance(types_[7], types.NoneType) else v.splat(arguments[7])
        zeros = v.constant(0)
        totals = [cgutils.alloca_once_value(builder, zeros) for _ in qubits] if adjoint else []
        if permutation:
            heads, pattern = permutation[0], v.load(permutation[1], const(0), v.words)

        def vector_from(head):
            start = builder.zext(builder.and_(head, head.type(-v.n_lanes)), const(0).type)
            return builder.add(layout.source_start, start)

        def load(row, source_start, target_start):
            if permutation is None:
                position = along(source_start, const(row), layout.source_row)
                return [v.load(pointer, position) for pointer in source]
            place = builder.sub(
                along(target_start, const(row), layout.target_row), layout.target_start
            )
            vector = builder.udiv(place, const(v.n_lanes))
            last = builder.sub(builder.mul(layout.n_groups, const(len(rows))), const(1))
            later = builder.and_(builder.add(vector, const(AHEAD)), last)
            for pointer in source:  # the processor cannot guess where the permutation goes next
                v.prefetch(pointer, vector_from(builder.load(builder.gep(heads, [later]))))
            head = builder.load(builder.gep(heads, [vector]))
            position = vector_from(head)
            lanes = builder.and_(head, head.type(v.n_lanes - 1))
            if v.bits == 64:
                lanes = builder.zext(lanes, const(0).type)
            lanes = builder.xor(pattern, v.splat(lanes, v.words))
            return [v.permute(v.load(pointer, position), lanes) for pointer in source]

        def rotate_rows(q, bit, group):
            for low in rows:
                if low & bit:
                    continue
                zero, one = group[low], group[low | bit]
                if adjoint:
                    total = v.muladd(one[1], zero[0], builder.load(totals[q]))
                    total = v.muladd(builder.fneg(zero[1]), one[0], total)
                    builder.store(total, totals[q])
                for a in range(len(zero)):
                    turned = v.muladd(builder.fneg(tan[q]), one[a], zero[a])
                    one[a] = v.muladd(tan[q], zero[a], one[a])
                    zero[a] = turned

        def rotate_lanes(q, bit, group):
            flip = [lane ^ bit for lane in range(v.n_lanes)]
            for row in group:
                partners = [v.reorder(value, flip) for value in row]
                if adjoint:
                    builder.store(v.muladd(row[1], partners[0], builder.load(totals[q])), totals[q])
                for a, partner in enumerate(partners):
                    row[a] = v.muladd(tan[q], partner, row[a])

        with cgutils.for_range(builder, layout.n_blocks, intp=const(0).type) as block:
            source_block = along(layout.source_start, block.index, layout.source_block)
            target_block = along(layout.target_start, block.index, layout.target_block)
            with cgutils.for_range(builder, layout.n_groups, intp=const(0).type) as loop:
                source_start = along(source_block, loop.index, layout.group)
                target_start = along(target_block, loop.index, layout.group)
                group = [load(row, source_start, target_start) for row in rows]
                if scale:
                    group = [[builder.fmul(scale, value) for value in row] for row in group]
                for q, bit in enumerate(row_bits):
                    rotate_rows(q, bit, group)
                for q, bit in enumerate(lane_bits, start=n_row_qubits):
                    rotate_lanes(q, bit, group)
                for row in rows:
                    position = along(target_start, const(row), layout.target_row)
                    for value, pointer in zip(group[row], target, strict=True):
                        v.store(value, pointer, position)

        for q, total in enumerate(totals):
            total = builder.load(total)
            if q >= n_row_qubits:
                total = builder.fmul(total, v.minus_where_zero(lane_bits[q - n_row_qubits], v.type))
            pointer = builder.gep(overlaps, [qubits[q]])
            builder.store(builder.fadd(builder.load(pointer), v.sum(total)), pointer)
        return context.get_dummy_value()

    return intrinsic(intrinsic_sweep)


@intrinsic
def _add_one(typing, counters, index):
    """counters[index] += 1 as one indivisible operation; returns what stood there before."""

    def emit(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", pointer, one, "seq_cst")

    return types.int64(types.int64[::1], types.int64), emit


@intrinsic
def _look(typing, counters, index):
    """counters[index], as other threads have left it."""

    def emit(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(types.int64[::1], types.int64), emit


_rotate_first = _sweep(3, in_vector=True)
_rotate_1, _rotate_2, _rotate_3 = (_sweep(n, in_vector=False) for n in (1, 2, 3))


# ------------------------------------------------------------------------ the loops around a sweep


@compiled
def _rotate(source, target, layout, tan, qubit, n_qubits, overlaps):
    if n_qubits == 3:
        _rotate_3(source, target, layout, tan, qubit, overlaps, None, None)
    elif n_qubits == 2:
        _rotate_2(source, target, layout, tan, qubit, overlaps, None, None)
    else:
        _rotate_1(source, target, layout, tan, qubit, overlaps, None, None)


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
    """Permute into one chunk and rotate its last qubits, those within eight vectors.

    The state begins at this element of ``source``, the chunk at ``start`` of ``target``.
    """
    lanes, n_bits, n_high, _ = shape
    tan, scale, _ = gates
    first, stop = chunk * lanes << n_bits, (chunk + 1) * lanes << n_bits
    qubit = n_high + n_bits - 3
    if permutations.whole[which]:
        heads = permutations.heads[which][first // lanes : stop // lanes]
        permutation = (heads, permutations.pattern[which])
        layout = Layout(state, 0, 0, start, lanes, 0, 1, 1 << n_bits - 3, 8 * lanes)
        _rotate_first(source, target, layout, tan, qubit, overlaps, permutation, scale)
    else:
        _gather(source, state, target, start, first, stop, permutations, which)
        layout = Layout(start, lanes, 0, start, lanes, 0, 1, 1 << n_bits - 3, 8 * lanes)
        _rotate_first(target, target, layout, tan, qubit, overlaps, None, scale)


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
    """Do one cycle's chunks in place.

    Each takes what the next one holds. What the last one takes, which the first one held, waits in
    the buffer until the others are done.
    """
    lanes, n_bits, _, gap = shape
    stride = (lanes << n_bits) + gap
    starts = permutations.cycle_starts[which]
    chunks = permutations.cycles[which, starts[cycle] : starts[cycle + 1]]
    last = chunks[-1]
    _load_chunk(arrays, state, buffer, 0, last, shape, permutations, which, gates, overlaps)
    for chunk in chunks[:-1]:
        start = state + chunk * stride
        _load_chunk(
            arrays, state, arrays, start, chunk, shape, permutations, which, gates, overlaps
        )
        _rotate_chunk(arrays, start, arrays, start, shape, gates, overlaps, False)
    _rotate_chunk(buffer, 0, arrays, state + last * stride, shape, gates, overlaps, True)


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


def _arrays_like(arrays, n):
    """As many arrays of n elements, not initialised, PADDING apart, aligned to VECTOR_BYTES."""


@overload(_arrays_like)
def _arrays_like_overload(arrays, n):
    n_arrays = len(arrays)
    itemsize = arrays.dtype.dtype.bitwidth // 8
    lanes, padding = VECTOR_BYTES // itemsize, PADDING * VECTOR_BYTES // itemsize

    def allocate(arrays, n):
        memory = np.empty(n_arrays * (n + padding) + lanes, arrays[0].dtype)
        start = lanes - memory.ctypes.data % VECTOR_BYTES // itemsize
        second = start + n + padding
        return (memory[start : start + n], memory[second : second + n])

    def allocate_one(arrays, n):
        memory = np.empty(n + lanes, arrays[0].dtype)
        start = lanes - memory.ctypes.data % VECTOR_BYTES // itemsize
        return (memory[start : start + n],)

    return allocate_one if n_arrays == 1 else allocate


@compiled
def _walk(
    here, there, final, state,
    shape, permutations, order, last, kinds, gates, overlaps, board, helping,
):  # fmt: skip
    """Permute by order[i] and rotate by row i of the gates, for each i; then permute by ``last``.

    The state begins at element ``state`` of each array. It starts ``here`` and goes ``there`` and
    back at each permutation that cannot be done in place, ``_n_moves`` times. The last one takes
    it, without gaps, to ``final``, which may be the one of the two where it is not. Writes
    ``overlaps``, shape (steps, N), if there is a gradient.

    Helping threads call this with the same arguments. ``board`` is (claimed, done, partial): a
    thread claims a job of the present phase, does it, and so on; when all jobs are done, the next
    phase begins. Chunks have their own rows of partial overlaps, added up one phase later, lest the
    sum depend on who came first. On a busy machine the system may put a thread to sleep in the
    middle of a job, for a thousand times as long as the job takes: whoever has waited so long calls
    the help off, and the caller does the rest alone. (OpenMP's barriers, which wait each time,
    took 20 times as long as one thread when a second process kept the cores busy.)
    """
    lanes, n_bits, n_high, gap = shape
    tan, scale, rotated = gates
    claimed, done, partial = board
    size, n_chunks, n_columns = lanes << n_bits, 1 << n_high, (1 << n_bits) // COLUMN
    buffer = _arrays_like(here, size if n_high > 0 else 0)
    phase = 0
    for i in range(len(order) + 1):
        step = min(i, len(order) - 1)
        gate = (tan[step], scale[step], rotated[kinds[step]])
        in_place = _is_in_place(permutations, order, i)
        if i < len(order) and not in_place:
            here, there = there, here
        n_jobs = permutations.n_cycles[order[i]] if in_place else n_chunks
        job = _claim_job(claimed, phase, helping)
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
            _add_one(done, phase)
            job = _claim_job(claimed, phase, helping)
        if not _wait(claimed, done, phase, n_jobs + 1, helping):
            return
        phase += 1
        if n_high > 0 and i < len(order) and gate[2][:n_high].any():
            job = _claim_job(claimed, phase, helping)
            while job < n_columns:
                _rotate_column(here, state, job, shape, gate, partial[i % 2, job])
                _add_one(done, phase)
                job = _claim_job(claimed, phase, helping)
            if not _wait(claimed, done, phase, n_columns, helping):
                return
            phase += 1


@compiled
def _is_in_place(permutations, order, i):
    """Whether ``_walk`` leaves the state in its array at step i."""
    return i < len(order) and permutations.n_cycles[order[i]] > 0


@compiled
def _n_moves(permutations, order):
    """How often ``_walk`` takes the state from ``here`` to ``there`` or back."""
    moves = 0
    for i in range(len(order)):
        if not _is_in_place(permutations, order, i):
            moves += 1
    return moves


@compiled
def _claim_job(claimed, phase, helping):
    """The number of a job that is now the caller's, or one past all jobs."""
    if helping and _look(claimed, claimed.size - 1):
        return np.iinfo(np.int64).max
    return _add_one(claimed, phase)


@compiled
def _wait(claimed, done, phase, n_jobs, helping):
    """Wait until the phase is done; False if a helping thread should leave."""
    patience = PATIENCE
    while _look(done, phase) < n_jobs:
        patience -= 1
        if patience == 0:
            _add_one(claimed, claimed.size - 1)
        if helping and patience < 0:
            return False
    return not (helping and _look(claimed, claimed.size - 1))


@compiled
def _add_up(partial, overlaps):
    for row in partial:
        for q in range(row.size):
            overlaps[q] += row[q]
            row[q] = 0


@compiled
def _new_board(n_steps, shape, n_overlaps):
    """Nothing claimed, nothing done."""
    _, n_bits, n_high, _ = shape
    n_jobs = max(1 << n_high, (1 << n_bits) // COLUMN) if n_high else 1
    n_phases = 2 * n_steps + 1
    claimed = np.zeros(n_phases + 1, np.int64)  # the last: the help is called off
    return claimed, np.zeros(n_phases, np.int64), np.zeros((2, n_jobs, n_overlaps))


@compiled
def _walk_batch(
    here, there, final,
    shape, permutations, order, last, kinds, gates, overlaps, board, helping,
):  # fmt: skip
    """``_walk`` with every state of a batch, in groups that have each a row of ``overlaps``."""
    lanes, n_bits, n_high, gap = shape
    size = (lanes << n_bits) + gap << n_high
    n_states, n_groups, n_steps = here[0].size // size, len(overlaps), len(order)
    claimed, done, _ = board
    group = _add_one(claimed, 0)
    while group < n_groups:
        for n in range(n_states * group // n_groups, n_states * (group + 1) // n_groups):
            own = _new_board(n_steps, shape, overlaps.shape[2])
            _walk(
                here, there, final, n * size,
                shape, permutations, order, last, kinds, gates, overlaps[group], own, helping,
            )  # fmt: skip
        _add_one(done, 0)
        group = _add_one(claimed, 0)
    while not helping and _look(done, 0) < n_groups:
        pass


# ------------------------------------------------------------- from angles to gates, and back again


@compiled
def _gates(cos, sin, rotated, kinds, idle, like):
    """Tangents, shape (steps, N), products of cosines, shape (steps,), and the smallest of these.

    ``cos`` and ``sin`` are those of half the angles, without the ``idle`` qubits.
    """
    n_steps = len(cos)
    tan = np.zeros((n_steps, rotated.shape[1]), like.dtype)
    scale = np.empty(n_steps, like.dtype)
    smallest = np.inf
    for step in range(n_steps):
        product = 1.0
        for q in range(cos.shape[1]):
            if rotated[kinds[step], idle + q]:
                tan[step, idle + q] = sin[step, q] / cos[step, q]
                product *= cos[step, q]
        scale[step] = product
        smallest = min(smallest, abs(product))
    return tan, scale, smallest


@compiled
def _gradients(overlaps, tan, first, sequence, rotated, idle):
    """The gradients of a block's angles from the overlaps of a walk back: the last step's first.

    Overlaps are those of a state and a gradient that were scaled by all cosines and have grown by
    those of the qubits before this one in ``sequence``: both lack the cosines of the others.
    """
    n_rows = len(first)
    gradients = np.zeros((n_rows, rotated.shape[1] - idle), tan.dtype)
    for row in range(n_rows):
        step = first[n_rows - 1 - row]
        lacking = 1.0
        for q in sequence[::-1]:
            lacking /= 1 + np.float64(tan[step, q]) ** 2
            if rotated[row % len(rotated), q]:
                gradients[row, q - idle] = overlaps[step, q] / lacking / 2
    return gradients


# ------------------------------------------------------ from product states to expectation values


@compiled
def _prepend(qubit, old, new):
    """new = qubit (x) old: complex numbers, the real parts in one array and the others in one."""
    m = old[0].size
    old_real, old_imag = old
    for bit in range(2):
        real, imag = qubit[bit, 0], qubit[bit, 1]
        new_real, new_imag = new[0][bit * m : (bit + 1) * m], new[1][bit * m : (bit + 1) * m]
        for i in range(m):
            new_real[i] = real * old_real[i] - imag * old_imag[i]
            new_imag[i] = real * old_imag[i] + imag * old_real[i]


@compiled
def _multiply_out(qubits, tails, states):
    """Write the product state, and on the way the product of the last n < N qubits.

    The latter goes to [2**n : 2**(n + 1)] of tails; idle qubits' amplitudes behind the state are 0.
    """
    tails[0][1], tails[1][1] = 1, 0
    m = 1
    for q in range(len(qubits) - 1, -1, -1):
        old = (tails[0][m : 2 * m], tails[1][m : 2 * m])
        if q > 0:
            _prepend(qubits[q], old, (tails[0][2 * m : 4 * m], tails[1][2 * m : 4 * m]))
        else:
            _prepend(qubits[q], old, states)
        m *= 2
    for state in states:
        state[m:] = 0


@compiled_sums
def _read_out(probabilities, values):
    """<Z> of each qubit; overwrites the probabilities."""
    m = probabilities.size
    for q in range(values.size):
        m >>= 1
        total = 0.0
        for i in range(m):
            zero, one = probabilities[i], probabilities[m + i]
            total += zero - one
            probabilities[i] = zero + one
        values[q] = total


@compiled
def _read_out_adjoint(gradients, weights):
    """The gradient of each probability, from that of each <Z>."""
    weights[0] = 0
    m = 1
    for q in range(gradients.size - 1, -1, -1):
        gradient = gradients[q]
        for i in range(m):
            weights[m + i] = weights[i] - gradient
            weights[i] += gradient
        m <<= 1


@compiled_sums
def _peel(qubits, tails, states, gradients):
    """The gradient of each qubit's amplitudes from the states' gradients; overwrites these."""
    real, imag = states
    m = real.size
    for q in range(len(qubits)):
        m >>= 1
        tail_real, tail_imag = tails[0][m : 2 * m], tails[1][m : 2 * m]
        real_0, imag_0 = qubits[q, 0, 0], qubits[q, 0, 1]
        real_1, imag_1 = qubits[q, 1, 0], qubits[q, 1, 1]
        sum_0 = sum_1 = sum_2 = sum_3 = 0.0
        for i in range(m):
            a, b, c, d = real[i], imag[i], real[m + i], imag[m + i]
            x, y = tail_real[i], tail_imag[i]
            sum_0 += a * x + b * y
            sum_1 += b * x - a * y
            sum_2 += c * x + d * y
            sum_3 += d * x - c * y
            real[i] = real_0 * a + imag_0 * b + real_1 * c + imag_1 * d
            imag[i] = real_0 * b - imag_0 * a + real_1 * d - imag_1 * c
        gradients[q, 0, 0], gradients[q, 0, 1] = sum_0, sum_1
        gradients[q, 1, 0], gradients[q, 1, 1] = sum_2, sum_3


@compiled
def _expect(qubits, values, finals, shape, permutations, order, last, kinds, gates, board, helping):
    """Write <Z>, shape (B, N), and unless ``finals`` is empty the final states, shape (B, 2, size).

    Threads claim image by image.
    """
    lanes, n_bits, n_high, _ = shape
    size, n_amplitudes = lanes << n_bits + n_high, 1 << qubits.shape[1]
    claimed, done, _ = board
    pair = (values.ravel(), values.ravel())  # of the dtype
    tails = _arrays_like(pair, size)
    here, there = _arrays_like(pair, size), _arrays_like(pair, size)
    overlaps = np.zeros((len(order), 0))
    end = there if _n_moves(permutations, order) % 2 == 0 else here
    image = _add_one(claimed, 0)
    while image < len(qubits):
        _multiply_out(qubits[image], tails, here)
        for part in range(2):
            _walk(
                (here[part],), (there[part],), (end[part],), 0,
                shape, permutations, order, last, kinds, gates,
                overlaps, _new_board(len(order), shape, 0), helping,
            )  # fmt: skip
        if len(finals):
            finals[image, 0], finals[image, 1] = end
        probabilities = tails[0][:n_amplitudes]
        for i in range(n_amplitudes):
            probabilities[i] = end[0][i] ** 2 + end[1][i] ** 2
        _read_out(probabilities, values[image])
        _add_one(done, 0)
        image = _add_one(claimed, 0)
    while not helping and _look(done, 0) < len(qubits):
        pass


@compiled
def _expect_adjoint(
    qubits, finals, gradients, qubit_gradients, overlaps,
    shape, permutations, order, last, kinds, gates, board, helping,
):  # fmt: skip
    """Write each image's gradients of its qubits and its overlaps, shape (B, L * S, N)."""
    lanes, n_bits, n_high, _ = shape
    size, n_amplitudes = lanes << n_bits + n_high, 1 << qubits.shape[1]
    claimed, done, _ = board
    pair = (gradients.ravel(), gradients.ravel())  # of the dtype
    tails = _arrays_like(pair, size)
    here, there = _arrays_like(pair, size), _arrays_like(pair, size)
    products = _arrays_like(pair, n_amplitudes)
    end = here if _n_moves(permutations, order) % 2 == 0 else there
    image = _add_one(claimed, 0)
    while image < len(qubits):
        weights = tails[0]
        weights[n_amplitudes:] = 0
        _read_out_adjoint(gradients[image], weights)
        for part in range(2):
            final = finals[image, part]
            for i in range(size):
                here[0][i] = final[i]
                here[1][i] = 2 * weights[i] * final[i]
            _walk(
                here, there, there, 0, shape, permutations, order, last, kinds, gates,
                overlaps[image], _new_board(len(order), shape, overlaps.shape[2]), helping,
            )  # fmt: skip
            products[part][:] = end[1][:n_amplitudes]
        _multiply_out(qubits[image], tails, here)
        _peel(qubits[image], tails, products, qubit_gradients[image])
        _add_one(done, 0)
        image = _add_one(claimed, 0)
    while not helping and _look(done, 0) < len(qubits):
        pass


# --------------------------------------------------------------------------------- what torch sees

_spare: list[np.ndarray] = []  # memory of the last walk
_busy_until = [0.0]  # seconds: no help is asked for before, since it was called off lately
_known_tables: weakref.WeakKeyDictionary[RealBlock, dict] = weakref.WeakKeyDictionary()


def apply(block: RealBlock, angles: Tensor, states: Tensor) -> Tensor:
    """Run the block's steps once for every S rows of ``angles``.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians, float32 or float64 on the CPU.
        states: amplitudes to start from, shape (B, 2**N), dtype of ``angles``.

    Returns:
        Amplitudes, shape (B, 2**N).
    """
    if len(angles) == 0:
        return states.clone()
    final, _ = _run(_plan(block, angles), (states.detach(),))
    return final


def apply_adjoint(
    block: RealBlock, angles: Tensor, states: Tensor, gradients: Tensor, *, initial: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Walk back from the final states and the loss's gradients with respect to them.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians, float32 or float64 on the CPU.
        states: what ``apply`` returned, shape (B, 2**N).
        gradients: d loss / d states, shape (B, 2**N).
        initial: whether the initial states' gradient is wanted.

    Returns:
        d loss / d angles, shape (L * S, N), and d loss / d initial states, shape (B, 2**N), or
        None.
    """
    if len(angles) == 0:
        return torch.zeros_like(angles), gradients.clone() if initial else None
    plan = _plan(block, angles, back=True)
    end, overlaps = _run(plan, (states.detach(), gradients.detach()), initial)
    return _angle_gradients(plan, overlaps), end


def expectations(
    block: RealBlock, angles: Tensor, qubits: Tensor, keep: bool
) -> tuple[Tensor, Tensor]:
    """<Z> of each qubit after the block's steps, run once for every S rows of ``angles``.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians, float32 or float64 on the CPU.
        qubits: real and imaginary parts of the product states' qubits, shape (B, N, 2, 2).
        keep: whether the final states are wanted.

    Returns:
        Shape (B, N), and what ``expectations_adjoint`` needs of the final states.
    """
    qubits = qubits.detach().contiguous()
    plan = _plan(block, angles, gap=0)
    values = qubits.new_empty(qubits.shape[:2])
    finals = qubits.new_empty(len(qubits) if keep else 0, 2, plan.size)
    board = _new_board.py_func(0, plan.shape, 0)
    arguments = (qubits.numpy(), values.numpy(), finals.numpy(), *plan.walk, board)
    _run_with_help(_expect, arguments, 2 * len(qubits) * plan.work, len(qubits))
    return values, finals


def expectations_adjoint(
    block: RealBlock, angles: Tensor, qubits: Tensor, finals: Tensor, gradients: Tensor
) -> tuple[Tensor, Tensor]:
    """Walk back from the final states and the loss's gradients with respect to <Z>.

    Args:
        block: S steps on N qubits.
        angles: rotation angles, shape (L * S, N), radians, float32 or float64 on the CPU.
        qubits: as given to ``expectations``, shape (B, N, 2, 2).
        finals: the final states that ``expectations`` kept.
        gradients: d loss / d <Z>, shape (B, N).

    Returns:
        d loss / d angles, shape (L * S, N), and d loss / d qubits, shape (B, N, 2, 2).
    """
    plan = _plan(block, angles, back=True, gap=0)
    qubits = qubits.detach().contiguous()
    qubit_gradients = torch.empty_like(qubits)
    overlaps = np.zeros((len(qubits), *plan.tan.shape))
    arguments = (
        qubits.numpy(), finals.numpy(), gradients.detach().contiguous().numpy(),
        qubit_gradients.numpy(), overlaps, *plan.walk, _new_board.py_func(0, plan.shape, 0),
    )  # fmt: skip
    _run_with_help(_expect_adjoint, arguments, 2 * len(qubits) * plan.work, len(qubits))
    return _angle_gradients(plan, overlaps.sum(0)), qubit_gradients


class Plan(NamedTuple):
    """What a walk does, step by step."""

    shape: tuple[int, int, int, int]  # lanes, n_bits, n_high, gap
    permutations: Permutations
    order: np.ndarray  # (steps,), which of them comes before each step's rotations
    last: int  # the one at the end, or -1
    kinds: np.ndarray  # (steps,), each one's number in the block
    tan: np.ndarray  # (steps, N), of half the angles
    scale: np.ndarray  # (steps,), the product of their cosines
    rotated: np.ndarray  # (kinds, N), whether a qubit has a rotation
    first: np.ndarray  # each angle row's step: where it became two, the first
    idle: int  # qubits in front that a small circuit lacks

    @property
    def walk(self) -> tuple:
        """The arguments of ``_walk`` that the plan knows."""
        gates = (self.tan, self.scale, self.rotated)
        return self.shape, self.permutations, self.order, self.last, self.kinds, gates

    @property
    def size(self) -> int:
        """Amplitudes of a state."""
        return 2 ** self.tan.shape[1]

    @property
    def work(self) -> int:
        """Amplitudes times steps, for a state."""
        return self.size * len(self.order)

    @property
    def n_moves(self) -> int:
        """How often a walk takes the state to another array, its end left aside."""
        return _n_moves(self.permutations, self.order)


def _plan(block: RealBlock, angles: Tensor, *, back: bool = False, gap: int = GAP) -> Plan:
    """Lay out a walk through the block's steps, or ``back`` from their end; angles (steps, N).

    Of a divided state, there are ``gap`` vectors behind each chunk.

    The first sweep needs 8 vectors: smaller circuits get idle qubits in front.

    A rotation is cos * [[1, -tan], [tan, 1]]: without the cosine, one multiply-add an amplitude.
    A step's cosines all multiply its amplitudes as they are loaded. Where that would leave too
    little of them, the step is done as two with half its angles.
    """
    angles = angles.detach().numpy()
    lanes = VECTOR_BYTES // angles.itemsize
    lane_bits = lanes.bit_length() - 1
    idle = max(0, lane_bits + 3 - block.n_qubits)
    vector_bits = block.n_qubits + idle - lane_bits
    n_vectors = 1 << vector_bits
    chunk = n_vectors if n_vectors <= WHOLE else max(CHUNK, n_vectors // MOST_CHUNKS)
    n_bits = chunk.bit_length() - 1
    n_high = vector_bits - n_bits
    shape = (lanes, n_bits, n_high, gap * lanes if n_high > 0 else 0)
    permutations, rotated = _tables(block, back, shape, idle)
    kinds, order, last, first = _steps(len(angles), block.n_steps, back)
    half = (-0.5 if back else 0.5) * (angles[::-1] if back else angles).astype(np.float64)
    tan, scale, smallest = _gates(np.cos(half), np.sin(half), rotated, kinds, idle, angles)
    if smallest < SMALLEST_SCALE:
        n_steps = 1 + (np.abs(scale) < SMALLEST_SCALE)
        turns = np.where(block.rotated[kinds] & (n_steps == 2)[:, None], np.rint(half / np.pi), 0)
        half -= np.pi * turns  # which changes the sign of the state and nothing else
        signs = 1 - 2 * (turns.sum(axis=1) % 2)
        first = n_steps.cumsum() - n_steps
        half = np.repeat(half / n_steps[:, None], n_steps, axis=0)
        kinds = np.repeat(kinds, n_steps)
        moves = np.full(len(kinds), block.n_steps)  # the identity
        moves[first] = order
        order = moves
        tan, scale, _ = _gates(np.cos(half), np.sin(half), rotated, kinds, idle, angles)
        scale[first] *= signs
    return Plan(shape, permutations, order, last, kinds, tan, scale, rotated, first, idle)


@lru_cache(maxsize=64)
def _steps(
    n_steps: int, n_kinds: int, back: bool
) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Each step's number in the block, the permutation before it, the last one, and a range."""
    steps = np.arange(n_steps)
    if back:  # undo each step: its permutation, then its rotations
        kinds = np.ascontiguousarray(steps[::-1] % n_kinds)
        return kinds, kinds, -1, steps
    kinds = steps % n_kinds
    order = np.roll(kinds, 1)
    order[0] = n_kinds  # nothing to permute before the first rotations
    return kinds, order, int(kinds[-1]), steps


def _angle_gradients(plan: Plan, overlaps: np.ndarray) -> Tensor:
    """From the overlaps of a walk back, shape of ``plan.tan``."""
    sequence = _sequence(plan.shape)
    return torch.from_numpy(
        _gradients(overlaps, plan.tan, plan.first, sequence, plan.rotated, plan.idle)
    )


@cache
def _sequence(shape: tuple[int, int, int, int]) -> np.ndarray:
    """The qubits in the order in which ``_walk`` rotates them."""
    lanes, n_bits, n_high, _ = shape
    n_qubits = n_high + n_bits + lanes.bit_length() - 1
    qubit = n_high + n_bits - 3
    sequence = list(range(qubit, n_qubits))
    while qubit > n_high:
        first = max(qubit - 3, n_high)
        sequence += range(first, qubit)
        qubit = first
    return np.array([*sequence, *range(n_high)])


def _run(
    plan: Plan, states: tuple[Tensor, ...], wanted: bool = True
) -> tuple[Tensor | None, np.ndarray]:
    """Walk; return the last of ``states`` at the end, if ``wanted``, and the overlaps.

    Shapes (B, 2**N), and that of ``plan.tan``.
    """
    lanes, n_bits, n_high, gap = plan.shape
    n_states, n_amplitudes = states[0].shape
    chunk = lanes << n_bits
    divided = (n_states, 1 << n_high, chunk + gap)  # of an array

    step = n_states * (chunk + gap << n_high) + PADDING * lanes
    n_arrays = len(states) * min(1 + plan.n_moves, 2)
    memory = _memory(n_arrays * step + lanes, plan.tan.dtype)
    start = lanes - memory.ctypes.data % VECTOR_BYTES // memory.itemsize
    arrays = [memory[start + a * step :][: step - PADDING * lanes] for a in range(n_arrays)]
    here, there = tuple(arrays[: len(states)]), tuple(arrays[-len(states) :])
    for array, state in zip(here, states, strict=True):
        if plan.idle:
            state = pad(state, (0, plan.size - n_amplitudes))
        array.reshape(divided)[:, :, :chunk] = state.numpy().reshape(n_states, 1 << n_high, chunk)
    final, end = None, there
    if wanted:
        final = states[0].new_empty(n_states, plan.size)
    if plan.last >= 0:  # it ends in the caller's memory
        end = (final.view(-1).numpy(),)

    n_groups = min(n_states, GROUPS)
    n_steps, n_qubits = plan.tan.shape
    overlaps = np.zeros((n_groups, n_steps, n_qubits if len(states) == 2 else 0))
    board = _new_board.py_func(n_steps, plan.shape, overlaps.shape[2])
    if n_states == 1:
        walk, arguments = _walk, (here, there, end, 0, *plan.walk, overlaps[0], board)
        n_jobs = 1 << n_high if plan.size >= SHARED * lanes else 1
    else:
        walk, arguments = _walk_batch, (here, there, end, *plan.walk, overlaps, board)
        n_jobs = n_groups
    _run_with_help(walk, arguments, n_states * plan.work, n_jobs)
    if wanted and plan.last < 0:
        walked = (here, there)[plan.n_moves % 2][-1].reshape(divided)[:, :, :chunk]
        final.numpy()[:] = walked.reshape(n_states, plan.size)
    if wanted and plan.idle:
        final = final[:, :n_amplitudes].contiguous()
    if memory.nbytes <= KEPT_BYTES:
        _spare[:] = [memory]
    return final, overlaps[0] if n_groups == 1 else overlaps.sum(0)


def _memory(n: int, dtype: np.dtype) -> np.ndarray:
    """Room for n numbers, that of the last walk if it fits: new pages cost a sixth of a walk."""
    try:
        memory = _spare.pop()  # which nobody else has then
        if memory.dtype == dtype and memory.size >= n:
            return memory
    except IndexError:
        pass
    # numpy's memory, not torch's: it asks the system for huge pages
    return np.empty(n, dtype)


def _run_with_help(walk: Callable, arguments: tuple, work: int, n_jobs: int) -> None:
    """Call ``walk``, whose last argument is its board, here and where it pays in other threads."""
    if work > PARALLEL_WORK and n_jobs > 1 and monotonic() > _busy_until[0]:
        for _ in range(min(torch.get_num_threads(), n_jobs) - 1):
            try:  # not threading.Thread, whose start() waits for the thread to run
                _thread.start_new_thread(walk, (*arguments, True))
            except RuntimeError:  # the system gives no more threads: the caller does it alone
                break
    walk(*arguments, False)
    if arguments[-1][0][-1]:
        _busy_until[0] = monotonic() + 1


def _tables(
    block: RealBlock, inverse: bool, shape: tuple[int, int, int, int], idle: int
) -> tuple[Permutations, np.ndarray]:
    """The block's permutations, the identity behind them, and what it rotates, shape (S, N).

    With ``idle`` more qubits in front.
    """
    lanes, n_bits, _, gap = shape
    known = _known_tables.setdefault(block, {})
    if (inverse, shape) not in known:
        sources = block.inverse_sources if inverse else block.sources
        signs = block.inverse_signs if inverse else block.signs
        n_steps, n_amplitudes = sources.shape
        size = n_amplitudes << idle
        table = np.tile(np.arange(size, dtype=np.int32), (n_steps + 1, 1))
        table[:-1, :n_amplitudes] = sources
        sign_table = np.ones((n_steps + 1, 0 if signs is None else size), np.int8)
        if signs is not None:
            sign_table[:-1, :n_amplitudes] = signs
        chunk = lanes << n_bits
        cycles = _chunk_cycles(table, chunk)
        table += table // chunk * gap
        heads = np.ascontiguousarray(table[:, ::lanes])
        pattern = table[:, :lanes] ^ table[:, :1]
        predicted = (heads[:, :, None] ^ pattern[:, None, :]).reshape(table.shape)
        whole = (table == predicted).all(1) & (pattern < lanes).all(1) & (sign_table > 0).all(1)
        pattern = pattern.astype(np.int32 if lanes == 16 else np.int64)
        known[inverse, shape] = (
            Permutations(table, sign_table, whole, heads, pattern, *cycles),
            np.pad(block.rotated, ((0, 0), (idle, 0))),
        )
    return known[inverse, shape]


def _chunk_cycles(table: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last three fields of ``Permutations``, for chunks of so many elements."""
    n_permutations, n_amplitudes = table.shape
    n_chunks = n_amplitudes // size
    cycles = np.zeros((n_permutations, n_chunks), np.int32)
    starts = np.full((n_permutations, n_chunks + 1), n_chunks, np.int32)
    n_cycles = np.zeros(n_permutations, np.int64)
    for which, sources in enumerate((table // size).reshape(n_permutations, n_chunks, size)):
        if n_chunks == 1 or (sources != sources[:, :1]).any():
            continue
        left, place = set(range(n_chunks)), 0
        while left:
            starts[which, n_cycles[which]] = place
            n_cycles[which] += 1
            chunk = min(left)
            while chunk in left:
                left.remove(chunk)
                cycles[which, place] = chunk
                chunk = int(sources[chunk, 0])
                place += 1
    return cycles, starts, n_cycles
