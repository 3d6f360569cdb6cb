"""Variances of derivatives against closed forms: product states, and states of random direction."""

import json

import numpy as np
import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn import functional as F

from qtlite import QNN, MappingNet, QuantumTrain
from qtlite.experiments.studies.trainability import (
    classifier_of_size,
    derivative_variance,
    fit_line,
    gradient_variances,
    loss_gradient_variance,
    random_state_variance,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n_qubits", [1, 6])
def test_one_block_has_the_variance_of_product_states(n_qubits):
    """Of one qubit, sum_i dp_i**2 has mean 1/4, and every other one's sum_i p_i**2 has 3/4."""
    mean, error = derivative_variance(n_qubits, 1, torch.pi, 200, seeded())
    exact = 0.25 * 0.75 ** (n_qubits - 1) / 2**n_qubits
    assert abs(mean - exact) < 3 * error


@pytest.mark.parametrize("n_qubits", [2, 7])
def test_many_blocks_have_the_variance_of_random_states(n_qubits):
    mean, error = derivative_variance(n_qubits, 60, torch.pi, 100, seeded())
    assert abs(mean - random_state_variance(n_qubits)) < 3 * error


def test_random_states_by_drawing_them():
    psi = np.random.default_rng(0).normal(size=(200_000, 8))
    psi /= np.linalg.norm(psi, axis=1, keepdims=True)
    products = psi[:, 0] ** 2 * psi[:, 1] ** 2
    error = products.std() / len(products) ** 0.5
    assert abs(products.mean() - random_state_variance(3)) < 3 * error


def test_small_angles_start_near_one_state():
    """To second order p_j = angle**2 / 4 for the N neighbours j of 0: derivative angle / 2."""
    small = 1e-3
    mean, error = derivative_variance(4, 1, small, 200, seeded())
    # for each angle: its neighbour's derivative and that of p_0, both angle / 2
    exact = 2 * (small**2 / 3) / 4 / 2**4
    assert abs(mean - exact) < 4 * error


def test_loss_gradient_is_that_of_the_model():
    target, x, y = nn.Linear(5, 3), torch.randn(4, 5), torch.tensor([0, 1, 2, 0])
    mean, _ = loss_gradient_variance(target, x, y, 2, 2, seeded(3), angle_range=0.5)
    generator, squares = seeded(3), []
    for _ in range(2):
        model = QuantumTrain(
            target,
            qnn=QNN(5, 2, angle_range=0.5, generator=generator),
            mapping=MappingNet(5, generator=generator),
        )
        F.cross_entropy(model(x), y).backward()
        squares.append(model.qnn.angles.grad.square().mean().item())
    assert mean == pytest.approx(np.mean(squares), rel=1e-5)


@pytest.mark.parametrize("n_qubits", [7, 10, 14])
def test_classifier_fills_its_qubits(n_qubits):
    network = classifier_of_size(n_qubits)
    n_weights = sum(p.numel() for p in network.parameters())
    assert 2 ** (n_qubits - 1) < n_weights <= 2**n_qubits
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_line_is_numpys_and_its_interval_covers():
    x, rng, covered = np.arange(8.0), np.random.default_rng(0), 0
    for _ in range(400):
        y = 1 - 2 * x + rng.normal(size=8)
        line = fit_line(x, y)
        assert (line.slope, line.intercept) == pytest.approx(tuple(np.polyfit(x, y, 1)))
        covered += line.low < -2 < line.high
    assert 0.92 < covered / 400 < 0.98


def test_measured_rows():
    found = gradient_variances([2, 3], [1, 2], [3.0], 2, [7], [1], 2, seed=0)
    assert len(found["probabilities"]) == 4
    assert [row["target"] for row in found["losses"]] == ["mlp"] * 2 + ["cnn"] * 2
    assert all(row["variance"] > 0 for row in found["losses"])
    json.dumps(found, allow_nan=False)


def test_bad_input_is_named():
    draws, target = "n_draws must be at least 2, got 1", nn.Linear(2, 2)
    refused(draws, derivative_variance, 2, 1, 1.0, 1, seeded())
    refused(draws, loss_gradient_variance, target, None, None, 1, 1, seeded())
    refused("n_qubits must be an integer from 7 to 30, got 6", classifier_of_size, 6)
    refused("x must have at least 3 different values, got .0, 1", fit_line, [0, 1, 1], [0, 1, 2])
    refused("x and y must have one length, got 3 and 2", fit_line, [0, 1, 2], [0, 1])
    refused(r"x and y must be finite, got .*-inf", fit_line, [0, 1, 2], [0, 1, -np.inf])
