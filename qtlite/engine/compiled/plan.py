"""What is done to a state, step by step: from angles to gates, and back to their gradients."""

from __future__ import annotations

import weakref
from functools import cache
from typing import NamedTuple

import numpy as np

from qtlite.engine.compiled.apply import Permutations, Vectors
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
    """The rotations of the steps."""

    tan: np.ndarray  # (steps, N), of half the angles
    scale: np.ndarray  # (steps,), the product of their cosines


class Plan(NamedTuple):
    """The part that does not depend on the angles."""

    shape: tuple[int, int, int, int]  # lanes, n_bits, n_high, gap
    permutations: Permutations
    vectors: Vectors | None  # where each permutation takes vectors as a whole
    rotated: np.ndarray  # (kinds, N), whether a qubit has a rotation
    turned: np.ndarray  # (kinds, N), whether the sweep that begins at a qubit rotates any
    order: np.ndarray  # (steps,), which permutation comes before each step's rotations
    last: int  # the one at the end, or -1
    kinds: np.ndarray  # (steps,), each one's number in the block
    first: np.ndarray  # each angle row's step: where it became two, the first
    idle: int  # qubits in front that a small circuit lacks

    def loops(self, gates: Gates) -> tuple:
        """The arguments of the loops that do not depend on the memory."""
        turns = (gates.tan, gates.scale, self.turned)
        return self.shape, self.permutations, self.vectors, self.order, self.kinds, turns

    @property
    def n_moves(self) -> int:
        """How often the state goes to another array, its end left aside."""
        return int((self.permutations.n_cycles[self.order] == 0).sum())

    @property
    def size(self) -> int:
        """Amplitudes of a state."""
        lanes, n_bits, n_high, _ = self.shape
        return lanes << n_bits + n_high

    @property
    def work(self) -> int:
        """Amplitudes times steps, for a state."""
        return self.size * len(self.order)


def lay_out(block: RealBlock, angles: np.ndarray, *, back: bool = False) -> tuple[Plan, Gates]:
    """Lay out the block's steps, or ``back`` from their end; angles (steps, N).

    A rotation is cos * [[1, -tan], [tan, 1]]: without the cosine, one multiply-add an amplitude.
    A step's cosines all multiply its amplitudes as they are loaded. Where that would leave too
    little of them, the step is done as two with half its angles.
    """
    angles = np.ascontiguousarray(angles)
    known = _known_plans.setdefault(block, {})
    key = len(angles), angles.itemsize, back
    if key not in known:
        known[key] = _without_gates(block, *key)
    plan = known[key]
    gates, smallest = _gates(plan, angles, 0.5, back, angles.dtype)
    if smallest < MIN_SCALE:
        half = (-0.5 if back else 0.5) * (angles[::-1] if back else angles).astype(np.float64)
        n_steps = 1 + (np.abs(gates.scale) < MIN_SCALE)
        turns = np.where(
            block.rotated[plan.kinds] & (n_steps == 2)[:, None], np.rint(half / np.pi), 0
        )
        half -= np.pi * turns  # which changes the sign of the state and nothing else
        signs = 1 - 2 * (turns.sum(axis=1) % 2)
        first = n_steps.cumsum() - n_steps
        half = np.repeat(half / n_steps[:, None], n_steps, axis=0)
        kinds = np.repeat(plan.kinds, n_steps)
        order = np.full(len(kinds), block.n_steps)  # the identity
        order[first] = plan.order
        plan = plan._replace(order=order, kinds=kinds, first=first)
        gates, _ = _gates(plan, half, 1.0, False, angles.dtype)
        gates.scale[first] *= signs
    return plan, gates


