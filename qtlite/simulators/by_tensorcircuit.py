"""TensorCircuit's own simulation: any gate, differentiated by PyTorch, far slower than fused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from types import ModuleType

import torch
from torch import Tensor

from qtlite.circuit import Block, build_circuit

_backend = RLock()


@contextmanager
def tensorcircuit_with(backend: str, dtype: str) -> Iterator[ModuleType]:
    """TensorCircuit with a backend and a complex dtype, one thread at a time.

    Both are global to the process; afterwards they are what they were.

    Example:
        >>> with tensorcircuit_with("pytorch", "complex64") as tc:
        ...     tc.Circuit(1).probability()
        tensor([1., 0.])
    """
    import tensorcircuit as tc  # here: it takes seconds, and inference needs none of it

    with _backend, tc.runtime_backend(backend), tc.runtime_dtype(dtype):
        yield tc


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
    precision = "complex128" if angles.dtype == torch.float64 else "complex64"
    with tensorcircuit_with("pytorch", precision):
        return build_circuit(n_qubits, angles, block).probability().to(angles.dtype)
