"""Circuits for other programs: PennyLane's importer and simulator, and counts back to weights."""

import re
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
import tensorcircuit as tc
import torch
from refusals import refused
from torch import nn

from qtlite.circuit import build_circuit, ry_linear_cnot
from qtlite.experiments.ansaetze import ANSAETZE, u3_ring_cu3
from qtlite.experiments.data.loading import available, load_dataset, to_float
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.records import read_measurement
from qtlite.experiments.studies.shots import shots_needed
from qtlite.export import (
    circuit_gates,
    describe_circuit,
    load_compressed,
    network_from_counts,
    to_openqasm,
    to_pennylane,
)
from qtlite.export.circuits import GATES, SHOTS_PER_STATE
from qtlite.qnn import QNN
from qtlite.quantum_train import QuantumTrain

BOOK = Path(__file__).parents[2] / "book"


def named_circuit(seed):
    """A random circuit with a named block."""
    random = np.random.default_rng(seed)
    name = list(ANSAETZE)[seed % len(ANSAETZE)]
    n_qubits, n_blocks = (int(n) for n in random.integers((2, 1), (7, 5)))
    block, per_qubit = ANSAETZE[name]
    options = {"block": block, "angles_per_block": per_qubit * n_qubits}
    generator = torch.Generator().manual_seed(seed)
    return QNN(n_qubits, n_blocks, **options, generator=generator)


def every_gate(circuit, angles):
    """Each gate of the table, on qubits in no particular order, after a start without symmetry."""
    for qubit in range(3):
        circuit.ry(qubit, theta=angles[qubit])
    circuit.u(0, theta=angles[0], phi=angles[1], lbd=angles[2])
    for place, name in enumerate(GATES):
        add = getattr(circuit, name)
        qubits = (place % 3, (place + 1) % 3, (place + 2) % 3)
        if name in ("u", "cu"):
            add(*qubits[: len(name)], theta=angles[0], phi=angles[1], lbd=angles[2])
        elif name in ("rx", "ry", "rz", "phase"):
            add(qubits[0], theta=angles[place % 3])
        elif name in ("crx", "cry", "crz", "cphase"):
            add(*qubits[:2], theta=angles[place % 3])
        else:
            n = 3 if name in ("toffoli", "fredkin") else 1 + (name in ("cnot", "cy", "cz", "swap"))
            add(*qubits[:n])
    for qubit in range(3):
        circuit.ry(qubit, theta=0.3 + qubit)


def pennylanes(wires, circuit):
    @qml.qnode(qml.device("default.qubit", wires=wires))
    def run():
        circuit()
        return qml.probs(wires=wires)

    return torch.as_tensor(np.array(run()))


def imported(n_qubits, text):
    """The text read by PennyLane, which knows the standard gates without the file that has them."""
    gates = re.sub(r"include .*|.* measure .*", "", text)
    return pennylanes([f"q[{qubit}]" for qubit in range(n_qubits)], qml.from_qasm3(gates))


@pytest.mark.parametrize("seed", range(20))
def test_random_named_circuits_in_pennylane(seed):
    qnn = named_circuit(seed)
    expected = qnn().detach().double()
    found = pennylanes(range(qnn.n_qubits), to_pennylane(qnn))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    found = imported(qnn.n_qubits, to_openqasm(qnn))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_every_gate_of_the_table():
    qnn = QNN(3, 2, block=every_gate, generator=torch.Generator().manual_seed(0)).double()
    assert {gate.name for gate in circuit_gates(qnn)} == set(GATES)
    for found in (pennylanes(range(3), to_pennylane(qnn)), imported(3, to_openqasm(qnn))):
        torch.testing.assert_close(found, qnn().detach(), rtol=0, atol=1e-12)


def test_tensorcircuits_own_circuits_in_pennylane():
    with tc.runtime_backend("pytorch"):
        circuit = build_circuit(2, torch.ones(1, 12, requires_grad=True), u3_ring_cu3)
        expected = circuit.probability().detach().double()
    found = pennylanes(range(2), to_pennylane(circuit))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert qml.draw(to_pennylane(circuit), decimals=2)().count("U3(1.00,1.00,1.00)") == 4


def test_qubit_0_is_the_leftmost_bit_of_a_result():
    def first_is_one(circuit, angles):
        circuit.x(0)
        circuit.ry(1, theta=angles[0])

    qnn = QNN(3, 1, block=first_is_one, angle_range=0.5)
    assert qnn().argmax() == 0b100
    pairs = re.findall(r"c\[(\d)\] = measure q\[(\d)\];", to_openqasm(qnn))
    assert pairs == [("2", "0"), ("1", "1"), ("0", "2")]  # bit 0 is written rightmost

    @qml.qnode(qml.device("default.qubit", wires=3), shots=100)
    def count():
        to_pennylane(qnn)()
        return qml.counts(wires=range(3))

    assert {name[0] for name in count()} == {"1"}


