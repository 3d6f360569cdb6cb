"""The circuit for other programs and devices: as text, as a function, and back from counts.

Qubit 0 is the most significant bit of a basis state's number, and the leftmost bit of its name.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from qtlite.circuit import gate_list
from qtlite.export.checks import require
from qtlite.qnn import QNN
from qtlite.quantum_train import QuantumTrain

if TYPE_CHECKING:
    import tensorcircuit as tc

# gates by TensorCircuit's names: OpenQASM 3's (stdgates.inc) and PennyLane's
GATES = {
    "h": ("h", "Hadamard"), "x": ("x", "PauliX"), "y": ("y", "PauliY"), "z": ("z", "PauliZ"),
    "s": ("s", "S"), "t": ("t", "T"), "phase": ("p", "PhaseShift"), "u": ("u3", "U3"),
    "rx": ("rx", "RX"), "ry": ("ry", "RY"), "rz": ("rz", "RZ"),
    "cnot": ("cx", "CNOT"), "cy": ("cy", "CY"), "cz": ("cz", "CZ"), "swap": ("swap", "SWAP"),
    "crx": ("crx", "CRX"), "cry": ("cry", "CRY"), "crz": ("crz", "CRZ"),
    "cphase": ("cp", "ControlledPhaseShift"), "cu": ("cu", "U3"),
    "toffoli": ("ccx", "Toffoli"), "fredkin": ("cswap", "CSWAP"),
}  # fmt: skip
# shots for each basis state from which a network trained on MNIST is within one percentage point of
# the exact one: a circuit of 121 blocks and one of 16 (book/measurements/shots-mnist-L*.json)
SHOTS_PER_STATE = {121: 4.5, 16: 50}


class Gate(NamedTuple):
    """A gate by TensorCircuit's name, its parameters in radians, and its qubits."""

    name: str
    parameters: tuple[float, ...]
    qubits: tuple[int, ...]


def circuit_gates(qnn: QNN) -> list[Gate]:
    """List the gates of a circuit at its present angles.

    Raises:
        ValueError: if ``qnn`` is no ``QNN``, a gate is not in ``GATES``, or the gates do not give
            the circuit's probabilities.

    Example:
        >>> [gate.name for gate in circuit_gates(QNN(2, 1))]
        ['ry', 'ry', 'cnot']
    """
    if type(qnn) is not QNN:
        raise ValueError(f"qnn must be a QNN, got {type(qnn).__name__}")
    gates, state = [], torch.zeros((2,) * qnn.n_qubits, dtype=torch.complex128)
    state.view(-1)[0] = 1
    for row in qnn.angles.detach().double().cpu():
        for gate in gate_list(qnn.block, qnn.n_qubits, row):
            gates.append(_read_gate(gate))
            state = _apply(gate["gate"].tensor.detach(), state, gates[-1].qubits)
    with torch.no_grad():  # what is not in the list of gates, such as post-selection
        if not torch.allclose(state.abs().square().flatten(), qnn().double().cpu(), atol=1e-4):
            raise ValueError("block must do nothing but append gates, got other probabilities")
    return gates


def _read_gate(gate: Mapping[str, Any]) -> Gate:
    """A gate of TensorCircuit's ``to_qir``."""
    name, parameters = gate["name"], gate.get("parameters", {}).values()
    if name not in GATES:
        raise ValueError(f"block must be of the gates {', '.join(GATES)}, got {name!r}")
    numbers = (torch.as_tensor(getattr(p, "tensor", p)).real.item() for p in parameters)
    return Gate(name, tuple(numbers), tuple(gate["index"]))


def _apply(matrix: Tensor, state: Tensor, qubits: tuple[int, ...]) -> Tensor:
    n = len(qubits)
    matrix = matrix.reshape((2,) * (2 * n)).to(state)
    axes = list(range(n)), list(qubits)
    return torch.tensordot(matrix, state, dims=(list(range(n, 2 * n)), axes[1])).movedim(*axes)


def describe_circuit(qnn: QNN) -> str:
    """Return gates, depth and shots in three lines, for the decision whether to run it on a device.

    Example:
        >>> print(describe_circuit(QNN(13, 16)))
        13 qubits, 208 ry and 192 cnot gates, depth 58
        Within one percentage point on MNIST: 4.5 shots a basis state with 121 blocks, 50 with 16.
        For 8,192 basis states these are 36,864 and 409,600 shots.
    """
    gates, depth = circuit_gates(qnn), [0] * qnn.n_qubits
    for gate in gates:
        after = 1 + max(depth[qubit] for qubit in gate.qubits)
        for qubit in gate.qubits:
            depth[qubit] = after
    counted = " and ".join(f"{n} {name}" for name, n in Counter(g.name for g in gates).items())
    n_states, (deep, shallow) = 2**qnn.n_qubits, SHOTS_PER_STATE.values()
    return (
        f"{qnn.n_qubits} qubits, {counted} gates, depth {max(depth)}\n"
        f"Within one percentage point on MNIST: {deep} shots a basis state with 121 blocks, "
        f"{shallow} with 16.\nFor {n_states:,} basis states these are {round(n_states * deep):,} "
        f"and {n_states * shallow:,} shots."
    )


