"""The tiny file: everything that a reader needs to compute a trained network's weights.

What the file does not hold is the same for all files and is part of the reader: the target network
of each dataset, how pixels are normalised, the feature 2^N p, bits -1 and +1, tanh after hidden
layers, the normalisation of rows, and the start that a seed gives. N follows from the number of
the target's weights.

======  ============================================================================
byte    content
======  ============================================================================
0, 1    "QT"
2       version of this layout: 2
3, 4    low half of the CRC-32 of all bytes after it, little-endian, as all numbers
5       dataset (high four bits) and block (low four bits): places in the tables below
6       L, blocks of the circuit
7, 8    seed of the start
9       number of hidden layers of the mapping net, then a byte for the width of each
then    grid steps in 1/256: angles of the first and of the last block, each layer
then    widths of the integers' distributions, likewise
then    the integers, coded as one number
======  ============================================================================

Steps and widths of the blocks between the first and the last go evenly from one to the other, the
steps in whole units of 1/1024, the widths in whole numbers: see ``entropy_coding.between``.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from qtlite.experiments.bits.entropy_coding import best_widths, between, decode, encode

MAGIC, VERSION = b"QT", 2
DATASETS = ("mnist", "fashion_mnist", "digits", "cifar10")  # only ever extended
BLOCKS = ("ry_linear_cnot",)
N_QUBITS = {"mnist": 13, "fashion_mnist": 13, "digits": 13, "cifar10": 19}
HEAD = 10  # bytes before what depends on the number of layers
LARGEST_FILE = 10_000  # bytes


@dataclass(frozen=True)
class TinyNetwork:
    """A trained network as a seed and whole numbers.

    Attributes:
        dataset: decides the target and how pixels are normalised.
        block: name of the ansatz.
        hidden: widths of the mapping net's hidden layers, each 1 to 255.
        seed: of the start, 0 to 65,535.
        grid: steps in 1/256, 1 to 255: angles of the first and of the last block, each layer of
            the mapping net.
        blocks: integers of the L blocks' angles, 1 to 255 blocks. A number is its start plus its
            integer times its step.
        layers: integers of each layer's weights and biases.
    """

    dataset: str
    block: str
    hidden: tuple[int, ...]
    seed: int
    grid: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]
    layers: tuple[tuple[int, ...], ...]


def layer_sizes(dataset: str, hidden: Sequence[int]) -> list[int]:
    """Count the numbers of each layer of the mapping net.

    Example:
        >>> layer_sizes("mnist", (4, 8, 4))
        [60, 40, 36, 5]
    """
    widths = [N_QUBITS[dataset] + 1, *hidden, 1]
    return [(n_in + 1) * n_out for n_in, n_out in pairwise(widths)]


def to_bytes(network: TinyNetwork) -> bytes:
    """Return the content of the tiny file.

    Raises:
        ValueError: if a value does not fit in its place, or integers are missing or too large.

    Example:
        >>> layers = tuple((0,) * size for size in layer_sizes("mnist", (4, 8, 4)))
        >>> content = to_bytes(
        ...     TinyNetwork(
        ...         "mnist", "ry_linear_cnot", (4, 8, 4), 0, (12, 4, 15, 50, 100, 150),
        ...         blocks=((0,) * 13,) * 16, layers=layers,
        ...     )
        ... )
        >>> len(content), from_bytes(content).seed
        (30, 0)
    """
    try:
        kind = DATASETS.index(network.dataset) << 4 | BLOCKS.index(network.block)
        fields = bytes([kind, len(network.blocks)]) + network.seed.to_bytes(2, "little")
        fields += bytes([len(network.hidden), *network.hidden, *network.grid])
        n_qubits, sizes = N_QUBITS[network.dataset], layer_sizes(network.dataset, network.hidden)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"network must fit in a tiny file, got {error}") from error
    expected = [n_qubits] * len(network.blocks) + sizes
    if (got := list(map(len, network.blocks + network.layers))) != expected:
        raise ValueError(f"network must have groups of {expected} integers, got {got}")
    if len(network.grid) != 2 + len(sizes):
        raise ValueError(f"grid must have {2 + len(sizes)} steps, got {network.grid}")
    body = fields + coded(network.blocks, network.layers)
    return MAGIC + bytes([VERSION]) + checksum(body) + body


def file_length(
    hidden: Sequence[int], blocks: Sequence[Sequence[int]], layers: Sequence[Sequence[int]]
) -> int:
    """Count the bytes of the file that holds these integers, for controls without a circuit too."""
    n_steps = 2 * bool(blocks) + len(layers)
    return HEAD + len(hidden) + n_steps + len(coded(blocks, layers))


def checksum(body: bytes) -> bytes:
    """Return the two bytes that stand before the rest."""
    return zlib.crc32(body).to_bytes(4, "little")[:2]


def coded(blocks: Sequence[Sequence[int]], layers: Sequence[Sequence[int]]) -> bytes:
    """Return the widths of the integers' distributions, and the integers as one number.

    Args:
        blocks: of a circuit's angles; there may be none.
        layers: of a net's numbers.

    Raises:
        ValueError: if an integer is too large.
    """
    ends = best_widths(blocks) if blocks else ()
    widths = [best_widths([layer])[0] for layer in layers]
    number = encode([*blocks, *layers], [*(between(*ends, len(blocks)) if ends else ()), *widths])
    return bytes([*ends, *widths]) + number.to_bytes((number.bit_length() + 7) // 8, "little")


def from_bytes(content: bytes) -> TinyNetwork:
    """Return the network that ``to_bytes`` was given.

    Raises:
        ValueError: if the content is no tiny file, damaged, or of a later version.
    """
    if content[:2] != MAGIC or len(content) < HEAD or len(content) > LARGEST_FILE:
        raise ValueError(f"file must begin with {MAGIC!r} and be a tiny file, got another")
    if content[2] != VERSION:
        raise ValueError(f"file must have version {VERSION}, got {content[2]}")
    body = content[5:]
    if checksum(body) != content[3:5]:
        raise ValueError("file must be whole, got one whose checksum is wrong")
    try:
        dataset, block = DATASETS[body[0] >> 4], BLOCKS[body[0] & 15]
        n_blocks, seed, n_hidden = body[1], int.from_bytes(body[2:4], "little"), body[4]
        hidden, rest = tuple(body[5 : 5 + n_hidden]), body[5 + n_hidden :]
        n_steps = n_hidden + 3
        grid, (first, last, *widths) = tuple(rest[:n_steps]), rest[n_steps : 2 * n_steps]
        if not (n_blocks and all(grid) and all(hidden) and len(widths) == n_hidden + 1):
            raise ValueError("sizes and steps that are not positive")
        sizes = [N_QUBITS[dataset]] * n_blocks + layer_sizes(dataset, hidden)
        number = int.from_bytes(rest[2 * n_steps :], "little")
        groups = decode(number, sizes, [*between(first, last, n_blocks), *widths])
        groups = tuple(map(tuple, groups))
    except (IndexError, ValueError) as error:
        raise ValueError(f"file must be one that qtlite wrote, got {error}") from error
    return TinyNetwork(dataset, block, hidden, seed, grid, groups[:n_blocks], groups[n_blocks:])


def read_tiny(path: str | os.PathLike) -> TinyNetwork:
    """Read a tiny file.

    Raises:
        ValueError: if it is none, damaged or of a later version; the message names it.
        FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    try:
        return from_bytes(content)
    except ValueError as error:
        raise ValueError(f"{error}: {path}") from error
