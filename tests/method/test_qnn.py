"""The same probabilities and gradients from the engine, TensorCircuit and PennyLane."""

from contextlib import nullcontext

import pennylane as qml
import pytest
import torch
from refusals import refused

from qtlite import plain
from qtlite.acceleration import engine
from qtlite.experiments.ansaetze import u3_ring_cu3
from qtlite.qnn import QNN


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def pennylane_probabilities(angles):
    n_qubits = angles.shape[1]

    @qml.qnode(qml.device("default.qubit"), interface="torch", diff_method="backprop")
    def circuit(angles):
        for block in angles:
            for qubit in range(n_qubits):
                qml.RY(block[qubit], wires=qubit)
            for qubit in range(n_qubits - 1):
                qml.CNOT(wires=[qubit, qubit + 1])
        return qml.probs(wires=range(n_qubits))

    return circuit(angles)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("n_qubits", "n_blocks"), [(1, 3), (2, 1), (5, 2), (9, 3)])
def test_probabilities_and_gradients_are_pennylanes(n_qubits, n_blocks, dtype, tolerance):
    qnn = QNN(n_qubits, n_blocks, generator=seeded(n_qubits)).to(dtype)
    weights = torch.randn(2**n_qubits, generator=seeded(n_blocks), dtype=torch.float64)
    angles = qnn.angles.detach().double().requires_grad_()
    expected = pennylane_probabilities(angles)
    (slopes,) = torch.autograd.grad((weights * expected).sum(), angles)
    for way in (nullcontext, plain):
        with way():
            found = qnn()
        assert found.dtype == dtype
        (gradient,) = torch.autograd.grad((weights * found).sum(), qnn.angles)
        assert (found.double() - expected).abs().max() < tolerance
        assert (gradient.double() - slopes).abs().max() < tolerance


def test_complex_block_runs_on_tensorcircuit_and_says_why():
    qnn = QNN(3, 2, block=u3_ring_cu3, angles_per_block=18)
    reason = "gate 'u' on qubits (0,) must have real entries" if engine else "there is no engine"
    assert qnn.simulator.startswith(f"TensorCircuit: {reason}")
    assert qnn.angles.shape == (2, 18)
    assert qnn().sum().item() == pytest.approx(1, abs=1e-5)


def test_a_generator_is_the_only_source_of_the_start():
    before = torch.get_rng_state()
    first, second = (QNN(3, 50, angle_range=0.2, generator=seeded(7)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.angles, second.angles)
    assert 0.15 < first.angles.abs().max() <= 0.2
    torch.manual_seed(5)
    angles = QNN(3, 2).angles
    torch.manual_seed(5)
    assert torch.equal(angles, (torch.rand(2, 3) * 2 - 1) * torch.pi)


def test_a_block_that_changes_its_ways_is_read_anew():
    class Switch:
        flipped = True

        def __call__(self, circuit, angles):
            circuit.ry(0, theta=angles[0])
            if self.flipped:
                circuit.x(0)

    block = Switch()
    first = QNN(1, 1, block=block, generator=seeded(0))()
    block.flipped = False
    second = QNN(1, 1, block=block, generator=seeded(0))
    assert torch.allclose(first.flip(0), second())


def test_bad_input():
    def silent(circuit, angles):
        circuit.ry(0, theta=0.5)

    refused("n_qubits must be a whole number from 1 to .*, got 0", QNN, 0, 1)
    refused("n_qubits must be a whole number from 1 to 40, got 2.0", QNN, 2.0, 1)
    refused("n_qubits must fit .* GiB, got 39", QNN, 39, 1)
    refused("n_blocks must be a whole number from 1 to .*, got 0", QNN, 2, 0)
    most = "n_blocks must be a whole number from 1 to 134,217,728, got 1000000000000"
    refused(most, QNN, 2, 10**12)
    refused("angles_per_block must be a whole number", QNN, 2, 1, angles_per_block=0)
    refused("block must use its angles, got one", QNN, 2, 1, block=silent)
    refused("angle_range must be a num", QNN, 2, 1, angle_range=float("nan"))
    few = "block must append gates to 4 qubits from 3 angles .*, got ValueError: angles must be"
    refused(few, QNN, 4, 1, angles_per_block=3)
