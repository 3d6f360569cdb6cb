"""Density matrices against explicit Pauli errors; the global model against counting gates."""

import itertools
import json

import numpy as np
import pytest
import torch
from refusals import refused

from qtlite import QNN
from qtlite.circuit import build_circuit
from qtlite.experiments.studies.noise import (
    compare_models,
    fit_survival,
    mix_with_uniform,
    noisy_probabilities,
    survival,
    unmix,
)
from qtlite.experiments.studies.toy import toy_noise

PAULIS = [
    np.eye(2),
    np.array([[0, 1], [1, 0]]),
    np.array([[0, -1j], [1j, 0]]),
    np.diag([1, -1]),
]
CNOT = np.eye(4)[[0, 1, 3, 2]]


def with_errors(rho, gate, errors, rate):
    """rho after a gate, then with probability ``rate`` one of ``errors``, all as matrices."""
    rho = gate @ rho @ gate.conj().T
    return (1 - rate) * rho + rate * sum(e @ rho @ e.conj().T for e in errors) / len(errors)


def by_hand(angles, rate):
    """Two qubits, matrices written out: what ``noisy_probabilities`` does with TensorCircuit."""
    rho = np.zeros((4, 4), complex)
    rho[0, 0] = 1
    on_both = [np.kron(a, b) for a, b in itertools.product(PAULIS, PAULIS)][1:]
    for row in angles:
        for qubit, angle in enumerate(row):
            cos, sin = np.cos(angle / 2), np.sin(angle / 2)
            turn = np.array([[cos, -sin], [sin, cos]])

            def place(matrix, qubit=qubit):
                return np.kron(matrix, np.eye(2)) if qubit == 0 else np.kron(np.eye(2), matrix)

            rho = with_errors(rho, place(turn), [place(p) for p in PAULIS[1:]], rate)
        rho = with_errors(rho, CNOT, on_both, rate)
    return rho.diagonal().real


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5])
def test_density_matrix_is_that_of_explicit_errors(rate):
    angles = torch.tensor([[0.3, -1.2], [2.0, 0.7]], dtype=torch.float64)
    found = noisy_probabilities(angles, rate)
    assert np.allclose(found, by_hand(angles.numpy(), rate), atol=1e-12)


def test_no_error_is_the_exact_circuit_and_some_rate_is_complete_mixing():
    qnn = QNN(5, 3, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(noisy_probabilities(qnn.angles, 0.0), qnn(), atol=1e-12)
    # one of four Paulis, the identity included, at random leaves nothing
    assert noisy_probabilities(torch.ones(1, 1), 0.75).tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(("n_qubits", "n_blocks"), [(13, 16), (13, 121), (4, 2)])
def test_gates_are_those_of_the_circuit(n_qubits, n_blocks):
    gates = build_circuit(n_qubits, np.zeros((n_blocks, n_qubits))).to_qir()
    assert survival(n_qubits, n_blocks, 0.01) == pytest.approx(0.99 ** len(gates))


def test_unmixing_undoes_mixing():
    p = torch.rand(8, dtype=torch.float64)
    p /= p.sum()
    mixed = mix_with_uniform(p, 0.2)
    assert mixed.sum() == pytest.approx(1)
    assert torch.allclose(mix_with_uniform(p, 0.0), torch.full((8,), 1 / 8).double())
    assert torch.allclose(unmix(mixed, 0.2), p)
    slope, rest = fit_survival(mixed, p)
    assert (slope, rest) == (pytest.approx(0.2), pytest.approx(0, abs=1e-12))


def test_counted_survival_is_near_the_fitted_one_in_deep_circuits():
    rows = compare_models([(6, 16)], [0.001, 0.01], seed=0, n_draws=2)
    assert len(rows) == 4
    for row in rows:
        assert row["survival"] == pytest.approx((1 - row["error_rate"]) ** (11 * 16))
        assert row["fitted"] == pytest.approx(row["survival"], abs=0.1)
        assert row["fitted"] > row["survival"] - 0.01  # some errors do no harm


def test_toy_networks_lose_with_noise_and_get_it_back():
    found = toy_noise([(3, 2)], [1e-9, 0.1], n_blocks=2, n_seeds=1, seed=0)
    clean, noisy = found["accuracy"]
    assert clean["accuracy"] == clean["exact_accuracy"] > 0.5
    assert noisy["accuracy"] < clean["accuracy"]
    assert (found["n_test"], found["n_qubits"]) == (297, 6)
    json.dumps(found, allow_nan=False)


def test_bad_input_is_named():
    rate, angles = "error_rate must be between 0 and 1, got", torch.zeros(1, 2)
    refused(f"{rate} -0.1", noisy_probabilities, angles, -0.1)
    refused(f"{rate} 1.5", survival, 2, 1, 1.5)
    refused("surviving must be above 0 and at most 1, got 0.0", unmix, torch.ones(2) / 2, 0.0)
