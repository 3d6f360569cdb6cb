"""The mapping net in compiled loops (Numba): some rows at a time, from the inputs to the output.

Numbers lie in lines of ``ROWS``, one a feature; a block of them stays in the cache until all layers
are done. A matrix times lines is done for ``TILE`` features at a time, and so is the gradient of a
matrix, the scalar products of two sets of lines: numbers of features are rounded up to a multiple
of ``TILE`` by idle features, whose weights are 0. Both are written in LLVM's portable vector
instructions and come near the processor's peak; Numba compiles the loops around them.

tanh(x) = 1 - 2 / (1 + e^2x), with e^2x = 2^n 2^r, |r| <= 1/2, and a Taylor polynomial for 2^r: a
dozen instructions on whole vectors. Within 3e-7 of the true value.

On the way back a layer's outputs give way to their gradients where nobody wants them any more: half
the lines fit into a smaller cache.

The first call compiles for about 4 s and stores the code beside this file or in the user's cache
folder.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial, log

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from qtlite.engine.compiled.compiling import compiled, compiled_sums
from qtlite.engine.compiled.vectors import VECTOR_BYTES, Vectors, const, empty_vectors, has_avx512

LANES = VECTOR_BYTES // 4
TILE = 4  # features: 4 x 4 scalar products fill one vector
# vectors of a line that are done at the same time: 16 sums fill half the registers of AVX-512
WIDTH = 4 if has_avx512() else 1
ROWS = 448  # a multiple of WIDTH * LANES; a power of two would have lines share the cache's sets

FLAT = 10.0  # tanh(10) is 1 in float32
# A float32 of this size has no digits after the point: adding it and taking it away again rounds,
# and in between the last bits hold the rounded number.
ROUNDING = 1.5 * 2**23
TAYLOR = [log(2) ** k / factorial(k) for k in range(7)]  # of 2^r


# ------------------------------------------------------------- two products, in LLVM's instructions


def _data(context, builder, signature, arguments, place):
    array = context.make_array(signature.args[place])
    return array(context, builder, arguments[place]).data


def _weigh_and(finish: Callable):
    """Make the intrinsic that fills TILE lines: target[line + j] = finish(sums of j), j < TILE.

    The sums are biases[bias + j] + sum over k of w[j, k] * source[first + k], for WIDTH vectors
    from ``row`` on and n_in lines of the source. w[j, k] is parameters[place + j * step + k *
    next_k]. ``finish`` is given vectors, of all sums, and as many of ``outputs``, which may be the
    target, from where they go in the target.
    """

    def weigh(
        typing, target, line, outputs, source, first, n_in, row,
        parameters, place, step, next_k, biases, bias,
    ):  # fmt: skip
        integers = types.int64
        signature = types.void(
            target, integers, outputs, source, integers, integers, integers, parameters, integers,
            integers, integers, biases, integers,
        )  # fmt: skip
        return signature, emit

    def emit(context, builder, signature, arguments):
        target, outputs, source, parameters, biases = (
            _data(context, builder, signature, arguments, place) for place in (0, 2, 3, 7, 11)
        )
        line, first, n_in, row, place, step, next_k, bias = (
            arguments[i] for i in (1, 4, 5, 6, 8, 9, 10, 12)
        )
        v = Vectors(builder, 32)

        def pick(array, position):
            return v.splat(builder.load(builder.gep(array, [position])))

        def position(line, vector):
            start = builder.add(builder.mul(line, const(ROWS)), row)
            return builder.add(start, const(vector * v.n_lanes))

        rows = [builder.add(place, builder.mul(step, const(j))) for j in range(TILE)]
        sums = []
        for j in range(TILE):
            start = pick(biases, builder.add(bias, const(j)))
            sums.append([cgutils.alloca_once_value(builder, start) for _ in range(WIDTH)])
        with cgutils.for_range(builder, n_in, intp=const(0).type) as loop:
            here = builder.add(first, loop.index)
            values = [v.load(source, position(here, i)) for i in range(WIDTH)]
            for j in range(TILE):
                weight = pick(parameters, builder.add(rows[j], builder.mul(loop.index, next_k)))
                for value, total in zip(values, sums[j], strict=True):
                    builder.store(v.muladd(weight, value, builder.load(total)), total)
        lines = [builder.add(line, const(j)) for j in range(TILE)]
        places = [position(each, vector) for each in lines for vector in range(WIDTH)]
        found = [builder.load(total) for totals in sums for total in totals]
        # loads that nobody uses are left out
        found = finish(v, found, [v.load(outputs, place) for place in places])
        for value, place in zip(found, places, strict=True):
            v.store(value, target, place)
        return context.get_dummy_value()

    return intrinsic(weigh)


def _tanh(v: Vectors, xs: list[ir.Value], _) -> list[ir.Value]:
    """Instruction by instruction for all vectors: one vector's instructions wait for each other."""
    b, c = v.builder, v.constant
    for bound, over in ((FLAT, ">"), (-FLAT, "<")):  # a NaN stays
        xs = [b.select(b.fcmp_ordered(over, x, c(bound)), c(bound), x) for x in xs]
    # 2x / log 2 = rounded + r
    biased = [v.muladd(x, c(2 / log(2)), c(ROUNDING)) for x in xs]
    rest = [b.fsub(c(ROUNDING), number) for number in biased]
    rest = [v.muladd(x, c(2 / log(2)), less) for x, less in zip(xs, rest, strict=True)]
    powers = [c(TAYLOR[-1])] * len(xs)
    for coefficient in TAYLOR[-2::-1]:
        powers = [v.muladd(p, r, c(coefficient)) for p, r in zip(powers, rest, strict=True)]
    # times 2**rounded: added to the exponent among the float's bits
    shift = ir.Constant(v.words, [23] * v.n_lanes)
    exponents = [b.shl(b.bitcast(number, v.words), shift) for number in biased]
    powers = [b.add(b.bitcast(p, v.words), e) for p, e in zip(powers, exponents, strict=True)]
    sums = [b.fadd(b.bitcast(p, v.type), c(1)) for p in powers]
    # the flags allow an estimate that is then improved; without AVX-512 it would be too rough
    flags = ("arcp", "ninf") if has_avx512() else ()
    return [b.fsub(c(1), b.fdiv(c(2), s, flags=flags)) for s in sums]