def to_openqasm(qnn: QNN, comment: str = "") -> str:
    """Return the circuit with its angles as OpenQASM 3, measurement included.

    Qubit i is measured into bit N - 1 - i: written with bit 0 rightmost, a result has
    qubit 0 leftmost, as ``network_from_counts`` takes it.

    Args:
        qnn: trained or not.
        comment: lines about it for the head of the text.

    Raises:
        ValueError: see ``circuit_gates``.

    Example:
        >>> lines = to_openqasm(QNN(2, 1)).splitlines()
        >>> lines[-3:]
        ['cx q[0], q[1];', 'c[1] = measure q[0];', 'c[0] = measure q[1];']
    """
    gates, n = circuit_gates(qnn), qnn.n_qubits
    lines = ["OPENQASM 3.0;", *(f"// {line}" for line in comment.splitlines())]
    lines += ['include "stdgates.inc";', f"qubit[{n}] q;", f"bit[{n}] c;"]
    for name, parameters, qubits in gates:
        values = [*map(repr, parameters), *(["0.0"] * (name == "cu"))]  # cu has a fourth, a phase
        places = ", ".join(f"q[{qubit}]" for qubit in qubits)
        lines.append(f"{GATES[name][0]}{'(' * bool(values)}{', '.join(values)}"
                     f"{')' * bool(values)} {places};")  # fmt: skip
    lines += [f"c[{n - 1 - qubit}] = measure q[{qubit}];" for qubit in range(n)]
    return "\n".join(lines) + "\n"


def to_pennylane(circuit: "QNN | tc.Circuit") -> Callable[[], None]:
    """Return a PennyLane function that applies a circuit to wires 0 to N - 1.

    Args:
        circuit: of the gates in ``GATES``.

    Raises:
        ImportError: if PennyLane is not installed.
        ValueError: see ``circuit_gates``.

    Example:
        >>> import pennylane as qml
        >>> circuit = to_pennylane(QNN(2, 1))
        >>> [gate.name for gate in qml.tape.make_qscript(circuit)().operations]
        ['RY', 'RY', 'CNOT']
    """
    require("pennylane")
    import pennylane as qml

    is_qnn = not hasattr(circuit, "to_qir")
    gates = circuit_gates(circuit) if is_qnn else list(map(_read_gate, circuit.to_qir()))

    def apply() -> None:
        for name, parameters, qubits in gates:
            gate = getattr(qml, GATES[name][1])
            if name == "cu":
                qml.ctrl(gate, control=qubits[0])(*parameters, wires=qubits[1])
            else:
                gate(*parameters, wires=qubits)

    return apply


def network_from_counts(
    model: QuantumTrain, counts: Mapping[str, int] | Tensor, *, leftmost: int = 0
) -> nn.Module:
    """Return the plain network whose weights come from measured counts.

    Args:
        model: whose circuit was measured; unchanged.
        counts: how often each basis state came out: by its name, such as "0110", or for all states
            in order, shape (2**N,).
        leftmost: the qubit of a name's leftmost bit: 0, or N - 1 for names in the reverse order.

    Raises:
        ValueError: if a name is not N bits, a count is not a whole number from 0 on, all are 0, or
            the shape or ``leftmost`` is another.

    Example:
        >>> model = QuantumTrain(nn.Linear(1, 2), n_blocks=1)
        >>> network_from_counts(model, {"00": 7, "10": 1})
        Linear(in_features=1, out_features=2, bias=True)
    """
    n = model.n_qubits
    if leftmost not in (0, n - 1):
        raise ValueError(f"leftmost must be 0 or {n - 1}, got {leftmost!r}")
    if isinstance(counts, Mapping):
        if wrong := [k for k in counts if not (len(k) == n and set(k) <= {"0", "1"})]:
            raise ValueError(f"counts must have names of {n} bits, got {wrong[0]!r}")
        found, counts = counts, torch.zeros(2**n, dtype=torch.float64)
        for name, count in found.items():
            counts[int(name if leftmost == 0 else name[::-1], 2)] = count
    counts = torch.as_tensor(counts, dtype=torch.float64)
    if counts.shape != (2**n,):
        raise ValueError(f"counts must have shape ({2**n},), got {tuple(counts.shape)}")
    if not ((counts >= 0).all() and (counts == counts.round()).all() and 0 < counts.sum() < 1e15):
        raise ValueError("counts must be whole numbers from 0 on, not all 0, got others")
    return network_from(model, (counts / counts.sum()).to(next(model.mapping.parameters())))


def network_from(model: QuantumTrain, probabilities: Tensor) -> nn.Module:
    """Return the plain network that a model generates from given probabilities.

    Args:
        model: unchanged.
        probabilities: used instead of its circuit's, shape (2**N,).

    Example:
        >>> model = QuantumTrain(nn.Linear(3, 2), n_blocks=1)
        >>> network_from(model, torch.full((8,), 1 / 8))
        Linear(in_features=3, out_features=2, bias=True)
    """
    circuit, model.qnn = model.qnn, _Given(probabilities)
    try:
        return model.to_classical()
    finally:
        model.qnn = circuit


class _Given(nn.Module):
    def __init__(self, probabilities: Tensor):
        super().__init__()
        self.probabilities = probabilities

    def forward(self) -> Tensor:
        return self.probabilities
