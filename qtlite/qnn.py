"""The quantum neural network: angles in, 2**N probabilities out."""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from numbers import Integral

import torch
from torch import Tensor, nn

from qtlite.circuit import Block, probabilities, ry_linear_cnot, ry_only
from qtlite.engine import circuit as fused
from qtlite.engine.read_block import NotRealAmplitude, RealBlock, read_block

SIMULATORS = ("auto", "fused", "tensorcircuit")

# Reading a block of 19 qubits takes a second: once is enough for equal models. Blocks of the
# reader's own are read each time, since what they do may have changed.
_read_known_block = lru_cache(maxsize=8)(read_block)


class QNN(nn.Module):
    """The circuit of Fig. 1 (Liu et al. 2024) as a layer without input.

    Args:
        n_qubits: N >= 1.
        n_blocks: L >= 1, how often the block is repeated.
        block: appends one block to a TensorCircuit circuit; the paper's if left out.
        angles_per_block: K; N if left out.
        simulator: "fused" runs real-amplitude circuits fast; "tensorcircuit" runs any; "auto" takes
            the fused one where it can. ``simulator`` and ``simulator_reason`` say what was taken.
        angle_range: angles start uniform in [-angle_range, angle_range], radians.
        generator: source of the random start; PyTorch's global one if left out.

    Raises:
        ValueError: if a size is below 1, the simulator is unknown, or "fused" was asked of a
            circuit that is not real.

    Example:
        >>> qnn = QNN(n_qubits=3, n_blocks=2)
        >>> qnn().shape, round(qnn().sum().item(), 5), qnn.simulator
        (torch.Size([8]), 1.0, 'fused')
    """

    def __init__(
        self,
        n_qubits: int,
        n_blocks: int,
        *,
        block: Block = ry_linear_cnot,
        angles_per_block: int | None = None,
        simulator: str = "auto",
        angle_range: float = torch.pi,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        angles_per_block = n_qubits if angles_per_block is None else angles_per_block
        for name, value in (
            ("n_qubits", n_qubits),
            ("n_blocks", n_blocks),
            ("angles_per_block", angles_per_block),
        ):
            if not isinstance(value, Integral):
                raise ValueError(f"{name} must be an integer, got {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not isfinite(angle_range):
            raise ValueError(f"angle_range must be a finite number, got {angle_range}")
        if simulator not in SIMULATORS:
            raise ValueError(f"simulator must be one of {SIMULATORS}, got {simulator!r}")
        self.n_qubits, self.n_blocks, self.block = n_qubits, n_blocks, block
        self.real_block: RealBlock | None = None
        self.simulator, self.simulator_reason = simulator, "asked for"
        if simulator != "tensorcircuit":
            try:
                read = _read_known_block if block in (ry_linear_cnot, ry_only) else read_block
                self.real_block = read(block, n_qubits, angles_per_block)
                self.simulator = "fused"
                if simulator == "auto":
                    self.simulator_reason = "every gate of the block is real"
            except NotRealAmplitude as reason:
                if simulator == "fused":
                    raise
                self.simulator, self.simulator_reason = "tensorcircuit", str(reason)
        start = torch.rand(n_blocks, angles_per_block, generator=generator) * 2 - 1
        self.angles = nn.Parameter(start * angle_range)

    def forward(self) -> Tensor:
        """Return p, shape (2**N,), dimensionless, summing to 1."""
        if self.real_block is not None:
            return fused.probabilities(self.real_block, self.angles)
        return probabilities(self.n_qubits, self.angles, self.block)

    def extra_repr(self) -> str:
        block = getattr(self.block, "__name__", self.block)
        return (
            f"n_qubits={self.n_qubits}, n_blocks={self.n_blocks}, block={block}, "
            f"simulator={self.simulator}"
        )
