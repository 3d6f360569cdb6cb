"""Schmidt values against reduced density matrices, and truncation against cuts made by hand."""

import math

import numpy as np
import pytest
import torch
from refusals import refused

from qtlite import QNN
from qtlite.experiments.studies.entanglement import (
    accuracy_against_bond,
    amplitudes,
    bond_needed,
    entropy,
    schmidt_rank,
    schmidt_values,
    truncated,
)
from qtlite.experiments.studies.study import Row


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_state(n_qubits, seed=0):
    state = torch.randn(2**n_qubits, dtype=torch.float64, generator=seeded(seed))
    return state / state.norm()


def gate_by_gate(angles):
    """The amplitudes from one rotation and one permutation after the other."""
    n_qubits = angles.shape[1]
    state = np.eye(2**n_qubits)[0]
    for row in angles:
        for qubit, angle in enumerate(row):
            gate = [
                [math.cos(angle / 2), -math.sin(angle / 2)],
                [math.sin(angle / 2), math.cos(angle / 2)],
            ]
            whole = np.kron(np.kron(np.eye(2**qubit), gate), np.eye(2 ** (n_qubits - qubit - 1)))
            state = whole @ state
        for control in range(n_qubits - 1):
            bit, flip = 2 ** (n_qubits - 1 - control), 2 ** (n_qubits - 2 - control)
            state = np.array([state[i ^ flip if i & bit else i] for i in range(len(state))])
    return state


def test_amplitudes_have_the_signs_of_the_circuit():
    qnn = QNN(5, 4, generator=seeded())
    expected = gate_by_gate(qnn.angles.detach().double().numpy())
    np.testing.assert_allclose(amplitudes(qnn).numpy(), expected, atol=1e-12)
    assert (expected < 0).any()


@pytest.mark.parametrize("n_left", [1, 2, 3, 4])
def test_schmidt_values_are_those_of_the_reduced_density_matrix(n_left):
    state = amplitudes(QNN(5, 2, generator=seeded(3)))
    whole = np.outer(state, state).reshape([2**n_left, 2 ** (5 - n_left)] * 2)
    reduced = np.einsum("ajbj->ab", whole)  # trace over the right
    eigenvalues = np.sort(np.linalg.eigvalsh(reduced))[::-1]
    values = schmidt_values(state, n_left)
    squares = np.zeros(2**n_left)
    squares[: len(values)] = values.square().numpy()
    np.testing.assert_allclose(squares, eigenvalues, atol=1e-12)
    positive = eigenvalues[eigenvalues > 1e-15]
    assert entropy(values) == pytest.approx(-(positive * np.log(positive)).sum())
    assert schmidt_rank(values) == np.linalg.matrix_rank(reduced, tol=1e-14)


def test_a_product_state_is_not_entangled_and_a_bell_state_is():
    product = torch.kron(random_state(3), random_state(4, 1))
    values = schmidt_values(product)
    assert schmidt_rank(values) == 1
    assert entropy(values) == pytest.approx(0, abs=1e-12)
    cat = torch.zeros(16, dtype=torch.float64)
    cat[0] = cat[15] = 0.5**0.5
    assert entropy(schmidt_values(cat)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("n_blocks", [1, 2, 3])
def test_each_block_at_most_doubles_the_rank(n_blocks):
    """One CNOT crosses the middle cut in each block, and a CNOT is a sum of two products."""
    for seed in range(3):
        state = amplitudes(QNN(8, n_blocks, generator=seeded(seed)))
        assert schmidt_rank(schmidt_values(state)) == 2**n_blocks


def test_truncation_keeps_the_largest_values_of_one_cut():
    state = random_state(2)
    u, _, v = np.linalg.svd(state.numpy().reshape(2, 2))
    expected = np.outer(u[:, 0], v[0]).ravel()
    np.testing.assert_allclose(truncated(state, 1).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("bond", [1, 2, 3, 8, 9])
def test_truncated_states_have_the_bond_asked_for(bond):
    state = random_state(6)
    near = truncated(state, bond)
    assert near.norm().item() == pytest.approx(1)
    for cut in range(1, 6):
        assert schmidt_rank(schmidt_values(near, cut)) <= bond
    if bond >= 8:  # no cut of six qubits has more values
        torch.testing.assert_close(near, state)
    else:  # not worse than one cut alone by more than the sum over all cuts
        lost = sum(schmidt_values(state, cut)[bond:].square().sum().item() for cut in range(1, 6))
        worst = max(schmidt_values(state, cut)[bond:].square().sum().item() for cut in range(1, 6))
        assert worst - 1e-12 <= 1 - (near @ state).square().item() <= lost


def test_bond_needed():
    values = torch.tensor([0.5, 0.3, 0.15, 0.05]).double().sqrt()
    assert [bond_needed(values, x) for x in (0.6, 0.21, 0.19, 0.04, 0.0)] == [1, 2, 3, 4, 4]


def test_a_trained_state_needs_its_whole_bond(tmp_path, monkeypatch):
    """A small model in the place of the book's: the exact state gives the network's accuracy."""
    from qtlite.experiments.config import TrainConfig
    from qtlite.experiments.data.loading import load_dataset
    from qtlite.experiments.models.build import build_model
    from qtlite.experiments.train.loop import evaluate
    from qtlite.export import save_compressed

    config = TrainConfig(n_blocks=2)
    model = build_model(config)
    save_compressed(model, tmp_path / "digits-qt-2.angles.safetensors", {"record": "a run"})
    found = accuracy_against_bond(Row("digits", 2), (1, 8192), str(tmp_path))
    images = load_dataset("digits")
    expected = evaluate(model.to_classical(), images.test_images, images.test_labels, config)[1]
    assert found["record"] == "a run"
    assert found["start"] == found["trained"]
    assert found["trained"]["rank"] == 4
    assert found["points"][1]["infidelity"] == pytest.approx(0, abs=1e-9)
    assert found["points"][1]["accuracy"] == pytest.approx(expected, abs=0.01)
    assert found["exact_accuracy"] == pytest.approx(expected, abs=0.01)
    assert found["points"][0]["infidelity"] > 0.1


def test_bad_input():
    for state in (torch.ones(3), torch.ones(2), torch.ones(2, 2)):
        refused(r"state must have shape \(2\*\*N,\) with N >= 2, got", schmidt_values, state)
    refused("n_left must be between 1 and 2, got 3", schmidt_values, torch.ones(8), 3)
    refused("bond must be", truncated, torch.ones(8), 0)

    def complex_block(circuit, angles):
        for qubit in range(2):
            circuit.rx(qubit, theta=angles[qubit])

    with pytest.raises(ValueError, match="qnn must have real amplitudes, got complex ones"):
        amplitudes(QNN(2, 1, block=complex_block))
