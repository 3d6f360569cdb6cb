"""What a sceptic asks for: other sources of the same weights, with as many trained parameters.

Every control has the target, the weight normalisation and, exactly, the number of trained
parameters of the QT row that it stands beside; where its own size is free, it is chosen to match.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qtlite.circuit import ry_only
from qtlite.experiments.controls import CONTROLS
from qtlite.mapping import (
    MappingNet,
    basis_bits,
    fully_connected,
    mapping_size,
    qubits_needed,
    standardise,
)
from qtlite.qnn import QNN
from qtlite.quantum_train import GeneratedNetwork, QuantumTrain

# kernel, pooling and channels of two convolutions, width of the hidden layer, by weights in all
SMALL_CNNS = {
    457: ((3, 3, 2), (3, 3, 4), 13),
    1042: ((3, 2, 6), (3, 3, 4), 16),
    1822: ((7, 2, 9), (3, 3, 5), 17),
}


def build_control(
    name: str,
    target: nn.Module,
    n_blocks: int,
    *,
    hidden: Sequence[int] = (4, 20, 4),
    activation: str = "all",
    normalisation: str = "row",
    weight_gain: float = 2**0.5,
    generator: torch.Generator | None = None,
) -> GeneratedNetwork:
    """Build the control that stands beside QT-L.

    Args:
        name: one of ``CONTROLS``.
        target: the network whose weights are generated; "small_cnn" brings its own.
        n_blocks: L of the QT row to match.
        hidden: widths of the QT row's mapping net.
        activation: of mapping nets, see ``MappingNet``.
        normalisation: of the weights, see ``normalise_weights``.
        weight_gain: see ``weight_scales``.
        generator: source of everything random; PyTorch's global one if left out.

    Raises:
        ValueError: if the name is unknown, ``n_blocks`` is below 1, or no size has the number of
            parameters to match.

    Example:
        >>> from qtlite.experiments.models.targets import paper_cnn
        >>> [build_control(name, paper_cnn("mnist"), 16).n_trainable for name in CONTROLS]
        [457, 457, 457, 457, 457, 457, 457, 457, 457]
    """
    if name not in CONTROLS:
        raise ValueError(f"name must be one of {tuple(CONTROLS)}, got {name!r}")
    if n_blocks < 1:
        raise ValueError(f"n_blocks must be at least 1, got {n_blocks}")
    options = {"normalisation": normalisation, "weight_gain": weight_gain}
    mapped = {"activation": activation, "generator": generator}
    n_weights = sum(p.numel() for p in target.parameters())
    n_qubits = qubits_needed(n_weights)
    n_circuit = n_qubits * n_blocks
    n_trainable = n_circuit + mapping_size(n_qubits + 1, hidden)

    if name in ("frozen_circuit", "frozen_noise"):
        wider = mlp_widths(n_qubits + 1, n_trainable, hidden)
        source = (
            QNN(n_qubits, n_blocks, generator=generator).requires_grad_(False)
            if name == "frozen_circuit"
            else FrozenNoise(2**n_qubits, generator=generator)
        )
        return _from_source(target, source, n_qubits, wider, mapped, options)
    if name == "no_entanglement":
        source = QNN(n_qubits, n_blocks, block=ry_only, generator=generator)
        return _from_source(target, source, n_qubits, hidden, mapped, options)
    if name == "trainable_vector":
        source = SpreadVector(n_circuit, 2**n_qubits, generator=generator)
        return _from_source(target, source, n_qubits, hidden, mapped, options)
    if name == "bits_only":
        widths = mlp_widths(n_qubits, n_trainable, hidden)
        return BitsToWeights(target, widths, **mapped, **options)
    if name == "hypernetwork":
        widths = mlp_widths(n_qubits, n_trainable, (1, 1, 1))
        return BitsToWeights(target, widths, **mapped, **options)
    if name == "random_subspace":
        return RandomSubspace(target, n_trainable, generator=generator, **options)
    if name == "hashed":
        return HashedWeights(target, n_trainable, generator=generator, **options)
    return StoredWeights(small_cnn(n_trainable), generator=generator, **options)


def _from_source(
    target: nn.Module,
    source: nn.Module,
    n_qubits: int,
    hidden: Sequence[int],
    mapped: dict,
    options: dict,
) -> QuantumTrain:
    net = MappingNet(n_qubits, hidden, **mapped)
    model = QuantumTrain(target, qnn=source, mapping=net, **options)
    model.standardise()
    return model


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
    """A trained vector in the circuit's place: each basis state reads one of its entries.

    Args:
        n_values: trained numbers.
        n_states: 2**N.
        generator: source of the start and of who reads what; PyTorch's global one if left out.

    Raises:
        ValueError: if ``n_values`` is not between 1 and ``n_states``.

    Example:
        >>> SpreadVector(3, 8)().unique().numel()
        3
    """

    def __init__(self, n_values: int, n_states: int, *, generator: torch.Generator | None = None):
        super().__init__()
        _check_values(n_values, n_states)
        # of order 1, as Adam's steps are; divided by 2**N like probabilities when read
        self.values = nn.Parameter(torch.randn(n_values, generator=generator).square())
        self.register_buffer("reader", _spread(n_values, n_states, generator))

    def forward(self) -> Tensor:
        """Return each state's entry over 2**N, shape (2**N,); may be negative."""
        return self.values[self.reader] / len(self.reader)


