"""QCML, the paper's comparison model (Fig. 4): a circuit between two classical networks.

Unlike Quantum-Train, it needs its circuit for every image, at inference too. The paper does not say
how features become angles, which gate is trained and how qubits are entangled. Here they are tanh
times pi, Ry, and the linear CNOT chain of Fig. 1.
"""

import torch
from torch import Tensor, nn

from qtlite import acceleration
from qtlite.circuit import ry_linear_cnot, tensorcircuit_with
from qtlite.experiments.data.catalogue import entry_of
from qtlite.experiments.models.targets import append_linear, convolutions


class EncodedCircuit(nn.Module):
    """Map features to expectation values: H, Ry(x), Rz(x) on each qubit, L trained blocks, <Z>.

    Args:
        n_qubits: N >= 1.
        n_blocks: L >= 1 blocks, each of one Ry on each qubit and a linear CNOT chain.
        generator: source of the random start; PyTorch's global one if left out.

    Raises:
        ValueError: if a size is below 1.

    Example:
        >>> circuit = EncodedCircuit(n_qubits=3, n_blocks=2)
        >>> circuit(torch.zeros(5, 3)).shape, circuit.angles.numel()
        (torch.Size([5, 3]), 6)
    """

    def __init__(self, n_qubits: int, n_blocks: int, *, generator: torch.Generator | None = None):
        super().__init__()
        for name, value in (("n_qubits", n_qubits), ("n_blocks", n_blocks)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.n_qubits = n_qubits
        self.prepared = acceleration.prepare_circuit(ry_linear_cnot, n_qubits, n_qubits)
        start = torch.rand(n_blocks, n_qubits, generator=generator) * 2 - 1
        self.angles = nn.Parameter(start * torch.pi)

    def forward(self, features: Tensor) -> Tensor:
        """Map encoding angles, shape (B, N), radians, to <Z> of each qubit, shape (B, N)."""
        if features.ndim != 2 or features.shape[1] != self.n_qubits:
            raise ValueError(
                f"features must have shape (batch, {self.n_qubits}), got {tuple(features.shape)}"
            )
        values = acceleration.expectations(self.prepared, self.angles, encode_qubits(features))
        return plain_expectations(self.angles, features) if values is None else values


def plain_expectations(angles: Tensor, features: Tensor) -> Tensor:
    """Compute what ``EncodedCircuit`` returns by TensorCircuit, image by image.

    Args:
        angles: of the blocks, shape (L, N), radians.
        features: encoding angles, shape (B, N), radians.

    Returns:
        Shape (B, N), dtype of ``angles``.

    Example:
        >>> features = torch.tensor([[torch.pi / 2, 0.0]])  # H and Ry(pi/2) turn |0> to |1>
        >>> plain_expectations(torch.zeros(1, 2), features).round(decimals=3) + 0.0
        tensor([[-1.,  0.]])
    """
    rows = []
    complex_dtype = "complex128" if angles.dtype == torch.float64 else "complex64"
    with tensorcircuit_with("pytorch", complex_dtype) as tc:
        for image in features:
            circuit = tc.Circuit(len(image))
            for qubit, angle in enumerate(image):
                circuit.h(qubit)
                circuit.ry(qubit, theta=angle)
                circuit.rz(qubit, theta=angle)
            for row in angles:
                ry_linear_cnot(circuit, row)
            values = [circuit.expectation_ps(z=[qubit]).real for qubit in range(len(image))]
            rows.append(torch.stack(values))
    return torch.stack(rows).to(angles.dtype)


def encode_qubits(features: Tensor) -> Tensor:
    """Return Rz(x_q) Ry(x_q) H |0> for each qubit q of each row.

    Args:
        features: shape (B, N), radians.

    Returns:
        Complex amplitudes of |0> and |1>, shape (B, N, 2).

    Example:
        >>> encode_qubits(torch.zeros(1, 1))
        tensor([[[0.7071+0.j, 0.7071+0.j]]])
    """
    half = features / 2
    cos, sin = half.cos() / 2**0.5, half.sin() / 2**0.5
    phase = torch.polar(torch.ones_like(half), half)
    return torch.stack([(cos - sin) * phase.conj(), (cos + sin) * phase], dim=2)


class QCML(nn.Sequential):
    """Part 1 (convolutions, linear layers to N features), the circuit, part 2 (N to logits).

    Args:
        dataset: of the catalogue; decides part 1.
        n_qubits: N; 13 in the paper.
        n_blocks: L; 13 in the paper.
        relu: whether part 1's hidden layers end in ReLU.

    Raises:
        ValueError: if the dataset is unknown or a size is below 1.

    Example:
        >>> [sum(p.numel() for p in part.parameters()) for part in QCML("mnist")]
        [4693, 169, 140]
    """

    def __init__(self, dataset: str, *, n_qubits: int = 13, n_blocks: int = 13, relu: bool = True):
        part1, n_features = convolutions(dataset, relu=relu)
        entry = entry_of(dataset)
        append_linear(part1, [n_features, *entry.qcml_linear, n_qubits], relu=relu)
        circuit = EncodedCircuit(n_qubits, n_blocks)
        part2 = nn.Linear(n_qubits, len(entry.classes))
        super().__init__(part1.append(ToAngles()), circuit, part2)


class ToAngles(nn.Module):
    """pi tanh(x): map any number to an angle between -pi and pi, radians."""

    def forward(self, features: Tensor) -> Tensor:
        """Shape is kept."""
        return torch.pi * torch.tanh(features)
