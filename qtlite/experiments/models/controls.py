"""Build the controls: other sources of the same weights, with as many trained parameters.

A control has the target and the weight normalisation of the QT row that it is compared with, and
exactly its number of trained parameters. ``qtlite.experiments.controls`` describes each.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from qtlite.checks import check_count
from qtlite.circuit import ry_only
from qtlite.experiments.controls import ALL_CONTROLS
from qtlite.experiments.models.sources import (
    FrozenNoise,
    MatrixProductState,
    Shuffled,
    SpreadVector,
    check_values,
    spread,
)
from qtlite.experiments.models.targets import append_linear
from qtlite.mapping import MappingNet, fully_connected, mapping_inputs, qubits_needed, standardise
from qtlite.qnn import QNN
from qtlite.quantum_train import GeneratedNetwork, QuantumTrain

# kernel, pooling and channels of two convolutions, width of the hidden layer, by number of weights
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
    generator: torch.Generator | None = None,
    **options: Any,
) -> GeneratedNetwork:
    """Build the control that is compared with QT-L.

    Args:
        name: one of ``ALL_CONTROLS``.
        target: the network whose weights are generated; "small_cnn" has its own instead.
        n_blocks: L of the QT row to match.
        hidden: widths of the QT row's mapping net.
        activation: of mapping nets, see ``MappingNet``.
        generator: source of everything random; PyTorch's global one if left out.
        **options: ``normalisation`` and ``weight_gain``, see ``GeneratedNetwork``.

    Raises:
        ValueError: if the name is unknown, ``n_blocks`` is below 1, or no size has the number of
            parameters to match.

    Example:
        >>> from qtlite.experiments.models.targets import paper_cnn
        >>> {build_control(name, paper_cnn("mnist"), 16).n_trainable for name in ALL_CONTROLS}
        {457}
    """
    if name not in tuple(ALL_CONTROLS):
        raise ValueError(f"name must be one of {tuple(ALL_CONTROLS)}, got {name!r}")
    check_count("n_blocks", n_blocks, 10_000)
    n_qubits = qubits_needed(sum(p.numel() for p in target.parameters()))
    n_states, n_circuit = 2**n_qubits, n_qubits * n_blocks
    n_trainable = n_circuit + mapping_size(n_qubits + 1, hidden)
    draws = {"generator": generator}

    def from_source(source: nn.Module, hidden: Sequence[int] = hidden) -> QuantumTrain:
        net = MappingNet(n_qubits, hidden, activation=activation, **draws)
        return QuantumTrain(target, qnn=source, mapping=net, **options)

    def only_mapping_trained(source: nn.Module) -> QuantumTrain:
        return from_source(source, mlp_widths(n_qubits + 1, n_trainable, hidden))

    def from_bits(shape: Sequence[int]) -> BitsToWeights:
        widths = mlp_widths(n_qubits, n_trainable, shape)
        return BitsToWeights(target, widths, activation=activation, **draws, **options)

    builders: dict[str, Callable[[], GeneratedNetwork]] = {
        "frozen_circuit": lambda: only_mapping_trained(
            QNN(n_qubits, n_blocks, **draws).requires_grad_(False)
        ),
        "frozen_noise": lambda: only_mapping_trained(FrozenNoise(n_states, **draws)),
        "bits_only": lambda: from_bits(hidden),
        "no_entanglement": lambda: from_source(QNN(n_qubits, n_blocks, block=ry_only, **draws)),
        "trainable_vector": lambda: from_source(SpreadVector(n_circuit, n_states, **draws)),
        "random_subspace": lambda: RandomSubspace(target, n_trainable, **draws, **options),
        "hashed": lambda: HashedWeights(target, n_trainable, **draws, **options),
        "hypernetwork": lambda: from_bits((1, 1, 1)),
        "small_cnn": lambda: StoredWeights(small_cnn(n_trainable), **draws, **options),
        "shuffled": lambda: from_source(Shuffled(QNN(n_qubits, n_blocks, **draws), **draws)),
        "matrix_product_state": lambda: from_source(
            MatrixProductState(n_qubits, n_circuit, **draws)
        ),
    }
    return builders[name]()


class BitsToWeights(GeneratedNetwork):
    """The mapping net without the probability: it maps the bits of a weight's index to the weight.

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
        **options: Any,
    ):
        super().__init__(target, **options)
        n_qubits = qubits_needed(self.n_weights)
        self.layers = fully_connected([n_qubits, *hidden, 1], activation, generator)
        bits = mapping_inputs(torch.zeros(self.n_weights), n_qubits)[:, :-1]
        self.register_buffer("_bits", bits, persistent=False)
        if self.normalise.scheme != "none" and self.n_weights > 1:
            standardise(self.layers[-1], self.generate().detach())

    def generate(self) -> Tensor:
        """Shape (M,)."""
        return self.layers(self._bits).squeeze(1)


