"""Draw a circuit, in characters or as a figure, from TensorCircuit's own list of gates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from qtlite.experiments.report.style import CIRCUIT, GREY, new_figure

if TYPE_CHECKING:
    import tensorcircuit as tc

# One symbol for each qubit of a gate; any other gate is a box with its name on every qubit it has.
_SYMBOLS = {"cnot": "●⊕", "cz": "●●", "swap": "××", "toffoli": "●●⊕", "fredkin": "●××"}
_CONTROLLED = ("cy", "cphase", "crx", "cry", "crz", "cr", "cu")
# How matplotlib draws them: markers on top of each other, sizes in points.
_MARKERS: dict[str, list[dict[str, Any]]] = {
    "●": [{"marker": "o", "ms": 8}],
    "⊕": [{"marker": "o", "ms": 15, "mfc": "white", "mew": 1.4}, {"marker": "+", "ms": 15}],
    "×": [{"marker": "x", "ms": 8, "mew": 1.8}],
}


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


def circuit_diagram(circuit: tc.Circuit) -> Figure:
    """Draw a circuit as a figure, qubit 0 on top; boxes show the gate and its angles in radians.

    Args:
        circuit: any ``tensorcircuit.Circuit``.

    Example:
        >>> import numpy
        >>> from qtlite.circuit import build_circuit
        >>> figure = circuit_diagram(build_circuit(2, numpy.zeros((1, 2))))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['$q_{0}$', '$q_{1}$', 'Ry\\n0.00', 'Ry\\n0.00']
    """
    columns = gate_columns(circuit)
    n_qubits = circuit.circuit_param["nqubits"]
    widths = [
        max(_box_width(symbol) for _, symbols in column for symbol in symbols) + 0.35
        for column in columns
    ]
    total = sum(widths) + 0.4
    figure, (axes,) = new_figure(min(7.4, 0.62 * total + 0.6), 0.62 * n_qubits + 0.2)
    axes.set(xlim=(-0.8, total), ylim=(-n_qubits + 0.45, 0.55), aspect="equal")
    axes.set_axis_off()
    for qubit in range(n_qubits):
        axes.plot([-0.1, total], [-qubit, -qubit], color=GREY, lw=1, ls="-", zorder=1)
        axes.text(-0.25, -qubit, f"$q_{{{qubit}}}$", ha="right", va="center")
    left = 0.2
    for column, width in zip(columns, widths, strict=True):
        centre = left + width / 2
        for qubits, symbols in column:
            ends = [-min(qubits), -max(qubits)]
            axes.plot([centre, centre], ends, color=CIRCUIT, lw=1.4, ls="-", zorder=2)
            for qubit, symbol in zip(qubits, symbols, strict=True):
                for marker in _MARKERS.get(symbol, []):
                    axes.plot([centre], [-qubit], color=CIRCUIT, ls="", zorder=3, **marker)
                if symbol not in _MARKERS:
                    _draw_box(axes, symbol, centre, -qubit)
        left += width
    return figure


def _box_width(symbol: str) -> float:
    """Width of a gate's box, in distances of wires."""
    name, _, angles = symbol.partition("(")
    return max(0.5, 0.19 * max(len(name), len(angles) - 1))


def _draw_box(axes: Axes, symbol: str, x: float, y: float) -> None:
    width, label = _box_width(symbol), symbol.replace("(", "\n").rstrip(")")
    shape = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": "#eaf3fa"}
    corner = (x - width / 2, y - 0.3)
    axes.add_patch(FancyBboxPatch(corner, width, 0.6, ec=CIRCUIT, lw=1.2, zorder=3, **shape))
    axes.text(x, y, label, ha="center", va="center", fontsize=8, linespacing=1.0, zorder=5)
