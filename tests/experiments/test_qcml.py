"""The comparison model against PennyLane, and its size against the paper's."""

from contextlib import nullcontext

import pennylane as qml
import pytest
import torch
from refusals import refused

from qtlite import plain
from qtlite.engine import circuit as fused
from qtlite.engine import torch_loops as fused_torch
from qtlite.engine.compiled import circuit as fused_numba
from qtlite.experiments.models.qcml import QCML, EncodedCircuit, encode_qubits
from qtlite.experiments.paper import QCML_PARAMETERS


@pytest.mark.parametrize(("dataset", "counts"), QCML_PARAMETERS.items())
def test_parameters_of_the_three_parts(dataset, counts):
    parts = [sum(p.numel() for p in part.parameters()) for part in QCML(dataset)]
    assert tuple(parts) == counts


@pytest.mark.parametrize("module", [fused_numba, fused_torch, None])
@pytest.mark.parametrize(("n_qubits", "n_blocks"), [(1, 2), (3, 1), (3, 2), (5, 4), (8, 2)])
def test_expectations_and_gradients_are_pennylanes(module, n_qubits, n_blocks, monkeypatch):
    monkeypatch.setattr(fused, "loops_for", lambda *_: module)
    generator = torch.Generator().manual_seed(n_qubits)
    ours = EncodedCircuit(n_qubits, n_blocks, generator=generator).double()
    features = torch.randn(4, n_qubits, dtype=torch.float64, requires_grad=True)
    angles = ours.angles.detach().clone().requires_grad_()

    @qml.qnode(qml.device("default.qubit", wires=n_qubits), interface="torch")
    def circuit(row):
        for qubit in range(n_qubits):
            qml.Hadamard(qubit)
            qml.RY(row[qubit], wires=qubit)
            qml.RZ(row[qubit], wires=qubit)
        for block in angles:
            for qubit in range(n_qubits):
                qml.RY(block[qubit], wires=qubit)
            for qubit in range(n_qubits - 1):
                qml.CNOT(wires=[qubit, qubit + 1])
        return [qml.expval(qml.PauliZ(qubit)) for qubit in range(n_qubits)]

    expected = torch.stack([torch.stack(list(circuit(row))) for row in features])
    with nullcontext() if module else plain():
        found = ours(features)
    assert torch.allclose(found, expected, atol=1e-10)
    weights = torch.randn_like(found)
    theirs = torch.autograd.grad((weights * expected).sum(), [features, angles])
    mine = torch.autograd.grad((weights * found).sum(), [features, ours.angles])
    for ours_, theirs_ in zip(mine, theirs, strict=True):
        assert torch.allclose(ours_, theirs_, atol=1e-10)


def test_encoded_qubits_are_normalised():
    qubits = encode_qubits(torch.randn(6, 4, dtype=torch.float64))
    norms = qubits.abs().square().sum(dim=2)
    assert torch.allclose(norms, torch.ones(6, 4, dtype=torch.float64))


def test_gradients_against_finite_differences():
    circuit = EncodedCircuit(3, 2).double()
    features = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(circuit, features)


def test_images_to_logits_and_a_step_lowers_the_loss():
    torch.manual_seed(0)
    model = QCML("digits", n_qubits=4, n_blocks=2)
    images, labels = torch.randn(16, 1, 28, 28), torch.arange(16) % 10
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


def test_bad_input():
    refused("n_qubits must be at least 1, got 0", EncodedCircuit, 0, 1)
    with pytest.raises(ValueError, match=r"features must have shape \(batch, 2\), got \(3, 5\)"):
        EncodedCircuit(2, 1)(torch.zeros(3, 5))
    refused("dataset must be one of .*, got 'svhn'", QCML, "svhn")


def test_hidden_layers_keep_their_relu_whatever_the_widths():
    part1 = QCML("mnist", n_qubits=10)[0]
    assert [type(layer).__name__ for layer in part1[-4:]] == [
        "Linear",
        "ReLU",
        "Linear",
        "ToAngles",
    ]
