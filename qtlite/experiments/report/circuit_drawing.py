"""Draw a circuit: in characters here, and the layout that figures use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    import tensorcircuit as tc

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
        >>> from qtlite.circuit import ry_linear_cnot
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
        >>> from qtlite.circuit import ry_linear_cnot
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
