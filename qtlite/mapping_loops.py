"""The compiled loops (Numba) of the mapping net: tanh, and the whole net for a few features.

tanh(x) = 1 - 2 / (1 + e^2x), with e^2x = 2^n 2^r, |r| <= 1/2, and a Taylor polynomial for 2^r: a
dozen instructions on whole vectors. Within 2e-7 of the true value.

A net of a few dozen features is done for some rows at a time, from the inputs to the output, and
back, while all that belongs to them is in the first cache: a product of matrices this small costs
more in calls than in arithmetic. Each feature has a line of ``ROWS`` numbers.

The first call compiles for about 5 s and stores the code beside this file or in the user's cache
folder.
"""

from __future__ import annotations

from functools import partial
from math import factorial, log

import numpy as np

from qtlite.compiling import compiled

ROWS = 256  # at a time

ONE, TWO, FLAT = map(np.float32, (1, 2, 10))  # tanh(10) is 1 in float32
# A float32 of this size has no digits after the point: adding it and taking it away again rounds,
# and in between the last bits hold the rounded number.
ROUNDING = np.float32(1.5 * 2**23)
SCALE = np.float32(2 / log(2))
C0, C1, C2, C3, C4, C5, C6 = (np.float32(log(2) ** k / factorial(k)) for k in range(7))

_elementwise = partial(compiled, fastmath={"contract"}, error_model="numpy")
# with sums in any order, or they would not be vectorised
_sums = partial(compiled, fastmath={"reassoc", "contract"})


@_elementwise
def tanh(values):
    """Replace a flat array's float32 numbers by their tanh."""
    for i in range(values.size):
        exponent = min(max(values[i], -FLAT), FLAT) * SCALE
        rounded = np.float32(exponent + ROUNDING)
        r = exponent - (rounded - ROUNDING)
        power = C6
        power = power * r + C5
        power = power * r + C4
        power = power * r + C3
        power = power * r + C2
        power = power * r + C1
        power = np.float32(power * r + C0)
        # times 2**rounded: added to the exponent among the float's bits
        bits = np.int32(power.view(np.int32) + np.int32(rounded.view(np.int32) << np.int32(23)))
        values[i] = ONE - TWO / (bits.view(np.float32) + ONE)


@_elementwise
def times_slope(gradients, outputs):
    """Multiply the gradients by tanh' where tanh gave ``outputs``; flat arrays."""
    for i in range(gradients.size):
        gradients[i] *= ONE - outputs[i] * outputs[i]


@_sums
def _add_weighted(target, lines, weights, start, step):
    """Add sum over k of weights[start + k * step] * lines[k] to ``target``."""
    n = len(lines)
    k = 0
    while k + 4 <= n:
        place = start + k * step
        w0, w1 = weights[place], weights[place + step]
        w2, w3 = weights[place + 2 * step], weights[place + 3 * step]
        a, b, c, d = lines[k], lines[k + 1], lines[k + 2], lines[k + 3]
        for r in range(ROWS):
            target[r] += w0 * a[r] + w1 * b[r] + w2 * c[r] + w3 * d[r]
        k += 4
    while k < n:
        w0, a = weights[start + k * step], lines[k]
        for r in range(ROWS):
            target[r] += w0 * a[r]
        k += 1


@_sums
def _add_products(sums, start, slope, lines):
    """Add the scalar products of ``slope`` and each of the lines to sums[start], ..."""
    n = len(lines)
    k = 0
    while k + 4 <= n:
        a, b, c, d = lines[k], lines[k + 1], lines[k + 2], lines[k + 3]
        s0 = s1 = s2 = s3 = np.float32(0)
        for r in range(ROWS):
            s0 += slope[r] * a[r]
            s1 += slope[r] * b[r]
            s2 += slope[r] * c[r]
            s3 += slope[r] * d[r]
        sums[start + k] += s0
        sums[start + k + 1] += s1
        sums[start + k + 2] += s2
        sums[start + k + 3] += s3
        k += 4
    while k < n:
        a, s0 = lines[k], np.float32(0)
        for r in range(ROWS):
            s0 += slope[r] * a[r]
        sums[start + k] += s0
        k += 1


