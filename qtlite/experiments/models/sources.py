"""Sources of probabilities in the circuit's place: modules without input, shape (2**N,)."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from qtlite.qnn import QNN


class FrozenNoise(nn.Module):
    """Numbers drawn once, distributed like the probabilities of a random state.

    2**N p of a random real state is the square of a standard normal number (Porter, Thomas 1956).

    Args:
        n_states: 2**N.
        generator: source of the draw; PyTorch's global one if left out.

    Example:
        >>> round(FrozenNoise(8)().sum().item(), 5)
        1.0
    """

    def __init__(self, n_states: int, *, generator: torch.Generator | None = None):
        super().__init__()
        draw = torch.randn(n_states, generator=generator).square()
        self.register_buffer("probabilities", draw / draw.sum())

    def forward(self) -> Tensor:
        """Return the same numbers each time, shape (2**N,)."""
        return self.probabilities


class SpreadVector(nn.Module):
    """A trained vector in place of the circuit: each basis state reads one of its entries.

    Args:
        n_values: trained numbers, 1 <= n_values <= n_states.
        n_states: 2**N.
        generator: source of the start and of the assignment; PyTorch's global one if left out.

    Raises:
        ValueError: if ``n_values`` is out of range.

    Example:
        >>> SpreadVector(3, 8)().unique().numel()
        3
    """

    def __init__(self, n_values: int, n_states: int, *, generator: torch.Generator | None = None):
        super().__init__()
        check_values(n_values, n_states)
        # of order 1, as Adam's steps are; forward divides by 2**N to give the size of probabilities
        self.values = nn.Parameter(torch.randn(n_values, generator=generator).square())
        self.register_buffer("reader", spread(n_values, n_states, generator))

    def forward(self) -> Tensor:
        """Return each state's entry over 2**N, shape (2**N,); may be negative."""
        return self.values[self.reader] / len(self.reader)


class Shuffled(nn.Module):
    """A circuit whose probabilities are permuted once: each weight reads another basis state's.

    Args:
        qnn: the circuit, which is trained.
        generator: source of the permutation; PyTorch's global one if left out.

    Example:
        >>> source = Shuffled(QNN(3, 2))
        >>> torch.equal(source().sort().values, source.qnn().sort().values)
        True
    """

    def __init__(self, qnn: QNN, *, generator: torch.Generator | None = None):
        super().__init__()
        self.qnn = qnn
        order = torch.randperm(2**qnn.n_qubits, generator=generator)
        self.register_buffer("order", order, persistent=False)  # the seed gives it again

    def forward(self) -> Tensor:
        """Return p in another order, shape (2**N,), summing to 1."""
        return self.qnn()[self.order]


class MatrixProductState(nn.Module):
    """Probabilities of a trained matrix product state with real tensors.

    psi(i) is A_1[i_1] A_2[i_2] ... A_N[i_N], a product of matrices that the bits of i choose, and
    p = psi**2 / sum(psi**2). The trained numbers are the tensors' entries with the lowest bond
    indices; others are zero. So any number of parameters is possible: the last ones widen bonds
    from the middle of the chain. The matrices start orthogonal, so all psi(i) are of one order.

    Args:
        n_qubits: N.
        n_values: trained numbers, from 2 N (a product state) to what the largest bonds allow.
        generator: source of the start; PyTorch's global one if left out.

    Raises:
        ValueError: if ``n_values`` is out of range.

    Example:
        >>> state = MatrixProductState(13, 208)
        >>> state.bonds
        [1, 2, 3, 3, 3, 3, 4, 4, 3, 3, 3, 3, 2, 1]
        >>> round(state().sum().item(), 5)
        1.0
    """

    def __init__(self, n_qubits: int, n_values: int, *, generator: torch.Generator | None = None):
        super().__init__()
        largest = [2 ** min(place, n_qubits - place) for place in range(n_qubits + 1)]
        entries = [
            (site, bit, left, right)
            for site in range(n_qubits)
            for bit in range(2)
            for left in range(largest[site])
            for right in range(largest[site + 1])
        ]
        check_values(n_values, len(entries), at_least=2 * n_qubits)

        def rank(entry: tuple[int, int, int, int]) -> tuple:
            site, bit, left, right = entry
            highest = max(left, right)
            bonds = [b for b, index in ((site, left), (site + 1, right)) if index == highest]
            from_middle = max(abs(2 * b - n_qubits) for b in bonds)
            return highest, from_middle, min(left, right), site, bit

        trained = sorted(sorted(entries, key=rank)[:n_values])
        self.bonds = [1] * (n_qubits + 1)
        for site, _, left, right in trained:
            self.bonds[site] = max(self.bonds[site], left + 1)
            self.bonds[site + 1] = max(self.bonds[site + 1], right + 1)
        start, places, offset = [], [], 0
        for site, (n_left, n_right) in enumerate(pairwise(self.bonds)):
            pair = [torch.empty(n_left, n_right) for _ in range(2)]
            for matrix in pair:
                nn.init.orthogonal_(matrix, generator=generator)
            start.append(torch.stack(pair, dim=1).flatten())
            places += [
                offset + (left * 2 + bit) * n_right + right
                for own, bit, left, right in trained
                if own == site
            ]
            offset += n_left * 2 * n_right
        self.n_entries = offset
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.values = nn.Parameter(torch.cat(start)[self.places])

    def tensors(self) -> list[Tensor]:
        """Return A_1 ... A_N, each of shape (left bond, 2, right bond)."""
        flat = self.values.new_zeros(self.n_entries).scatter(0, self.places, self.values)
        shapes = [(n_left, 2, n_right) for n_left, n_right in pairwise(self.bonds)]
        parts = flat.split([math.prod(shape) for shape in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def forward(self) -> Tensor:
        """Return p, shape (2**N,), summing to 1."""
        state = self.values.new_ones(1, 1)
        for tensor in self.tensors():  # state[i, right]: the product for the bits so far
            state = (state @ tensor.flatten(1)).view(-1, tensor.shape[2])
        squares = state.flatten().square()
        return squares / squares.sum()


def check_values(n_values: int, n_places: int, at_least: int = 1) -> None:
    """Refuse a number of trained values that is too small or above the number of places."""
    if not at_least <= n_values <= n_places:
        raise ValueError(f"n_values must be between {at_least} and {n_places}, got {n_values}")


def spread(n_values: int, n_places: int, generator: torch.Generator | None) -> Tensor:
    """Assign a value to each place at random, each value equally often up to one."""
    order = torch.randperm(n_places, generator=generator)
    return (torch.arange(n_places) % n_values)[order]
