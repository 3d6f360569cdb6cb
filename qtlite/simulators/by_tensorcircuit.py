"""TensorCircuit's own simulation: any gate, differentiated by PyTorch, far slower than fused."""

from __future__ import annotations

import torch
from torch import Tensor

from qtlite.circuit import Block, build_circuit


def probabilities(n_qubits: int, angles: Tensor, block: Block) -> Tensor:
    """p_i = |<i|psi(phi)>|^2 by TensorCircuit's PyTorch backend.

    Args:
        n_qubits: N.
        angles: phi, shape (L, K), radians; float32 runs in complex64, float64 in complex128.
        block: appends one block to a circuit.

    Returns:
        Shape (2**N,), dtype of ``angles``.

    Example:
        >>> from qtlite.circuit import ry_linear_cnot
        >>> angles = torch.tensor([[torch.pi / 2, 0.0]])
        >>> probabilities(2, angles, ry_linear_cnot).round(decimals=3).tolist()
        [0.5, 0.0, 0.0, 0.5]
    """
    import tensorcircuit as tc  # here: it takes seconds, and inference needs none of it

    precision = "complex128" if angles.dtype == torch.float64 else "complex64"
    # the backend is global to the process: set it for these lines alone
    with tc.runtime_backend("pytorch"), tc.runtime_dtype(precision):
        return build_circuit(n_qubits, angles, block).probability().to(angles.dtype)
