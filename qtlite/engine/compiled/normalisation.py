"""Row standardisation in compiled loops (Numba): all of a target's tensors in one pass."""

from __future__ import annotations

from qtlite.engine.compiled.compiling import compiled_sums
from qtlite.normalisation import VARIANCE_FLOOR


@compiled_sums
def forward(values, tensors, scales, outputs, inverse_deviations):
    """Standardise the rows, or scale where a tensor has none.

    Args:
        values: the M generated numbers.
        tensors: shape (T, 3), where each tensor starts, its rows to standardise (0 if none), and
            the numbers in a row or, without rows, in the tensor.
        scales: shape (T, 2), float64, each tensor's scale and centre.
        outputs: written, shape (M,).
        inverse_deviations: written, float64, a row's scale over its standard deviation.
    """
    row = 0
    for tensor in range(len(tensors)):
        start, n_rows, n = tensors[tensor]
        scale, centre = scales[tensor]
        if n_rows == 0:
            for i in range(start, start + n):
                outputs[i] = scale * values[i] + centre
        for first in range(start, start + n_rows * n, n):
            mean = 0.0
            for i in range(first, first + n):
                mean += values[i]
            mean /= n
            variance = 0.0
            for i in range(first, first + n):
                variance += (values[i] - mean) ** 2
            slope = scale / (variance / n + VARIANCE_FLOOR) ** 0.5
            for i in range(first, first + n):
                outputs[i] = slope * (values[i] - mean)
            inverse_deviations[row] = slope
            row += 1


@compiled_sums
def backward(gradients, tensors, scales, outputs, inverse_deviations):
    """Turn the outputs' gradients into those of the values; arguments as of ``forward``."""
    row = 0
    for tensor in range(len(tensors)):
        start, n_rows, n = tensors[tensor]
        scale = scales[tensor, 0]
        if n_rows == 0:
            for i in range(start, start + n):
                gradients[i] *= scale
        for first in range(start, start + n_rows * n, n):
            mean = along = 0.0
            for i in range(first, first + n):
                mean += gradients[i]
                along += gradients[i] * outputs[i]
            mean /= n
            along /= n * scale * scale
            slope = inverse_deviations[row]
            for i in range(first, first + n):
                gradients[i] = slope * (gradients[i] - mean - along * outputs[i])
            row += 1
