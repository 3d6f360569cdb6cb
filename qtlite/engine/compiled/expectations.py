"""Compiled loops from product states through a circuit to <Z>, and back: one image at a time.

Each image's state stays in the cache from its qubits to its expectation values.
"""

from __future__ import annotations

import numpy as np

from qtlite.engine.compiled.apply import (
    add_one,
    arrays_like,
    n_moves,
    new_queue,
    wait_for_all,
    walk,
)
from qtlite.engine.compiled.compiling import compiled, compiled_sums


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
def expect(
    qubits, values, finals, shape, permutations, order, last, kinds, gates, queue, is_worker
):
    """Write <Z>, shape (B, N), and unless ``finals`` is empty the final states, shape (B, 2, size).

    Threads claim image by image.
    """
    lanes, n_bits, n_high, _ = shape
    size, n_amplitudes = lanes << n_bits + n_high, 1 << qubits.shape[1]
    claimed, done, _ = queue
    pair = (values.ravel(), values.ravel())  # of the dtype
    tails = arrays_like(pair, size)
    here, there = arrays_like(pair, size), arrays_like(pair, size)
    overlaps = np.zeros((len(order), 0))
    end = there if n_moves(permutations, order) % 2 == 0 else here
    image = add_one(claimed, 0)
    while image < len(qubits):
        _multiply_out(qubits[image], tails, here)
        for part in range(2):
            walk(
                (here[part],), (there[part],), (end[part],), 0,
                shape, permutations, order, last, kinds, gates,
                overlaps, new_queue(len(order), shape, 0), is_worker,
            )  # fmt: skip
        if len(finals):
            finals[image, 0], finals[image, 1] = end
        probabilities = tails[0][:n_amplitudes]
        for i in range(n_amplitudes):
            probabilities[i] = end[0][i] ** 2 + end[1][i] ** 2
        _read_out(probabilities, values[image])
        add_one(done, 0)
        image = add_one(claimed, 0)
    if not is_worker:
        wait_for_all(claimed, done, len(qubits))


@compiled
def expect_adjoint(
    qubits, finals, gradients, qubit_gradients, overlaps,
    shape, permutations, order, last, kinds, gates, queue, is_worker,
):  # fmt: skip
    """Write each image's gradients of its qubits and its overlaps, shape (B, L * S, N)."""
    lanes, n_bits, n_high, _ = shape
    size, n_amplitudes = lanes << n_bits + n_high, 1 << qubits.shape[1]
    claimed, done, _ = queue
    pair = (gradients.ravel(), gradients.ravel())  # of the dtype
    tails = arrays_like(pair, size)
    here, there = arrays_like(pair, size), arrays_like(pair, size)
    products = arrays_like(pair, n_amplitudes)
    end = here if n_moves(permutations, order) % 2 == 0 else there
    image = add_one(claimed, 0)
    while image < len(qubits):
        weights = tails[0]
        weights[n_amplitudes:] = 0
        _read_out_adjoint(gradients[image], weights)
        for part in range(2):
            final = finals[image, part]
            for i in range(size):
                here[0][i] = final[i]
                here[1][i] = 2 * weights[i] * final[i]
            walk(
                here, there, there, 0, shape, permutations, order, last, kinds, gates,
                overlaps[image], new_queue(len(order), shape, overlaps.shape[2]), is_worker,
            )  # fmt: skip
            for i in range(n_amplitudes):  # assigned to a slice, it takes seconds to compile
                products[part][i] = end[1][i]
        _multiply_out(qubits[image], tails, here)
        _peel(qubits[image], tails, products, qubit_gradients[image])
        add_one(done, 0)
        image = add_one(claimed, 0)
    if not is_worker:
        wait_for_all(claimed, done, len(qubits))
