"""The quantum neural network: angles in, 2**N probabilities out."""

import torch
from torch import Tensor, nn

from qtlite import acceleration
from qtlite.checks import check_count, check_number
from qtlite.circuit import MAX_QUBITS, Block, check_trainable, probabilities, ry_linear_cnot


class QNN(nn.Module):
    """The circuit of Fig. 1 (Liu et al. 2024) as a layer without input.

    Args:
        n_qubits: N >= 1.
        n_blocks: L >= 1, how often the block is repeated.
        block: appends one block to a TensorCircuit circuit; the paper's if left out.
        angles_per_block: K; N if left out.
        angle_range: angles start uniform in [-angle_range, angle_range], radians.
        generator: source of the random start; PyTorch's global one if left out.

    Raises:
        ValueError: if a size is below 1 or too large for the memory, or the block cannot take K
            angles or ignores them.

    Example:
        >>> qnn = QNN(n_qubits=3, n_blocks=2)
        >>> qnn().shape, round(qnn().sum().item(), 5), qnn.angles.shape
        (torch.Size([8]), 1.0, torch.Size([2, 3]))
    """

    def __init__(
        self,
        n_qubits: int,
        n_blocks: int,
        *,
        block: Block = ry_linear_cnot,
        angles_per_block: int | None = None,
        angle_range: float = torch.pi,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        n_angles = n_qubits if angles_per_block is None else angles_per_block
        check_count("n_qubits", n_qubits, MAX_QUBITS)
        check_count("angles_per_block", n_angles)
        check_count("n_blocks", n_blocks, 2**28 // n_angles)  # so many angles are a gigabyte
        check_number("angle_range", angle_range, -1e6, 1e6)
        self.n_qubits, self.n_blocks, self.block = n_qubits, n_blocks, block
        self.prepared = acceleration.prepare_circuit(block, n_qubits, n_angles)
        check_trainable(block, n_qubits, n_angles)
        start = torch.rand(n_blocks, n_angles, generator=generator) * 2 - 1
        self.angles = nn.Parameter(start * angle_range)

    def forward(self) -> Tensor:
        """Return p, shape (2**N,), dimensionless, summing to 1."""
        p = acceleration.probabilities(self.prepared, self.angles)
        return probabilities(self.n_qubits, self.angles, self.block) if p is None else p

    @property
    def simulator(self) -> str:
        """What simulates the circuit, and why."""
        return getattr(self.prepared, "description", "TensorCircuit: there is no engine")