class BitsToWeights(GeneratedNetwork):
    """The mapping net without the probability: the bits of a weight's index in, the weight out.

    Args:
        target: any ``nn.Module``.
        hidden: widths of the hidden layers.
        activation: see ``MappingNet``.
        generator: source of the random start; PyTorch's global one if left out.
        **options: see ``GeneratedNetwork``.
    """

    def __init__(
        self,
        target: nn.Module,
        hidden: Sequence[int],
        *,
        activation: str = "all",
        generator: torch.Generator | None = None,
        **options: object,
    ):
        super().__init__(target, **options)
        n_qubits = qubits_needed(self.n_weights)
        self.layers = fully_connected([n_qubits, *hidden, 1], activation, generator)
        bits = basis_bits(n_qubits, self.n_weights)
        self.register_buffer("_bits", bits, persistent=False)
        if self.normalise.scheme != "none" and self.n_weights > 1:
            standardise(self.layers[-1], self.generate().detach())

    def generate(self) -> Tensor:
        """Shape (M,)."""
        return self.layers(self._bits).squeeze(1)


class RandomSubspace(GeneratedNetwork):
    """theta_0 + P z: random start, random directions, z trained from 0 (Li et al. 2018).

    P's entries are normal with variance 1/d, so that moving each entry of z by one moves each
    weight by about one.

    Args:
        target: any ``nn.Module``.
        n_values: d, length of z.
        generator: source of theta_0 and P; PyTorch's global one if left out.
        **options: see ``GeneratedNetwork``.

    Raises:
        ValueError: if ``n_values`` is below 1.
    """

    def __init__(
        self,
        target: nn.Module,
        n_values: int,
        *,
        generator: torch.Generator | None = None,
        **options: object,
    ):
        super().__init__(target, **options)
        if n_values < 1:
            raise ValueError(f"n_values must be at least 1, got {n_values}")
        self.z = nn.Parameter(torch.zeros(n_values))
        start = torch.randn(self.n_weights, generator=generator)
        directions = torch.randn(self.n_weights, n_values, generator=generator) / n_values**0.5
        # seeded, so that no checkpoint has to hold megabytes of them
        self.register_buffer("_start", start, persistent=False)
        self.register_buffer("_directions", directions, persistent=False)

    def generate(self) -> Tensor:
        """Shape (M,)."""
        return torch.addmv(self._start, self._directions, self.z)


