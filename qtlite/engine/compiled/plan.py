"""What a walk through a circuit does, step by step: from angles to gates, and back to gradients."""

from __future__ import annotations

import weakref
from functools import cache
from typing import NamedTuple

import numpy as np

from qtlite.engine.compiled.apply import Permutations, n_moves
from qtlite.engine.compiled.compiling import compiled
from qtlite.engine.compiled.vectors import VECTOR_BYTES
from qtlite.engine.read_block import RealBlock

WHOLE = 2**13  # vectors, 512 KB: four arrays of so many fit into the L2 cache: not divided
CHUNK = 2**9  # vectors: 32 KB, which take all sweeps of the low qubits while in the L1 cache
MAX_CHUNKS = 2**6  # of a larger state, chunks are larger: columns of more rows were slower
# between chunks: a power of two apart, those of a column would share few lines of the cache
GAP = 9  # vectors
# What the amplitudes are scaled to at most before a step's rotations let them grow again: overlaps
# are taken in between, and must be far from the smallest float32.
MIN_SCALE = 2.0**-32

_known_plans: weakref.WeakKeyDictionary[RealBlock, dict] = weakref.WeakKeyDictionary()
_known_tables: weakref.WeakKeyDictionary[RealBlock, dict] = weakref.WeakKeyDictionary()


class Gates(NamedTuple):
    """The rotations of a walk's steps."""

    tan: np.ndarray  # (steps, N), of half the angles
    scale: np.ndarray  # (steps,), the product of their cosines


class Plan(NamedTuple):
    """What else a walk does, step by step."""

    shape: tuple[int, int, int, int]  # lanes, n_bits, n_high, gap
    permutations: Permutations
    order: np.ndarray  # (steps,), which of them comes before each step's rotations
    last: int  # the one at the end, or -1
    kinds: np.ndarray  # (steps,), each one's number in the block
    rotated: np.ndarray  # (kinds, N), whether a qubit has a rotation
    first: np.ndarray  # each angle row's step: where it became two, the first
    idle: int  # qubits in front that a small circuit lacks
    n_moves: int  # how often a walk takes the state to another array, its end left aside

    def walk(self, gates: Gates) -> tuple:
        """The arguments of ``walk`` that the plan and the gates know."""
        rotations = (gates.tan, gates.scale, self.rotated)
        return self.shape, self.permutations, self.order, self.last, self.kinds, rotations

    @property
    def size(self) -> int:
        """Amplitudes of a state."""
        lanes, n_bits, n_high, _ = self.shape
        return lanes << n_bits + n_high

    @property
    def work(self) -> int:
        """Amplitudes times steps, for a state."""
        return self.size * len(self.order)


def lay_out(
    block: RealBlock, angles: np.ndarray, *, back: bool = False, gap: int = GAP
) -> tuple[Plan, Gates]:
    """Lay out a walk through the block's steps, or ``back`` from their end; angles (steps, N).

    Of a divided state, there are ``gap`` vectors behind each chunk.

    A rotation is cos * [[1, -tan], [tan, 1]]: without the cosine, one multiply-add an amplitude.
    A step's cosines all multiply its amplitudes as they are loaded. Where that would leave too
    little of them, the step is done as two with half its angles.
    """
    angles = np.ascontiguousarray(angles)
    known = _known_plans.setdefault(block, {})
    key = len(angles), angles.itemsize, back, gap
    if key not in known:
        known[key] = _without_gates(block, *key)
    plan = known[key]
    kinds, rotated, idle = plan.kinds, plan.rotated, plan.idle
    tan, scale, smallest = _gates(angles, 0.5, back, rotated, kinds, idle, angles)
    if smallest < MIN_SCALE:
        half = (-0.5 if back else 0.5) * (angles[::-1] if back else angles).astype(np.float64)
        n_steps = 1 + (np.abs(scale) < MIN_SCALE)
        turns = np.where(block.rotated[kinds] & (n_steps == 2)[:, None], np.rint(half / np.pi), 0)
        half -= np.pi * turns  # which changes the sign of the state and nothing else
        signs = 1 - 2 * (turns.sum(axis=1) % 2)
        first = n_steps.cumsum() - n_steps
        half = np.repeat(half / n_steps[:, None], n_steps, axis=0)
        kinds = np.repeat(kinds, n_steps)
        order = np.full(len(kinds), block.n_steps)  # the identity
        order[first] = plan.order
        moves = n_moves(plan.permutations, order)
        plan = plan._replace(order=order, kinds=kinds, first=first, n_moves=moves)
        tan, scale, _ = _gates(half, 1.0, False, rotated, kinds, idle, angles)
        scale[first] *= signs
    return plan, Gates(tan, scale)


def _without_gates(block: RealBlock, n_steps: int, itemsize: int, back: bool, gap: int) -> Plan:
    """Return the part of a plan that does not depend on the angles.

    The first sweep needs 8 vectors: smaller circuits get idle qubits in front.
    """
    lanes = VECTOR_BYTES // itemsize
    lane_bits = lanes.bit_length() - 1
    idle = max(0, lane_bits + 3 - block.n_qubits)
    vector_bits = block.n_qubits + idle - lane_bits
    n_vectors = 1 << vector_bits
    chunk = n_vectors if n_vectors <= WHOLE else max(CHUNK, n_vectors // MAX_CHUNKS)
    n_bits = chunk.bit_length() - 1
    n_high = vector_bits - n_bits
    shape = (lanes, n_bits, n_high, gap * lanes if n_high > 0 else 0)
    permutations, rotated = _tables(block, back, shape, idle)
    kinds, order, last, first = _steps(n_steps, block.n_steps, back)
    moves = n_moves(permutations, order)
    return Plan(shape, permutations, order, last, kinds, rotated, first, idle, moves)


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


def angle_gradients(plan: Plan, gates: Gates, overlaps: np.ndarray) -> np.ndarray:
    """From the overlaps of a walk back, shape of ``gates.tan``."""
    sequence = _sequence(plan.shape)
    return _gradients(overlaps, gates.tan, plan.first, sequence, plan.rotated, plan.idle)


@cache
def _sequence(shape: tuple[int, int, int, int]) -> np.ndarray:
    """The qubits in the order in which ``walk`` rotates them."""
    lanes, n_bits, n_high, _ = shape
    n_qubits = n_high + n_bits + lanes.bit_length() - 1
    qubit = n_high + n_bits - 3
    sequence = list(range(qubit, n_qubits))
    while qubit > n_high:
        first = max(qubit - 3, n_high)
        sequence += range(first, qubit)
        qubit = first
    return np.array([*sequence, *range(n_high)])


@compiled
def _gates(angles, part, back, rotated, kinds, idle, like):
    """Tangents, shape (steps, N), products of cosines, shape (steps,), and the smallest of these.

    Both are of ``part`` of the angles, shape (steps, N without the ``idle`` qubits); ``back`` takes
    the last step first and turns it back.
    """
    n_steps, n_qubits = angles.shape
    tan = np.zeros((n_steps, rotated.shape[1]), like.dtype)
    scale = np.empty(n_steps, like.dtype)
    smallest = np.inf
    for step in range(n_steps):
        product = 1.0
        row, sign = (n_steps - 1 - step, -part) if back else (step, part)
        for q in range(n_qubits):
            if rotated[kinds[step], idle + q]:
                angle = sign * np.float64(angles[row, q])
                cos = np.cos(angle)
                tan[step, idle + q] = np.sin(angle) / cos
                product *= cos
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
    cycles = np.zeros((n_permutations, n_chunks), np.int64)
    starts = np.full((n_permutations, n_chunks + 1), n_chunks, np.int64)
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
