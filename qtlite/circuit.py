"""The parameterised circuit: blocks written as TensorCircuit functions, and their simulation.

A block is a function ``block(circuit, angles)`` that appends gates to a ``tensorcircuit.Circuit``
and consumes one row of angles. Repeating it ``n_blocks`` times gives |psi(phi)> of Fig. 1 (Liu et
al. 2024). To try another ansatz, write another such function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import tensorcircuit as tc

Block = Callable[["tc.Circuit", Tensor], None]


def ry_linear_cnot(circuit: tc.Circuit, angles: Tensor) -> None:
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
    n_qubits = _one_angle_each(circuit, angles)
    for qubit in range(n_qubits):
        circuit.ry(qubit, theta=angles[qubit])
    for qubit in range(n_qubits - 1):
        circuit.cnot(qubit, qubit + 1)


def ry_only(circuit: tc.Circuit, angles: Tensor) -> None:
    """Append one Ry per qubit and no CNOT: the control without entanglement.

    Args:
        circuit: N qubits, changed in place.
        angles: shape (N,), radians.

    Raises:
        ValueError: if there are more or fewer angles than qubits.

    Example:
        >>> import numpy, tensorcircuit as tc
        >>> circuit = tc.Circuit(2)
        >>> ry_only(circuit, numpy.zeros(2))
        >>> [gate["name"] for gate in circuit.to_qir()]
        ['ry', 'ry']
    """
    for qubit in range(_one_angle_each(circuit, angles)):
        circuit.ry(qubit, theta=angles[qubit])


def _one_angle_each(circuit: tc.Circuit, angles: Tensor) -> int:
    """The number of qubits, which is that of the angles."""
    n_qubits = circuit.circuit_param["nqubits"]
    if len(angles) != n_qubits:
        raise ValueError(f"angles must be one for each of {n_qubits} qubits, got {len(angles)}")
    return n_qubits


def u3_ring_cu3(circuit: tc.Circuit, angles: Tensor) -> None:
    """Append the block of the authors' released notebooks: U3 on each qubit, then a ring of CU3.

    Its amplitudes are complex, so only the "tensorcircuit" simulator can run it.

    Args:
        circuit: N >= 2 qubits, changed in place.
        angles: shape (6 N,), radians; three for each U3, then three for each CU3.

    Example:
        >>> import numpy, tensorcircuit as tc
        >>> circuit = tc.Circuit(2)
        >>> u3_ring_cu3(circuit, numpy.zeros(12))
        >>> [gate["name"] for gate in circuit.to_qir()]
        ['u', 'u', 'cu', 'cu']
    """
    n_qubits = circuit.circuit_param["nqubits"]
    single, controlled = angles.reshape(2, n_qubits, 3)
    for qubit in range(n_qubits):
        theta, phi, lbd = single[qubit]
        circuit.u(qubit, theta=theta, phi=phi, lbd=lbd)
    for qubit in range(n_qubits):
        theta, phi, lbd = controlled[qubit]
        circuit.cu(qubit, (qubit + 1) % n_qubits, theta=theta, phi=phi, lbd=lbd)


def build_circuit(n_qubits: int, angles: Tensor, block: Block = ry_linear_cnot) -> tc.Circuit:
    """Build |psi(phi)>: the block applied to |0...0> once for each row of angles.

    The circuit belongs to TensorCircuit's backend of the moment; wrap the call and whatever uses
    its result in ``with tc.runtime_backend("pytorch"):`` to differentiate through it.

    Args:
        n_qubits: N >= 1.
        angles: phi, shape (L, angles per block), radians.
        block: appends one block to the circuit.

    Raises:
        ValueError: if ``n_qubits`` is below 1 or ``angles`` has not two axes.

    Example:
        >>> import tensorcircuit as tc, torch
        >>> with tc.runtime_backend("pytorch"):
        ...     circuit = build_circuit(2, torch.tensor([[torch.pi / 2, 0.0]]))
        ...     circuit.probability().round(decimals=3).tolist()
        [0.5, 0.0, 0.0, 0.5]
    """
    import tensorcircuit as tc  # here: it takes seconds, and inference needs none of it

    if n_qubits < 1:
        raise ValueError(f"n_qubits must be at least 1, got {n_qubits}")
    if angles.ndim != 2:
        raise ValueError(
            f"angles must have two axes (blocks, angles per block), got shape {tuple(angles.shape)}"
        )
    circuit = tc.Circuit(n_qubits)
    for row in angles:
        block(circuit, row)
    return circuit


def check_block(block: Block, n_qubits: int, n_angles: int) -> None:
    """Refuse a block that cannot take the angles, or that ignores them: it would train nothing.

    Args:
        block: appends one block to a circuit.
        n_qubits: N.
        n_angles: K, angles of one block.

    Raises:
        ValueError: if the block fails or no gate depends on the angles; the message says which.

    Example:
        >>> check_block(lambda circuit, angles: circuit.h(0), n_qubits=2, n_angles=2)
        Traceback (most recent call last):
        ...
        ValueError: block must use its angles, got one whose gates do not depend on them
    """
    # tracing needs autograd, whatever the caller's mode is
    with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):
        angles = torch.rand(n_angles, dtype=torch.float64, requires_grad=True)
        with tensorcircuit_with("pytorch", "complex128") as tc:
            circuit = tc.Circuit(n_qubits)
            try:
                block(circuit, angles)
            except (LookupError, RuntimeError, TypeError, ValueError) as error:
                raise ValueError(
                    f"block must append gates to {n_qubits} qubits from {n_angles} angles (see "
                    f"angles_per_block), got {type(error).__name__}: {error}"
                ) from error
            gates = circuit.to_qir()
    for gate in gates:
        values = [*gate.get("parameters", {}).values(), getattr(gate["gate"], "tensor", None)]
        if any(isinstance(value, Tensor) and value.requires_grad for value in values):
            return
    raise ValueError("block must use its angles, got one whose gates do not depend on them")


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
    import tensorcircuit as tc

    with _backend, tc.runtime_backend(backend), tc.runtime_dtype(dtype):
        yield tc


def precision_of(angles: Tensor) -> str:
    """TensorCircuit's complex dtype for real angles."""
    return "complex128" if angles.dtype == torch.float64 else "complex64"


def probabilities(n_qubits: int, angles: Tensor, block: Block) -> Tensor:
    """p_i = |<i|psi(phi)>|^2 by TensorCircuit's PyTorch backend.

    Args:
        n_qubits: N.
        angles: phi, shape (L, K), radians; float32 runs in complex64, float64 in complex128.
        block: appends one block to a circuit.

    Returns:
        Shape (2**N,), dtype of ``angles``.

    Example:
        >>> angles = torch.tensor([[torch.pi / 2, 0.0]])
        >>> probabilities(2, angles, ry_linear_cnot).round(decimals=3).tolist()
        [0.5, 0.0, 0.0, 0.5]
    """
    with tensorcircuit_with("pytorch", precision_of(angles)):
        return build_circuit(n_qubits, angles, block).probability().to(angles.dtype)


def ry_ring_cnot(circuit: tc.Circuit, angles: Tensor) -> None:
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


# the blocks by name, each with its number of angles per qubit
ANSAETZE: dict[str, tuple[Block, int]] = {
    "ry_linear_cnot": (ry_linear_cnot, 1),
    "ry_ring_cnot": (ry_ring_cnot, 1),
    "ry_only": (ry_only, 1),
    "u3_ring_cu3": (u3_ring_cu3, 6),
}
