"""The rotation kernel: one sweep over a state, in LLVM's portable vector instructions.

A sweep rotates a few neighbouring qubits and reads and writes each amplitude once. In memory, a
state is a row of vectors of 64 bytes. Below, 16 amplitudes of float32 lie in each, so the last four
qubits of an amplitude's number say its lane, the others its vector. (float64: 8 lanes, 3 qubits.)

    13 qubits:   0 1 2 3 4 5 | 6 7 8 | 9 10 11 12
                 other groups  group    lane         of the first sweep

A kernel takes groups of R = 2, 4 or 8 vectors that differ in one, two or three qubits:

              lane 0 ............ 15
    vector 0  [ a a a a  ...  a a a ] --\\          an amplitude of vector 0 and the one of vector 1
    vector 1  [ b b b b  ...  b b b ] --//  qubit 8  in the same lane differ in qubit 8 alone:
    vector 2  [ . . . .  ...  . . . ] --\\            a' = a - tan * b      two multiply-adds
    vector 3  [ . . . .  ...  . . . ] --//            b' = b + tan * a      for 16 rotations
       ...
    vector 7  [ . . . .  ...  . . . ]       qubit 7 pairs vectors 0 and 2, qubit 6 vectors 0 and 4

Eight vectors of a state (and eight of its gradient) stay in registers while three qubits are
rotated. The first sweep of a step then does the four qubits inside a vector as well. Here a partner
is another lane of the same vector; qubit 12 swaps neighbours:

    x            [ a b c d ... ]
    x shuffled   [ b a d c ... ]      x' = x + tan * signs * (x shuffled)
    signs        [ - + - + ... ]

A rotation is cos * [[1, -tan], [tan, 1]]. The kernel leaves the cosine out, which halves the work:
the product of a step's cosines is one number, multiplied in as the first sweep loads. The first
sweep also does the permutation before the step, where that takes each vector from one vector: it
loads vector heads[i] in place of vector i and shuffles its lanes.

In the adjoint pass, the kernel is given the state s and the gradient g. Before it rotates a qubit
back, it adds up that qubit's overlap over all pairs, sum(g1 * s0 - g0 * s1): lane by lane in a
register, and the lanes once at the end, in float64. ``plan`` makes the angle's gradient of it.

Loops written in Python do not compile to this reliably. Numba compiles only the loops around it.
"""

from __future__ import annotations

from typing import NamedTuple

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from qtlite.engine.compiled.vectors import Vectors, const

AHEAD = 32  # vectors: so far in front of a permuted load, its cache line is asked for


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


def sweep(n_row_qubits: int, in_vector: bool):
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
            tan[q] = builder.fmul(tan[q], v.minus_where_zero(bit))
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
                total = builder.fmul(total, v.minus_where_zero(lane_bits[q - n_row_qubits]))
            pointer = builder.gep(overlaps, [qubits[q]])
            builder.store(builder.fadd(builder.load(pointer), v.sum(total)), pointer)
        return context.get_dummy_value()

    return intrinsic(intrinsic_sweep)


rotate_first = sweep(3, in_vector=True)
rotate_1, rotate_2, rotate_3 = (sweep(n, in_vector=False) for n in (1, 2, 3))
