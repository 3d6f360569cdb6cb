"""The parameterised circuit: blocks written as TensorCircuit functions, and their simulation.

A block is a function ``block(circuit, angles)`` that appends gates to a ``tensorcircuit.Circuit``
and uses one row of angles. Repeated ``n_blocks`` times it gives |psi(phi)> of Fig. 1 (Liu et al.
2024). To try another ansatz, write another such function.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qtlite.checks import check_count

if TYPE_CHECKING:
    import tensorcircuit as tc

Block = Callable[["tc.Circuit", Tensor], None]
MAX_QUBITS = 40


def ry_linear_cnot(circuit: "tc.Circuit", angles: Tensor) -> None:
    """Append the paper's block (Fig. 1): an Ry a qubit (Eq. 4), then CNOT(0, 1), CNOT(1, 2), ...

    Args:
        circuit: N qubits, changed in place.
        angles: one row of phi, shape (N,), radians.

    Raises:
        ValueError: if there are more or fewer angles than qubits.

    Example:
        >>> import numpy, tensorcircuit as tc
        >>> circuit = tc.Circuit(3)
        >>> ry_linear_cnot(circuit, numpy.zeros(3))
        >>> [gate["name"] for gate in circuit.to_qir()]
        ['ry', 'ry', 'ry', 'cnot', 'cnot']
    """
    ry_only(circuit, angles)
    for qubit in range(len(angles) - 1):
        circuit.cnot(qubit, qubit + 1)


def ry_only(circuit: "tc.Circuit", angles: Tensor) -> None:
    """Append one Ry a qubit and no CNOT: the control without entanglement."""
    n_qubits = circuit.circuit_param["nqubits"]
    if len(angles) != n_qubits:
        raise ValueError(f"angles must be one for each of {n_qubits} qubits, got {len(angles)}")
    for qubit in range(n_qubits):
        circuit.ry(qubit, theta=angles[qubit])


def build_circuit(n_qubits: int, angles: Tensor, block: Block = ry_linear_cnot) -> "tc.Circuit":
    """Build |psi(phi)>: the block applied to |0...0> once for each row of angles.

    It belongs to TensorCircuit's backend of the moment: differentiate through it inside
    ``with tc.runtime_backend("pytorch"):``.

    Args:
        n_qubits: N >= 1.
        angles: phi, shape (L, angles per block), radians.
        block: appends one block to the circuit.

    Raises:
        ValueError: if ``n_qubits`` is out of range or ``angles`` has not two axes.

    Example:
        >>> import tensorcircuit as tc, torch
        >>> with tc.runtime_backend("pytorch"):
        ...     circuit = build_circuit(2, torch.tensor([[torch.pi / 2, 0.0]]))
        ...     circuit.probability().round(decimals=3).tolist()
        [0.5, 0.0, 0.0, 0.5]
    """
    import tensorcircuit as tc  # here: it takes seconds, and inference needs none of it

    check_count("n_qubits", n_qubits, MAX_QUBITS)
    if angles.ndim != 2:
        raise ValueError(f"angles must have shape (blocks, angles per block), got {angles.shape}")
    circuit = tc.Circuit(n_qubits)
    for row in angles:
        block(circuit, row)
    return circuit


def gate_list(block: Block, n_qubits: int, angles: Tensor) -> list[dict]:
    """Return the gates that a block appends, as TensorCircuit's ``to_qir`` lists them.

    Example:
        >>> [gate["name"] for gate in gate_list(ry_linear_cnot, 2, torch.zeros(2))]
        ['ry', 'ry', 'cnot']
    """
    with torch.enable_grad(), tensorcircuit_with("pytorch", "complex128") as tc:
        circuit = tc.Circuit(n_qubits)
        try:
            block(circuit, angles)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"block must append gates to {n_qubits} qubits from {len(angles)} angles (see "
                f"angles_per_block), got {type(error).__name__}: {error}"
            ) from error
        return circuit.to_qir()


def check_trainable(block: Block, n_qubits: int, n_angles: int) -> None:
    """Refuse a block whose gates do not depend on its angles: it would train nothing."""
    angles = torch.linspace(0.1, 0.9, n_angles, dtype=torch.float64, device="cpu")
    gates = gate_list(block, n_qubits, angles.requires_grad_())
    values = [v for g in gates for v in (*g.get("parameters", {}).values(), g["gate"])]
    if not any(getattr(getattr(v, "tensor", v), "requires_grad", False) for v in values):
        raise ValueError("block must use its angles, got one whose gates do not depend on them")


_backend = RLock()


@contextmanager
def tensorcircuit_with(backend: str, dtype: str) -> Iterator[ModuleType]:
    """TensorCircuit with a backend and a complex dtype, both global, one thread at a time."""
    import tensorcircuit as tc

    with _backend, tc.runtime_backend(backend), tc.runtime_dtype(dtype):
        yield tc


def probabilities(n_qubits: int, angles: Tensor, block: Block) -> Tensor:
    """Return p_i = |<i|psi(phi)>|^2, shape (2**N,), by TensorCircuit's PyTorch backend.

    Args as for ``build_circuit``; float32 angles run in complex64, float64 in complex128.

    Example:
        >>> angles = torch.tensor([[torch.pi / 2, 0.0]])
        >>> probabilities(2, angles, ry_linear_cnot).round(decimals=3).tolist()
        [0.5, 0.0, 0.0, 0.5]
    """
    complex_dtype = "complex128" if angles.dtype == torch.float64 else "complex64"
    with tensorcircuit_with("pytorch", complex_dtype):
        return build_circuit(n_qubits, angles, block).probability().to(angles.dtype)