def test_comments_are_comments():
    lines = to_openqasm(QNN(2, 1), "a model\nx q[0];").splitlines()
    assert lines[:3] == ["OPENQASM 3.0;", "// a model", "// x q[0];"]


@pytest.mark.parametrize("seed", range(3))
def test_depth_is_pennylanes(seed):
    qnn = named_circuit(seed)
    specs = qml.specs(qml.qnode(qml.device("default.qubit"))(as_state(to_pennylane(qnn))))()
    assert f"depth {specs['resources'].depth}\n" in describe_circuit(qnn)


def as_state(circuit):
    def run():
        circuit()
        return qml.state()

    return run


def test_shots_are_those_of_the_shots_chapter():
    for n_blocks, per_state in SHOTS_PER_STATE.items():
        name = f"shots-mnist-L{n_blocks}.json"
        logs = []
        for run in read_measurement(BOOK / "measurements" / name)["results"]:
            means = [np.mean(point["accuracies"]) for point in run["points"]]
            shots = [point["n_shots"] for point in run["points"]]
            logs.append(np.log(shots_needed(shots, means, run["exact_accuracy"]) / 2**13))
        assert np.exp(np.mean(logs)) == pytest.approx(per_state, rel=0.01)


@pytest.fixture
def model():
    return QuantumTrain(nn.Linear(3, 2), n_blocks=2, generator=torch.Generator().manual_seed(0))


def test_counts_make_the_network_of_their_frequencies(model):
    counts = torch.tensor([9, 1, 0, 7, 2, 5, 8, 3])
    names = {f"{i:03b}": int(n) for i, n in enumerate(counts) if n}
    frequencies = counts / counts.sum()
    column = model.feature(frequencies)[: model.n_weights]
    expected = model.normalise(model.mapping(column).detach())
    for found in (
        network_from_counts(model, counts),
        network_from_counts(model, names),
        network_from_counts(model, {k[::-1]: n for k, n in names.items()}, leftmost=2),
    ):
        torch.testing.assert_close(dict(found.named_parameters()), expected)
    assert type(model.qnn) is QNN


def test_wrong_arguments(model):
    whole = "counts must be whole numbers from 0 on"
    for counts, text in (
        ({"01": 3}, "counts must have names of 3 bits, got '01'"),
        ({"0a1": 3}, "counts must have names of 3 bits, got '0a1'"),
        ({}, f"{whole}, not all 0"),
        ({"010": -1, "011": 5}, whole),
        ({"010": 0.5}, whole),
        ({"010": float("nan")}, whole),
        (torch.ones(4), r"counts must have shape \(8,\), got \(4,\)"),
    ):
        refused(text, network_from_counts, model, counts)
    refused("leftmost must be 0 or 2, got 1", network_from_counts, model, {"000": 1}, leftmost=1)
    for function in (circuit_gates, describe_circuit, to_openqasm, to_pennylane):
        refused("qnn must be a QNN, got Linear", function, nn.Linear(1, 1))

    def other_gate(circuit, angles):
        circuit.rzz(0, 1, theta=angles[0])

    text = "block must be of the gates h, x, .*, got 'rzz'"
    refused(text, to_openqasm, QNN(2, 1, block=other_gate))

    def selects(circuit, angles):
        ry_linear_cnot(circuit, angles)
        circuit.post_select(0, keep=1)

    refused("block must do nothing but append gates", to_openqasm, QNN(2, 1, block=selects))


@pytest.mark.skipif(not available("mnist"), reason="needs MNIST")
@pytest.mark.parametrize("n_blocks", [16, pytest.param(121, marks=pytest.mark.slow)])
def test_counts_of_another_simulator_give_a_network_of_the_shots_chapter(n_blocks):
    path = BOOK / "models" / f"mnist-qt-{n_blocks}.angles.safetensors"
    model, about = load_compressed(path, paper_cnn("mnist"))

    @qml.qnode(qml.device("default.qubit", wires=13, seed=0), shots=2**16)
    def measure():
        to_pennylane(model.qnn)()
        return qml.counts(wires=range(13))

    network = network_from_counts(model, measure())
    data = load_dataset("mnist")
    inputs = to_float(data.test_images, float(about["pixel_mean"]), float(about["pixel_std"]))
    with torch.no_grad():
        right = (network(inputs).argmax(1) == data.test_labels).double().mean().item()
    runs = read_measurement(BOOK / "measurements" / f"shots-mnist-L{n_blocks}.json")["results"]
    at = [point for run in runs for point in run["points"] if point["n_shots"] == 2**16]
    seen = np.concatenate([point["accuracies"] for point in at])
    assert len(seen) == 12
    assert abs(right - seen.mean()) < 3 * seen.std()
    assert right < float(about["accuracy"])
