"""The tiny file: everything that a reader needs to compute a trained network's weights.

What the file does not hold is the same for all files and is part of the reader: the target network
of each dataset, how pixels are normalised, the feature 2^N p, bits -1 and +1, tanh after hidden
layers, the normalisation of rows, and the start that a seed gives. N follows from the number of
the target's weights.

======  ============================================================================
byte    content
======  ============================================================================
0, 1    "QT"
2       version of this layout: 1
3-6     CRC-32 of all bytes after it, little-endian, as are all numbers
7       dataset (high four bits) and block (low four bits): places in the tables below
8       L, blocks of the circuit
9, 10   seed of the start
11, 12  grid steps for angles and for the mapping net, in 1/1024
13      number of hidden layers of the mapping net, then a byte for the width of each
then    a byte for each group of integers (angles, layers): width of its distribution
then    the integers, coded as one number
======  ============================================================================
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from qtlite.experiments.bits.entropy_coding import best_width, decode, encode

MAGIC, VERSION = b"QT", 1
DATASETS = ("mnist", "fashion_mnist", "digits", "cifar10")  # only ever extended
BLOCKS = ("ry_linear_cnot",)
N_QUBITS = {"mnist": 13, "fashion_mnist": 13, "digits": 13, "cifar10": 19}
HEAD = 14  # bytes before the widths
LARGEST_FILE = 10_000  # bytes


@dataclass(frozen=True)
class TinyNetwork:
    """A trained network as a seed and whole numbers.

    Attributes:
        dataset: decides the target and how pixels are normalised.
        block: name of the ansatz.
        n_blocks: L, 1 to 255.
        hidden: widths of the mapping net's hidden layers, each 1 to 255.
        seed: of the start, 0 to 65,535.
        grid: steps for angles and for the mapping net, in 1/1024, 1 to 255.
        groups: integers: the angles, then each layer's weights and biases. A number is its start
            plus its integer times its step.
    """

    dataset: str
    block: str
    n_blocks: int
    hidden: tuple[int, ...]
    seed: int
    grid: tuple[int, int]
    groups: tuple[tuple[int, ...], ...]


def group_sizes(dataset: str, n_blocks: int, hidden: Sequence[int]) -> list[int]:
    """Count the integers of each group: angles, then each layer of the mapping net.

    Example:
        >>> group_sizes("mnist", 16, (4, 8, 4))
        [208, 60, 40, 36, 5]
    """
    n_qubits = N_QUBITS[dataset]
    widths = [n_qubits + 1, *hidden, 1]
    return [n_qubits * n_blocks] + [(n_in + 1) * n_out for n_in, n_out in pairwise(widths)]


def to_bytes(network: TinyNetwork) -> bytes:
    """Return the content of the tiny file.

    Raises:
        ValueError: if a value does not fit in its place, or integers are missing or too large.

    Example:
        >>> groups = [(0,) * size for size in group_sizes("mnist", 16, (4, 8, 4))]
        >>> content = to_bytes(
        ...     TinyNetwork("mnist", "ry_linear_cnot", 16, (4, 8, 4), 0, (31, 46), tuple(groups))
        ... )
        >>> len(content), from_bytes(content).seed
        (27, 0)
    """
    try:
        kind = DATASETS.index(network.dataset) << 4 | BLOCKS.index(network.block)
        fields = bytes([kind, network.n_blocks]) + network.seed.to_bytes(2, "little")
        fields += bytes([*network.grid, len(network.hidden), *network.hidden])
        sizes = group_sizes(network.dataset, network.n_blocks, network.hidden)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"network must fit in a tiny file, got {error}") from error
    if [len(group) for group in network.groups] != sizes:
        raise ValueError(
            f"network must have groups of {sizes} integers, got {list(map(len, network.groups))}"
        )
    body = fields + coded(network.groups)
    return MAGIC + bytes([VERSION]) + zlib.crc32(body).to_bytes(4, "little") + body


def coded(groups: Sequence[Sequence[int]]) -> bytes:
    """Return a byte for each group, its distribution's width, and the integers as one number.

    Raises:
        ValueError: if an integer is too large.
    """
    spreads = [best_width(group) for group in groups]
    number = encode(groups, spreads)
    return bytes(spreads) + number.to_bytes((number.bit_length() + 7) // 8, "little")


def from_bytes(content: bytes) -> TinyNetwork:
    """Return the network that ``to_bytes`` was given.

    Raises:
        ValueError: if the content is no tiny file, damaged, or of a later version.
    """
    if content[:2] != MAGIC or len(content) < HEAD or len(content) > LARGEST_FILE:
        raise ValueError(f"file must begin with {MAGIC!r} and be a tiny file, got another")
    if content[2] != VERSION:
        raise ValueError(f"file must have version {VERSION}, got {content[2]}")
    body = content[7:]
    if zlib.crc32(body) != int.from_bytes(content[3:7], "little"):
        raise ValueError("file must be whole, got one whose checksum is wrong")
    try:
        dataset, block = DATASETS[body[0] >> 4], BLOCKS[body[0] & 15]
        n_blocks, seed = body[1], int.from_bytes(body[2:4], "little")
        grid, hidden = (body[4], body[5]), tuple(body[7 : 7 + body[6]])
        if not (n_blocks and all(grid) and all(hidden) and len(hidden) == body[6]):
            raise ValueError("sizes and steps that are not positive")
        sizes, rest = group_sizes(dataset, n_blocks, hidden), body[7 + body[6] :]
        spreads, number = rest[: len(sizes)], int.from_bytes(rest[len(sizes) :], "little")
        groups = tuple(map(tuple, decode(number, sizes, spreads)))
    except (IndexError, ValueError) as error:
        raise ValueError(f"file must be one that qtlite wrote, got {error}") from error
    return TinyNetwork(dataset, block, n_blocks, hidden, seed, grid, groups)


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