class HashedWeights(GeneratedNetwork):
    """Each weight reads one of a few trained values, with a random sign (Chen et al. 2015).

    Args:
        target: any ``nn.Module``.
        n_values: trained values.
        generator: source of the start, of who reads what and of the signs; PyTorch's global one if
            left out.
        **options: see ``GeneratedNetwork``.

    Raises:
        ValueError: if ``n_values`` is not between 1 and M.
    """

    def __init__(
        self,
        target: nn.Module,
        n_values: int,
        *,
        generator: torch.Generator | None = None,
        **options: object,
    ):
        super().__init__(target, **options)
        _check_values(n_values, self.n_weights)
        self.values = nn.Parameter(torch.randn(n_values, generator=generator))
        reader = _spread(n_values, self.n_weights, generator)
        signs = torch.randint(0, 2, (self.n_weights,), generator=generator) * 2.0 - 1
        self.register_buffer("_reader", reader, persistent=False)
        self.register_buffer("_signs", signs, persistent=False)

    def generate(self) -> Tensor:
        """Shape (M,)."""
        return self._signs * self.values[self._reader]


class StoredWeights(GeneratedNetwork):
    """Every weight is trained itself, and normalised as generated ones are.

    Args:
        target: any ``nn.Module``.
        generator: source of the random start; PyTorch's global one if left out.
        **options: see ``GeneratedNetwork``.
    """

    def __init__(
        self, target: nn.Module, *, generator: torch.Generator | None = None, **options: object
    ):
        super().__init__(target, **options)
        self.values = nn.Parameter(torch.randn(self.n_weights, generator=generator))

    def generate(self) -> Tensor:
        """Shape (M,)."""
        return self.values


def small_cnn(n_weights: int) -> nn.Sequential:
    """The paper's CNN for 28 x 28 images, made smaller: two convolutions, two linear layers.

    Args:
        n_weights: 457, 1042 or 1822.

    Raises:
        ValueError: if no network of that size is known.

    Example:
        >>> small_cnn(457)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    if n_weights not in SMALL_CNNS:
        raise ValueError(f"n_weights must be one of {tuple(SMALL_CNNS)}, got {n_weights}")
    *convolutions, width = SMALL_CNNS[n_weights]
    network, n_in, size = nn.Sequential(), 1, 28
    for kernel, pool, channels in convolutions:
        network.extend([nn.Conv2d(n_in, channels, kernel), nn.MaxPool2d(pool), nn.ReLU()])
        n_in, size = channels, (size - kernel + 1) // pool
    network.append(nn.Flatten())
    network.extend([nn.Linear(n_in * size**2, width), nn.ReLU(), nn.Linear(width, 10)])
    return network


def mlp_widths(n_inputs: int, n_parameters: int, shape: Sequence[int]) -> tuple[int, int, int]:
    """Three hidden widths of a net with one output and exactly this many parameters.

    Of all the widths that fit, those whose proportions are nearest to ``shape``'s.

    Args:
        n_inputs: numbers that the net sees.
        n_parameters: weights and biases in all.
        shape: three widths to imitate.

    Raises:
        ValueError: if ``shape`` is not three widths, or none fit.

    Example:
        >>> mlp_widths(14, 249, (4, 20, 4)), mlp_widths(14, 457, (4, 20, 4))
        ((4, 20, 4), (4, 27, 9))
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be three positive widths, got {tuple(shape)}")
    found = []
    for first in range(1, n_parameters // (n_inputs + 1) + 1):
        rest = n_parameters - first * (n_inputs + 1)
        for second in range(1, rest // (first + 1) + 1):
            third, left = divmod(rest - second * (first + 1) - 1, second + 2)
            if third >= 1 and left == 0:
                found.append((first, second, third))
    if not found:
        raise ValueError(
            f"n_parameters must be the size of a net with {n_inputs} inputs and three hidden "
            f"layers, got {n_parameters}"
        )
    return min(found, key=lambda widths: _difference(widths, shape))


def _difference(widths: Sequence[int], shape: Sequence[int]) -> float:
    """Spread of the ratios between two lists of widths, on a logarithmic scale."""
    ratios = torch.tensor(widths).log() - torch.tensor(shape).log()
    return float(ratios.max() - ratios.min())


def _check_values(n_values: int, n_places: int) -> None:
    if not 1 <= n_values <= n_places:
        raise ValueError(f"n_values must be between 1 and {n_places}, got {n_values}")


def _spread(n_values: int, n_places: int, generator: torch.Generator | None) -> Tensor:
    """Which value each place reads: at random, every value as often as any other."""
    order = torch.randperm(n_places, generator=generator)
    return (torch.arange(n_places) % n_values)[order]
