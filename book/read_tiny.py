"""Read a tiny file and classify images: NumPy alone, nothing of qtlite and no PyTorch.

python read_tiny.py FILE IMAGES.npy     images: uint8, shape (n, 28, 28)
"""

import sys
import zlib
from bisect import bisect_right
from itertools import accumulate, pairwise

import numpy as np

PIXELS = {0: (0.1307, 0.3081), 1: (0.2860, 0.3530)}  # mean, standard deviation by dataset
ROOTS = [0x100000000, 0xEAC0C6E8, 0xD744FCCB, 0xC5672A11,
         0xB504F334, 0xA5FED6AA, 0x9837F052, 0x8B95C1E4]  # fmt: skip


def frequencies(width):
    ratio = 2**32 - (ROOTS[width % 8] >> width // 8)
    square, tail = ratio * ratio >> 32, [2**32]
    for _ in range(255):
        tail.append(max(2**16, tail[-1] * ratio >> 32))
        ratio = ratio * square >> 32
    return tail[:0:-1] + tail


def between(first, last, n):  # whole numbers that go evenly from one to the other
    return [int(first) + (int(last) - int(first)) * i // max(n - 1, 1) for i in range(n)]


def integers(number, sizes, widths):
    for size, width in zip(sizes, widths, strict=True):
        table = frequencies(width)
        starts = [0, *accumulate(table)]
        for _ in range(size):
            number, low = divmod(number, starts[-1])
            place = bisect_right(starts, low) - 1
            number = number * table[place] + low - starts[place]
            yield place - 255
    if number != 1:
        raise ValueError("file must hold its integers, got others")


def uniform(seed, n):  # SplitMix64
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return ((z ^ z >> np.uint64(31)) >> np.uint64(11)) * 2.0**-53


def read(content):
    """A tiny file's bytes to the target's weights and what normalises the pixels."""
    body = content[5:]
    if content[:3] != b"QT\2" or zlib.crc32(body) % 2**16 != int.from_bytes(content[3:5], "little"):
        raise ValueError("file must be a whole tiny file of version 2, got another")
    n_qubits, n_blocks, seed = 13, body[1], int.from_bytes(body[2:4], "little")
    n_steps, rest = body[4] + 3, body[5 + body[4] :]
    widths = [n_qubits + 1, *body[5 : 5 + body[4]], 1]
    sizes = [n_qubits] * n_blocks + [(n_in + 1) * n_out for n_in, n_out in pairwise(widths)]
    steps, spreads = (  # steps in 1/1024
        [*between(part[0], part[1], n_blocks), *part[2:]]
        for part in ([4 * step for step in rest[:n_steps]], rest[n_steps : 2 * n_steps])
    )
    number = int.from_bytes(rest[2 * n_steps :], "little")
    moved = np.fromiter(integers(number, sizes, spreads), float)
    ranges = [np.pi] * n_blocks + [2.5 / n_in**0.5 for n_in in widths[:-1]]
    values = np.repeat(ranges, sizes) * (2 * uniform(seed, sum(sizes)) - 1)
    values += moved * np.repeat(np.array(steps) / 1024, sizes)
    angles, *layers = np.split(values, np.cumsum(sizes)[n_blocks - 1 : -1])

    state = np.zeros((2,) * n_qubits)
    state[(0,) * n_qubits] = 1
    for block in angles.reshape(n_blocks, n_qubits) / 2:
        for qubit, (c, s) in enumerate(zip(np.cos(block), np.sin(block), strict=True)):
            state = np.moveaxis(np.tensordot([[c, -s], [s, c]], state, (1, qubit)), 0, qubit)
        for qubit in range(n_qubits - 1):  # CNOT: where this qubit is 1, flip the next
            one = (slice(None),) * qubit + (1,)
            state[one] = np.flip(state[one], qubit).copy()
    states = np.arange(6690)
    bits = states[:, None] >> np.arange(n_qubits)[::-1] & 1
    x = np.column_stack([2 * bits - 1, 2**n_qubits * state.ravel()[states] ** 2])
    for (n_in, n_out), layer in zip(pairwise(widths), layers, strict=True):
        x = x @ layer[: n_in * n_out].reshape(n_out, n_in).T + layer[n_in * n_out :]
        x = x if layer is layers[-1] else np.tanh(x)

    weights, numbers = [], x.ravel()
    for rows, columns in [(8, 25), (12, 200), (20, 192), (10, 20)]:
        matrix, bias, numbers = np.split(numbers, [rows * columns, rows * (columns + 1)])
        matrix = matrix.reshape(rows, columns)
        matrix = (matrix - matrix.mean(1, keepdims=True)) / np.sqrt(
            matrix.var(1, keepdims=True) + 1e-8
        )
        weights += [matrix * (2 / columns) ** 0.5, bias * (2 / columns) ** 0.5 / 2]
    return weights, PIXELS[body[0] >> 4]


def scores(weights, pixels, images):
    """Images, uint8, shape (n, 28, 28), to ten scores each."""
    x = ((images / 255 - pixels[0]) / pixels[1])[:, None]
    for kernel, bias in (weights[:2], weights[2:4]):
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), (2, 3))
        n, _, side = windows.shape[:3]
        rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * side * side, -1)
        x = (rows @ kernel.T + bias).reshape(n, side // 2, 2, side // 2, 2, -1).max((2, 4))
        x = np.maximum(x, 0).transpose(0, 3, 1, 2)
    x = np.maximum(x.reshape(len(x), -1) @ weights[4].T + weights[5], 0)
    return x @ weights[6].T + weights[7]


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        network = read(file.read())
    for images in np.array_split(np.load(sys.argv[2]), 100):
        print(*scores(*network, images).argmax(1), sep="\n")
