"""The same probabilities and gradients from four independent places."""

from contextlib import nullcontext

import numpy as np
import pennylane as qml
import pytest
import torch

from qtlite import plain
from qtlite.acceleration import engine
from qtlite.experiments.ansaetze import u3_ring_cu3
from qtlite.qnn import QNN

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def dense_probabilities(angles):
    """Explicit 2^N x 2^N matrices, Kronecker products and nothing else."""
    n_qubits = angles.shape[1]
    state = np.zeros(2**n_qubits)
    state[0] = 1
    cnot_chain = np.eye(2**n_qubits)
    for qubit in range(n_qubits - 1):
        one = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
        left, right = np.eye(2**qubit), np.eye(2 ** (n_qubits - qubit - 2))
        cnot_chain = np.kron(np.kron(left, one), right) @ cnot_chain
    for block in angles:
        layer = np.eye(1)
        for angle in block:
            c, s = np.cos(angle / 2), np.sin(angle / 2)
            layer = np.kron(layer, [[c, -s], [s, c]])
        state = cnot_chain @ layer @ state
    return state**2


def pennylane_probabilities(angles):
    n_qubits = angles.shape[1]
    device = qml.device("default.qubit", wires=n_qubits)

    @qml.qnode(device, interface="torch", diff_method="backprop")
    def circuit(angles):
        for block in angles:
            for qubit in range(n_qubits):
                qml.RY(block[qubit], wires=qubit)
            for qubit in range(n_qubits - 1):
                qml.CNOT(wires=[qubit, qubit + 1])
        return qml.probs(wires=range(n_qubits))

    return circuit(angles)


def make(n_qubits, n_blocks, dtype, seed, **options):
    generator = torch.Generator().manual_seed(seed)
    return QNN(n_qubits, n_blocks, generator=generator, **options).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n_qubits", "n_blocks"), [(1, 3), (2, 1), (5, 2), (9, 3)])
def test_fused_tensorcircuit_pennylane_and_dense_agree(n_qubits, n_blocks, dtype):
    seed = 100 * n_qubits + n_blocks
    fused, other = (make(n_qubits, n_blocks, dtype, seed) for _ in range(2))
    weights = torch.randn(2**n_qubits, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    results = {}
    for name, qnn in (("fused", fused), ("tensorcircuit", other)):
        with plain() if name == "tensorcircuit" else nullcontext():
            probabilities = qnn()
        (weights * probabilities).sum().backward()
        assert probabilities.dtype == dtype
        results[name] = probabilities.detach(), qnn.angles.grad
    angles = fused.angles.detach().double().requires_grad_()
    probabilities = pennylane_probabilities(angles)
    (weights.double() * probabilities).sum().backward()
    results["pennylane"] = probabilities.detach(), angles.grad
    dense = torch.from_numpy(dense_probabilities(angles.detach().numpy()))

    for name, (probabilities, gradient) in results.items():
        assert (probabilities.double() - dense).abs().max() < TOLERANCE[dtype], name
        difference = gradient.double() - results["pennylane"][1]
        assert difference.abs().max() < TOLERANCE[dtype], name


def test_complex_block_runs_on_tensorcircuit_and_says_why():
    qnn = QNN(3, 2, block=u3_ring_cu3, angles_per_block=18)
    reason = "gate 'u' on qubits (0,) must have real entries" if engine else "there is no engine"
    assert qnn.simulator.startswith(f"TensorCircuit: {reason}")
    assert qnn.angles.shape == (2, 18)
    assert qnn().sum().item() == pytest.approx(1, abs=1e-5)


def test_complex_block_matches_pennylane():
    qnn = make(3, 2, torch.float64, 0, block=u3_ring_cu3, angles_per_block=18)

    @qml.qnode(qml.device("default.qubit", wires=3), interface="torch")
    def circuit(angles):
        for block in angles.reshape(2, 2, 3, 3):
            for qubit in range(3):
                qml.U3(*block[0, qubit], wires=qubit)
            for qubit in range(3):
                qml.ctrl(qml.U3, control=qubit)(*block[1, qubit], wires=(qubit + 1) % 3)
        return qml.probs(wires=range(3))

    assert torch.allclose(qnn(), circuit(qnn.angles), atol=1e-10)


def test_gradients_against_finite_differences():
    qnn = make(4, 3, torch.float64, 1)

    def probabilities(angles):
        return torch.func.functional_call(qnn, {"angles": angles}, ())

    assert torch.autograd.gradcheck(probabilities, qnn.angles.detach().clone().requires_grad_())


def test_start_depends_on_the_generator_alone_and_stays_in_range():
    first, second = (QNN(3, 50, angle_range=0.2, generator=g(7)) for g in [generator] * 2)
    assert torch.equal(first.angles, second.angles)
    assert 0.15 < first.angles.abs().max() <= 0.2


def silent(circuit, angles):
    circuit.ry(0, theta=0.5)


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_qubits": 0, "n_blocks": 1}, "n_qubits must be a whole number from 1 to .*, got 0"),
        ({"n_qubits": 2, "n_blocks": 0}, "n_blocks must be a whole number from 1 to .*, got 0"),
        (
            {"n_qubits": 2, "n_blocks": 1, "angles_per_block": 0},
            "angles_per_block must be a whole number",
        ),
        ({"n_qubits": 2, "n_blocks": 1, "block": silent}, "block must use its angles, got one"),
        ({"n_qubits": 2, "n_blocks": 1, "angle_range": float("nan")}, "angle_range must be a num"),
        (
            {"n_qubits": 39, "n_blocks": 1},
            "n_qubits must fit .* GiB, got 39",
        ),
        (
            {"n_qubits": 2, "n_blocks": 10**12},
            "n_blocks must be a whole number from 1 to 134,217,728, got 1000000000000",
        ),
        ({"n_qubits": 2.0, "n_blocks": 1}, "n_qubits must be a whole number from 1 to 40, got 2.0"),
        (
            {"n_qubits": 4, "n_blocks": 1, "angles_per_block": 3},
            "block must append gates to 4 qubits from 3 angles .*, got ValueError: angles must be",
        ),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        QNN(**arguments)


def test_a_block_that_changes_its_ways_is_read_anew():
    class Switch:
        flipped = True

        def __call__(self, circuit, angles):
            circuit.ry(0, theta=angles[0])
            if self.flipped:
                circuit.x(0)

    block = Switch()
    first = QNN(1, 1, block=block, generator=generator(0))()
    block.flipped = False
    second = QNN(1, 1, block=block, generator=generator(0))
    assert torch.allclose(first.flip(0), second())


def test_a_generator_is_the_only_source_of_the_start():
    before = torch.get_rng_state()
    QNN(3, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    angles = QNN(3, 2).angles
    torch.manual_seed(5)
    assert torch.equal(angles, (torch.rand(2, 3) * 2 - 1) * torch.pi)
