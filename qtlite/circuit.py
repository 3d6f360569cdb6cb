"""The parameterised circuit: blocks written as TensorCircuit functions, and how to draw them.

A block is a function ``block(circuit, angles)`` that appends gates to a ``tensorcircuit.Circuit``
and consumes one row of angles. Repeating it ``n_blocks`` times gives |psi(phi)> of Fig. 1 (Liu et
al. 2024). To try another ansatz, write another such function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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


# One symbol for each qubit of a gate; any other gate is a box with its name on every qubit it has.
_SYMBOLS = {"cnot": "●⊕", "cz": "●●", "swap": "××", "toffoli": "●●⊕", "fredkin": "●××"}
_CONTROLLED = ("cy", "cphase", "crx", "cry", "crz", "cr", "cu")


def gate_columns(circuit: tc.Circuit) -> list[list[tuple[tuple[int, ...], tuple[str, ...]]]]:
    """Lay out a circuit's gates for drawing: as far left as the wires they cross allow.

    Args:
        circuit: any; its gates are read from ``to_qir``.

    Returns:
        Columns of gates, each the qubits it acts on and one symbol for each of them: "●" control,
        "⊕" target of a CNOT, "×" swapped, else the gate's name and angles in radians.

    Example:
        >>> import numpy, tensorcircuit as tc
        >>> circuit = tc.Circuit(2)
        >>> ry_linear_cnot(circuit, numpy.array([0.5, 1.0]))
        >>> gate_columns(circuit)
        [[((0,), ('Ry(0.50)',)), ((1,), ('Ry(1.00)',))], [((0, 1), ('●', '⊕'))]]
    """
    columns: list[list[tuple[tuple[int, ...], tuple[str, ...]]]] = []
    free = [0] * circuit.circuit_param["nqubits"]  # the first column that is free on each wire
    for gate in circuit.to_qir():
        qubits, name = tuple(gate["index"]), gate["name"]
        span = range(min(qubits), max(qubits) + 1)
        place = max(free[qubit] for qubit in span)
        for qubit in span:
            free[qubit] = place + 1
        if place == len(columns):
            columns.append([])
        angles = ", ".join(map(_format_angle, gate.get("parameters", {}).values()))
        if name in _SYMBOLS:
            symbols = tuple(_SYMBOLS[name])
        else:
            controls = ("●",) if name in _CONTROLLED else ()
            label = name[len(controls) :].capitalize() + (f"({angles})" if angles else "")
            symbols = controls + (label,) * (len(qubits) - len(controls))
        columns[place].append((qubits, symbols))
    return columns


def _format_angle(angle: Tensor | float) -> str:
    return f"{float(angle.detach() if isinstance(angle, Tensor) else angle):.2f}"


def draw_text(circuit: tc.Circuit) -> str:
    """Draw a circuit in characters, qubit 0 on top; a box is the gate's name and angles in radians.

    Args:
        circuit: any ``tensorcircuit.Circuit``.

    Example:
        >>> import numpy, tensorcircuit as tc
        >>> circuit = tc.Circuit(3)
        >>> ry_linear_cnot(circuit, numpy.array([0.5, 1.0, 1.5]))
        >>> print(draw_text(circuit))
        q0 ─Ry(0.50)─●───
                     │
        q1 ─Ry(1.00)─⊕─●─
                       │
        q2 ─Ry(1.50)───⊕─
    """
    n_qubits = circuit.circuit_param["nqubits"]
    margin = len(f"q{n_qubits - 1} ")
    wires = [f"q{qubit} ".ljust(margin) + "─" for qubit in range(n_qubits)]
    gaps = [" " * (margin + 1)] * n_qubits
    for column in gate_columns(circuit):
        on_wire, below = ["─"] * n_qubits, [" "] * n_qubits
        for qubits, symbols in column:
            for qubit in range(min(qubits), max(qubits)):
                on_wire[qubit], below[qubit] = "┼", "│"
            for qubit, symbol in zip(qubits, symbols, strict=True):
                on_wire[qubit] = symbol
        width = max(map(len, on_wire))
        wires = [w + cell.center(width, "─") + "─" for w, cell in zip(wires, on_wire, strict=True)]
        gaps = [g + cell.center(width) + " " for g, cell in zip(gaps, below, strict=True)]
    lines = [line.rstrip() for pair in zip(wires, gaps, strict=True) for line in pair]
    return "\n".join(lines[:-1])