@_sums
def _sum(line):
    total = np.float32(0)
    for r in range(ROWS):
        total += line[r]
    return total


@compiled
def _forward_rows(lines, bits, column, start, widths, has_tanh, parameters):
    """Fill the lines of rows start, start + 1, ...: the inputs', then each layer's outputs."""
    n_rows, n_bits = min(ROWS, column.size - start), len(bits)
    for k in range(n_bits):
        lines[k, :n_rows] = bits[k, start : start + n_rows]
    lines[n_bits, :n_rows] = column[start : start + n_rows]
    if n_rows < ROWS:
        lines[: n_bits + 1, n_rows:] = 0
    first, place = 0, 0
    for layer in range(len(has_tanh)):
        n_in, n_out = widths[layer], widths[layer + 1]
        inputs = lines[first : first + n_in]
        outputs = lines[first + n_in : first + n_in + n_out]
        for j in range(n_out):
            outputs[j, :] = parameters[place + n_out * n_in + j]
            _add_weighted(outputs[j], inputs, parameters, place + j * n_in, 1)
        if has_tanh[layer]:
            tanh(outputs.reshape(-1))
        first += n_in
        place += n_out * (n_in + 1)


@compiled
def forward(bits, column, widths, has_tanh, parameters, outputs):
    """Run the net.

    Args:
        bits: the inputs but the last, shape (n_inputs - 1, M), float32 like all.
        column: the last input, shape (M,).
        widths: features of the inputs and after each layer, the last 1.
        has_tanh: of each layer.
        parameters: each layer's weight, flattened, and bias, one after the other.
        outputs: written, shape (M,).
    """
    lines = np.empty((widths.sum(), ROWS), np.float32)
    for start in range(0, column.size, ROWS):
        _forward_rows(lines, bits, column, start, widths, has_tanh, parameters)
        n_rows = min(ROWS, column.size - start)
        outputs[start : start + n_rows] = lines[-1, :n_rows]


@compiled
def backward(
    bits, column, widths, has_tanh, parameters, output_gradients, sums, column_gradients
):  # fmt: skip
    """Gradients from those of the outputs; what ``forward`` computed is computed again.

    Args:
        sums: written, float64, shape of ``parameters``.
        column_gradients: written, shape (M,), or empty if not wanted.
    """
    n_lines, n_layers = widths.sum(), len(has_tanh)
    lines = np.empty((n_lines, ROWS), np.float32)
    slopes = np.zeros((n_lines, ROWS), np.float32)
    sums[:] = 0
    for start in range(0, column.size, ROWS):
        _forward_rows(lines, bits, column, start, widths, has_tanh, parameters)
        n_rows = min(ROWS, column.size - start)
        slopes[-1, :n_rows] = output_gradients[start : start + n_rows]
        slopes[-1, n_rows:] = 0
        end, place = n_lines, parameters.size
        for layer in range(n_layers - 1, -1, -1):
            n_in, n_out = widths[layer], widths[layer + 1]
            first = end - n_out
            place -= n_out * (n_in + 1)
            above = slopes[first:end]
            if has_tanh[layer]:
                times_slope(above.reshape(-1), lines[first:end].reshape(-1))
            for j in range(n_out):
                _add_products(sums, place + j * n_in, above[j], lines[first - n_in : first])
                sums[place + n_out * n_in + j] += _sum(above[j])
            # of the inputs, the last alone
            for k in range(0 if layer > 0 else n_in - 1, n_in):
                below = slopes[first - n_in + k]
                below[:] = 0
                _add_weighted(below, above, parameters, place + k, n_in)
            end = first
        if column_gradients.size > 0:
            column_gradients[start : start + n_rows] = slopes[widths[0] - 1, :n_rows]
