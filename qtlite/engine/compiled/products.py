"""The mapping net's two products and its tanh, in LLVM's portable vector instructions.

A matrix times lines of ``ROWS`` numbers is computed for ``TILE`` features at a time, and so is the
gradient of a matrix, the scalar products of two sets of lines. Both come near the processor's peak.

tanh(x) = 1 - 2 / (1 + e^2x), with e^2x = 2^n 2^r, |r| <= 1/2, and a Taylor polynomial for 2^r: a
dozen instructions on whole vectors. Within 3e-7 of the true value.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial, log

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from qtlite.engine.compiled.vectors import VECTOR_BYTES, Vectors, const, has_avx512

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


weigh = _weigh_and(lambda v, sums, outputs: sums)
weigh_tanh = _weigh_and(_tanh)
weigh_slope = _weigh_and(_slope)


@intrinsic
def multiply(typing, sums, place, step, slopes, line, source, first):
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
