"""Blocks of gates that a run can have by name: an ansatz is one function and its entry."""

from typing import TYPE_CHECKING

from torch import Tensor

from qtlite.circuit import Block, ry_linear_cnot, ry_only

if TYPE_CHECKING:
    import tensorcircuit as tc


def ry_ring_cnot(circuit: "tc.Circuit", angles: Tensor) -> None:
    """Append an Ry per qubit, then a ring of CNOTs: CNOT(0, 1), CNOT(1, 2), ..., CNOT(N - 1, 0).

    The ring of two qubits is CNOT(0, 1), CNOT(1, 0); one qubit has none.

    Args:
        circuit: N qubits, changed in place.
        angles: shape (N,), radians.

    Raises:
        ValueError: if there are more or fewer angles than qubits.

    Example:
        >>> import numpy, tensorcircuit as tc
        >>> circuit = tc.Circuit(3)
        >>> ry_ring_cnot(circuit, numpy.zeros(3))
        >>> [gate["index"] for gate in circuit.to_qir() if gate["name"] == "cnot"]
        [(0, 1), (1, 2), (2, 0)]
    """
    ry_only(circuit, angles)
    for qubit in range(len(angles) if len(angles) > 1 else 0):
        circuit.cnot(qubit, (qubit + 1) % len(angles))


def u3_ring_cu3(circuit: "tc.Circuit", angles: Tensor) -> None:
    """Append the block of the authors' released notebooks: U3 on each qubit, then a ring of CU3.

    Its amplitudes are complex, so only TensorCircuit can run it.

    Args:
        circuit: N >= 2 qubits, changed in place.
        angles: shape (6 N,), radians; three for each U3, then three for each CU3.

    Raises:
        ValueError: if there are more or fewer angles.

    Example:
        >>> import numpy, tensorcircuit as tc
        >>> circuit = tc.Circuit(2)
        >>> u3_ring_cu3(circuit, numpy.zeros(12))
        >>> [gate["name"] for gate in circuit.to_qir()]
        ['u', 'u', 'cu', 'cu']
    """
    n_qubits = circuit.circuit_param["nqubits"]
    if tuple(angles.shape) != (6 * n_qubits,):
        raise ValueError(f"angles must have shape ({6 * n_qubits},), got {tuple(angles.shape)}")
    single, controlled = angles.reshape(2, n_qubits, 3)
    for qubit in range(n_qubits):
        theta, phi, lbd = single[qubit]
        circuit.u(qubit, theta=theta, phi=phi, lbd=lbd)
    for qubit in range(n_qubits):
        theta, phi, lbd = controlled[qubit]
        circuit.cu(qubit, (qubit + 1) % n_qubits, theta=theta, phi=phi, lbd=lbd)


# name: block, angles for each qubit
ANSAETZE: dict[str, tuple[Block, int]] = {
    "ry_linear_cnot": (ry_linear_cnot, 1),
    "ry_ring_cnot": (ry_ring_cnot, 1),
    "ry_only": (ry_only, 1),
    "u3_ring_cu3": (u3_ring_cu3, 6),
}