def _slope(v: Vectors, gradients: list[ir.Value], outputs: list[ir.Value]) -> list[ir.Value]:
    """Gradients times tanh' = 1 - tanh^2 where tanh gave ``outputs``."""
    b, one = v.builder, v.constant(1)
    slopes = [v.muladd(b.fneg(output), output, one) for output in outputs]
    return [b.fmul(g, slope) for g, slope in zip(gradients, slopes, strict=True)]


_weigh = _weigh_and(lambda v, sums, outputs: sums)
_weigh_tanh = _weigh_and(_tanh)
_weigh_slope = _weigh_and(_slope)


@intrinsic
def _multiply(typing, sums, place, step, slopes, line, source, first):
    """sums[place + j * step + k] += slopes[line + j] . source[first + k], j, k < TILE."""

    def emit(context, builder, signature, arguments):
        sums, slopes, source = (
            _data(context, builder, signature, arguments, place) for place in (0, 3, 5)
        )
        place, step, line, first = (arguments[i] for i in (1, 2, 4, 6))
        v = Vectors(builder, 32)
        zeros = v.constant(0)
        totals = [cgutils.alloca_once_value(builder, zeros) for _ in range(TILE * TILE)]

        def load(array, line, number, start):
            line = builder.mul(builder.add(line, const(number)), const(ROWS))
            return v.load(array, builder.add(line, start))

        with cgutils.for_range(builder, const(ROWS // v.n_lanes), intp=const(0).type) as loop:
            start = builder.mul(loop.index, const(v.n_lanes))
            above = [load(slopes, line, j, start) for j in range(TILE)]
            below = [load(source, first, k, start) for k in range(TILE)]
            for j in range(TILE):
                for k in range(TILE):
                    total = totals[j * TILE + k]
                    builder.store(v.muladd(above[j], below[k], builder.load(total)), total)
        found = v.sums([builder.load(total) for total in totals])
        four = ir.VectorType(ir.DoubleType(), TILE)
        for j in range(TILE):
            part = v.reorder(found, range(j * TILE, (j + 1) * TILE))
            position = builder.add(place, builder.mul(step, const(j)))
            pointer = builder.bitcast(builder.gep(sums, [position]), four.as_pointer())
            total = builder.fadd(builder.load(pointer, align=8), builder.fpext(part, four))
            builder.store(total, pointer, align=8)
        return context.get_dummy_value()

    integers = types.int64
    signature = types.void(sums, integers, integers, slopes, integers, source, integers)
    return signature, emit


# --------------------------------------------------------------------------- the loops around them


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
                    _weigh_tanh(
                        lines, first + j, lines, below, start, n_in, row,
                        parameters, place + j * n_in, n_in, 1, parameters, biases + j,
                    )  # fmt: skip
                else:
                    _weigh(
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
                    _multiply(
                        sums, place + j * n_in + k, n_in, slopes, first + j, below, bottom + k
                    )
            for j in range(n_out):
                sums[place + n_out * n_in + j] += _sum(slopes[first + j])
            if layer > 0:
                for row in range(0, ROWS, WIDTH * LANES):
                    for k in range(0, n_in, TILE):
                        if has_tanh[layer - 1]:
                            _weigh_slope(
                                slopes, bottom + k, lines, slopes, first, n_out, row,
                                parameters, place + k, 1, n_in, nothing, 0,
                            )  # fmt: skip
                        else:
                            _weigh(
                                slopes, bottom + k, lines, slopes, first, n_out, row,
                                parameters, place + k, 1, n_in, nothing, 0,
                            )  # fmt: skip
            top = first
        if column_gradients.size > 0:
            tile = bits[0] // TILE * TILE  # of the inputs, the column among them
            for row in range(0, ROWS, WIDTH * LANES):
                _weigh(
                    slopes, n_lines, lines, slopes, 0, widths[1], row,
                    parameters, tile, 1, widths[0], nothing, 0,
                )  # fmt: skip
            copy(slopes[n_lines + bits[0] - tile], column_gradients[start:], n_rows)
