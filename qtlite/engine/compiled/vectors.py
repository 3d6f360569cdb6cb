"""LLVM's portable vector instructions, for the loops that Numba does not vectorise by itself.

And memory for vectors, to be allocated in such loops.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils

VECTOR_BYTES = 64  # one AVX-512 register; LLVM splits it where registers are shorter
# between state and gradient: a power of two apart, they would push each other out of the cache
PADDING = 24  # vectors


class Vectors:
    """Instructions on vectors of VECTOR_BYTES, appended to what ``builder`` has written."""

    def __init__(self, builder: ir.IRBuilder, bits: int):
        self.builder, self.bits = builder, bits
        self.n_lanes = VECTOR_BYTES * 8 // bits
        self.type = ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), self.n_lanes)
        self.words = ir.VectorType(ir.IntType(bits), self.n_lanes)

    def call(self, name, result, *arguments, **flags):
        signature = ir.FunctionType(result, [a.type for a in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, arguments, **flags)

    def load(self, pointer, position, type_=None):
        pointer = self._at(pointer, position, type_ or self.type)
        return self.builder.load(pointer, align=self.bits // 8)

    def store(self, value, pointer, position):
        self.builder.store(value, self._at(pointer, position, self.type), align=self.bits // 8)

    def prefetch(self, pointer, position):
        """Ask for a cache line that will be read."""
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        pointer = self.builder.bitcast(self.builder.gep(pointer, [position]), byte)
        read, near, data = word(0), word(3), word(1)
        self.call("llvm.prefetch.p0i8", ir.VoidType(), pointer, read, near, data)

    def _at(self, pointer, position, type_):
        return self.builder.bitcast(self.builder.gep(pointer, [position]), type_.as_pointer())

    def reorder(self, value, lanes, second=None):
        """The lanes with these numbers, counted on in ``second`` if there is one."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
        second = ir.Constant(value.type, ir.Undefined) if second is None else second
        return self.builder.shuffle_vector(value, second, mask)

    def constant(self, number):
        return ir.Constant(self.type, [float(number)] * self.n_lanes)

    def splat(self, scalar, type_=None):
        undefined = ir.Constant(type_ or self.type, ir.Undefined)
        zero = ir.Constant(ir.IntType(32), 0)
        return self.reorder(
            self.builder.insert_element(undefined, scalar, zero), [0] * self.n_lanes
        )

    def minus_where_zero(self, bit):
        """-1 in the lanes that have ``bit`` at 0, +1 in the others."""
        signs = [1.0 if lane & bit else -1.0 for lane in range(self.n_lanes)]
        return ir.Constant(self.type, signs)

    def muladd(self, a, b, c):
        return self.call(f"llvm.fmuladd.v{self.n_lanes}f{self.bits}", self.type, a, b, c)

    def permute(self, value, words):
        """value[words], lane by lane."""
        if has_avx512():
            kind = "sf" if self.bits == 32 else "df"
            return self.call(f"llvm.x86.avx512.permvar.{kind}.512", self.type, value, words)
        permuted = ir.Constant(self.type, ir.Undefined)
        for lane in map(ir.IntType(32), range(self.n_lanes)):
            picked = self.builder.extract_element(value, self.builder.extract_element(words, lane))
            permuted = self.builder.insert_element(permuted, picked, lane)
        return permuted

    def sum(self, value):
        """The lanes' sum in float64."""
        double = ir.DoubleType()
        if self.bits == 32:
            value = self.builder.fpext(value, ir.VectorType(double, self.n_lanes))
        name, zero = f"llvm.vector.reduce.fadd.v{self.n_lanes}f64", ir.Constant(double, 0.0)
        return self.call(name, double, zero, value, fastmath=("reassoc",))

    def sums(self, values):
        """One vector with the sum of the lanes of the i-th value in lane i; as many as lanes."""
        # lane i of the j-th vector belongs to the sum owners[j][i]
        owners = [[i] * self.n_lanes for i in range(self.n_lanes)]
        folded = self.n_lanes // 2
        while len(values) > 1:
            # of both vectors of a pair, of each run of 2 * folded lanes the first and second half
            low = [i for i in range(2 * self.n_lanes) if i & folded == 0]
            high = [i + folded for i in low]
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [
                self.builder.fadd(self.reorder(a, low, b), self.reorder(a, high, b))
                for a, b in pairs
            ]
            owners = [
                [(first + second)[i] for i in low]
                for first, second in zip(owners[::2], owners[1::2], strict=True)
            ]
            folded //= 2
        return self.reorder(values[0], [owners[0].index(i) for i in range(self.n_lanes)])


def const(value):
    return ir.Constant(ir.IntType(64), value)


def has_avx512() -> bool:
    config = numba.config  # by which the user may compile for another target
    if config.CPU_NAME or config.CPU_FEATURES or not config.ENABLE_AVX:
        return False
    return binding.get_host_cpu_features().get("avx512f", False)


def empty_vectors(n, like):
    """n numbers of ``like``'s type, not initialised, aligned to VECTOR_BYTES. (Can be compiled.)"""
    memory = np.empty(n + VECTOR_BYTES // like.itemsize, like.dtype)
    start = -memory.ctypes.data % VECTOR_BYTES // like.itemsize
    return memory[start : start + n]
