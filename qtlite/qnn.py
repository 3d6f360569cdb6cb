"""The quantum neural network: angles in, 2**N probabilities out."""

from __future__ import annotations

from math import isfinite
from numbers import Integral

import torch
from torch import Tensor, nn

from qtlite import acceleration
from qtlite.circuit import Block, gate_list, probabilities, ry_linear_cnot

MAX_ANGLES = 2**28  # a gigabyte


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
        sizes = {"n_qubits": n_qubits, "n_blocks": n_blocks, "angles_per_block": n_angles}
        for name, value in sizes.items():
            if not isinstance(value, Integral):
                raise ValueError(f"{name} must be an integer, got {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not isfinite(angle_range):
            raise ValueError(f"angle_range must be a finite number, got {angle_range}")
        if n_blocks * n_angles > MAX_ANGLES:
            raise ValueError(f"n_blocks must give at most {MAX_ANGLES:,} angles, got {n_blocks}")
        self.n_qubits, self.n_blocks, self.block = n_qubits, n_blocks, block
        self.prepared = acceleration.prepare_circuit(block, n_qubits, n_angles)
        probe = torch.linspace(0.1, 0.9, n_angles, dtype=torch.float64, device="cpu")
        gate_list(block, n_qubits, probe.requires_grad_())  # refuses what cannot be trained
        start = torch.rand(n_blocks, n_angles, generator=generator) * 2 - 1
        self.angles = nn.Parameter(start * angle_range)

    def forward(self) -> Tensor:
        """Return p, shape (2**N,), dimensionless, summing to 1."""
        p = acceleration.probabilities(self.prepared, self.angles)
        return probabilities(self.n_qubits, self.angles, self.block) if p is None else p

    @property
    def simulator(self) -> str:
        """What simulates the circuit, and why."""
        return acceleration.describe(self.prepared)

    def extra_repr(self) -> str:
        """Sizes and block, for ``print``."""
        block = getattr(self.block, "__name__", self.block)
        return f"n_qubits={self.n_qubits}, n_blocks={self.n_blocks}, block={block}"