class FromValues(GeneratedNetwork):
    """Weights from a few trained numbers; a subclass says how in ``draw`` and ``generate``.

    Args:
        target: any ``nn.Module``.
        n_values: trained numbers, 1 <= n_values <= M; M if left out.
        generator: source of everything random; PyTorch's global one if left out.
        **options: see ``GeneratedNetwork``.

    Raises:
        ValueError: if ``n_values`` is out of range.

    Example:
        >>> HashedWeights(nn.Linear(10, 5), 7).generate().abs().unique().numel()
        7
    """

    def __init__(
        self,
        target: nn.Module,
        n_values: int | None = None,
        *,
        generator: torch.Generator | None = None,
        **options: Any,
    ):
        super().__init__(target, **options)
        n_values = self.n_weights if n_values is None else n_values
        check_values(n_values, self.n_weights)
        self.draw(n_values, generator)

    def draw(self, n_values: int, generator: torch.Generator | None) -> None:
        """Register what is trained and what stays random.

        The latter is not persistent: the seed gives it again, so checkpoints stay small.
        """
        raise NotImplementedError


class RandomSubspace(FromValues):
    """theta_0 + P z: random start, random directions, z trained from 0 (Li et al. 2018).

    The entries of P are normal with variance 1/d: where each of z's d entries moves by one, each
    weight moves by about one.
    """

    def draw(self, n_values: int, generator: torch.Generator | None) -> None:
        start = torch.randn(self.n_weights, generator=generator)
        directions = torch.randn(self.n_weights, n_values, generator=generator) / n_values**0.5
        self.z = nn.Parameter(torch.zeros(n_values))
        self.register_buffer("_start", start, persistent=False)
        self.register_buffer("_directions", directions, persistent=False)

    def generate(self) -> Tensor:
        return torch.addmv(self._start, self._directions, self.z)


class HashedWeights(FromValues):
    """Each weight reads one of the trained values, with a random sign (Chen et al. 2015)."""

    def draw(self, n_values: int, generator: torch.Generator | None) -> None:
        self.values = nn.Parameter(torch.randn(n_values, generator=generator))
        reader = spread(n_values, self.n_weights, generator)
        signs = torch.randint(0, 2, (self.n_weights,), generator=generator) * 2.0 - 1
        self.register_buffer("_reader", reader, persistent=False)
        self.register_buffer("_signs", signs, persistent=False)

    def generate(self) -> Tensor:
        return self._signs * self.values[self._reader]


class StoredWeights(FromValues):
    """Every weight is a trained value itself, and normalised as generated ones are."""

    def draw(self, n_values: int, generator: torch.Generator | None) -> None:
        self.values = nn.Parameter(torch.randn(n_values, generator=generator))

    def generate(self) -> Tensor:
        return self.values


def small_cnn(n_weights: int) -> nn.Sequential:
    """Build the paper's CNN for 28 x 28 images in a smaller size.

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
    return append_linear(network.append(nn.Flatten()), [n_in * size**2, width, 10], relu=True)


def mapping_size(n_inputs: int, hidden: Sequence[int] = (4, 20, 4)) -> int:
    """Count the weights and biases of a mapping net with N + 1 inputs.

    Example:
        >>> mapping_size(14), mapping_size(20, (40, 200, 40))
        (249, 17121)
    """
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise([n_inputs, *hidden, 1]))


def mlp_widths(n_inputs: int, n_parameters: int, shape: Sequence[int]) -> tuple[int, int, int]:
    """Return three hidden widths of a net with one output and exactly this many parameters.

    Of all widths that fit, it chooses those whose proportions are nearest to those of ``shape``.

    Args:
        n_inputs: of the net.
        n_parameters: weights and biases together.
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
    """Range of the ratios between two lists of widths, on a logarithmic scale."""
    ratios = torch.tensor(widths).log() - torch.tensor(shape).log()
    return float(ratios.max() - ratios.min())
