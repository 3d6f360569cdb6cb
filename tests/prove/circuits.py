"""OpenQASM 3 in Qiskit, and through it in TensorCircuit; counts from Qiskit's simulator.

    python tests/prove/circuits.py

Needs the packages of the extra `prove`. The test suite compares the same circuits with PennyLane.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorcircuit as tc
import torch
from qiskit import qasm3, transpile
from qiskit.providers.basic_provider import BasicSimulator
from qiskit.quantum_info import Statevector
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from export.test_circuits import every_gate, named_circuit

from qtlite.export import network_from_counts, to_openqasm
from qtlite.qnn import QNN
from qtlite.quantum_train import QuantumTrain

TOLERANCE = 1e-6


def probabilities_by_qiskit(circuit) -> np.ndarray:
    """The exact probabilities, in our order: Qiskit's states have qubit 0 rightmost."""
    plain = circuit.remove_final_measurements(inplace=False)
    return Statevector(plain).reverse_qargs().probabilities()


def probabilities_by_tensorcircuit(circuit) -> np.ndarray:
    """The same by TensorCircuit's importer of Qiskit's circuits."""
    plain = circuit.remove_final_measurements(inplace=False)
    with tc.runtime_backend("numpy"), tc.runtime_dtype("complex128"):
        return tc.Circuit.from_qiskit(plain, n=plain.num_qubits).probability()


def main() -> None:
    """Compare 20 random named circuits, every gate of the table, and a network from counts."""
    generator = torch.Generator().manual_seed(0)
    circuits = [named_circuit(seed) for seed in range(20)]
    circuits.append(QNN(3, 2, block=every_gate, generator=generator).double())
    for number, qnn in enumerate(circuits):
        imported = qasm3.loads(to_openqasm(qnn, "a comment"))
        ours = qnn().detach().double().numpy()
        theirs = probabilities_by_qiskit(imported), probabilities_by_tensorcircuit(imported)
        largest = [float(np.abs(found - ours).max()) for found in theirs]
        name = f"{number:2} {qnn.block.__name__}, {qnn.n_qubits} qubits, {qnn.n_blocks} blocks"
        print(f"{name:44} Qiskit {largest[0]:.1e}  TensorCircuit {largest[1]:.1e}", flush=True)
        assert max(largest) < TOLERANCE, name

    model = QuantumTrain(nn.Linear(5, 3), n_blocks=3, generator=generator)
    circuit = transpile(qasm3.loads(to_openqasm(model.qnn)), basis_gates=["ry", "cx"])
    counts = BasicSimulator().run(circuit, shots=2**20, seed_simulator=0).result().get_counts()
    found = network_from_counts(model, counts)
    exact = model.to_classical()
    reverse = network_from_counts(model, counts, leftmost=model.n_qubits - 1)
    near, far = (
        ((n.weight - exact.weight).norm() / exact.weight.norm()).item() for n in (found, reverse)
    )
    print(f"weights from 2^20 shots of Qiskit's simulator: {near:.1e} off; in reverse {far:.1e}")
    assert near < 0.05 < 0.2 < far
    print("all passed")


if __name__ == "__main__":
    main()