def _without_gates(block: RealBlock, n_steps: int, itemsize: int, back: bool) -> Plan:
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
    shape = (lanes, n_bits, n_high, GAP * lanes if n_high > 0 else 0)
    tables, steps = _tables(block, back, shape, idle), np.arange(n_steps)
    if back:  # undo each step: its permutation, then its rotations
        kinds = np.ascontiguousarray(steps[::-1] % block.n_steps)
        return Plan(shape, *tables, kinds, -1, kinds, steps, idle)
    kinds = steps % block.n_steps
    order = np.roll(kinds, 1)
    order[0] = block.n_steps  # nothing to permute before the first rotations
    return Plan(shape, *tables, order, int(kinds[-1]), kinds, steps, idle)


def angle_gradients(plan: Plan, gates: Gates, overlaps: np.ndarray) -> np.ndarray:
    """The angles' gradients, the last step's first, from the overlaps of an adjoint pass.

    Overlaps are those of a state and a gradient that were scaled by all cosines and have grown by
    those of the qubits that were rotated before this one: both lack the cosines of the others.
    """
    sequence = np.concatenate(_sweeps(plan.shape))
    found = np.zeros((len(plan.first), plan.rotated.shape[1] - plan.idle), gates.tan.dtype)
    _fill_gradients(found, overlaps, gates.tan, plan.first, sequence, plan.rotated, plan.idle)
    return found


@cache
def _sweeps(shape: tuple[int, int, int, int]) -> list[range]:
    """The qubits that are rotated together, in the order in which this is done."""
    lanes, n_bits, n_high, _ = shape
    first = n_high + n_bits - 3
    low = [range(max(q - 3, n_high), q) for q in range(first, n_high, -3)]
    high = [range(q, min(q + 3, n_high)) for q in range(0, n_high, 3)]
    return [range(first, n_high + n_bits + lanes.bit_length() - 1), *low, *high]


def _gates(plan: Plan, angles: np.ndarray, part: float, back: bool, dtype) -> tuple[Gates, float]:
    """The gates of ``part`` of the angles, and the smallest product of cosines.

    ``back`` takes the last step first and turns it back.
    """
    tan = np.zeros((len(angles), plan.rotated.shape[1]), dtype)
    scale = np.empty(len(angles), dtype)
    smallest = _fill_gates(tan, scale, angles, part, back, plan.rotated, plan.kinds, plan.idle)
    return Gates(tan, scale), smallest


@compiled
def _fill_gates(tan, scale, angles, part, back, rotated, kinds, idle):
    n_steps, n_qubits = angles.shape
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
    return smallest


@compiled
def _fill_gradients(gradients, overlaps, tan, first, sequence, rotated, idle):
    n_rows = len(first)
    for row in range(n_rows):
        step = first[n_rows - 1 - row]
        lacking = 1.0
        for q in sequence[::-1]:
            lacking /= 1 + np.float64(tan[step, q]) ** 2
            if rotated[row % len(rotated), q]:
                gradients[row, q - idle] = overlaps[step, q] / lacking / 2


def _tables(
    block: RealBlock, inverse: bool, shape: tuple[int, int, int, int], idle: int
) -> tuple[Permutations, Vectors | None, np.ndarray, np.ndarray]:
    """Of a block with ``idle`` more qubits in front: its permutations, the identity behind them.

    And ``rotated`` and ``turned``, see ``Plan``.
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
        rotated = np.pad(block.rotated, ((0, 0), (idle, 0)))
        turned = np.zeros_like(rotated)
        for sweep in _sweeps(shape):
            turned[:, sweep.start] = rotated[:, sweep].any(1)
        known[inverse, shape] = (
            Permutations(table, sign_table, *cycles),
            _whole_vectors(table, lanes) if signs is None else None,
            rotated,
            turned,
        )
    return known[inverse, shape]


def _whole_vectors(table: np.ndarray, lanes: int) -> Vectors | None:
    """The permutations vector by vector, where that is all they do."""
    heads = np.ascontiguousarray(table[:, ::lanes])
    pattern = table[:, :lanes] ^ table[:, :1]
    predicted = (heads[:, :, None] ^ pattern[:, None, :]).reshape(table.shape)
    if (table != predicted).any() or (pattern >= lanes).any():
        return None
    return Vectors(heads, pattern.astype(np.int32 if lanes == 16 else np.int64))


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
