"""Shots against multinomial statistics, shifts against adjoint gradients, both against formulas."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorcircuit as tc
import torch
from refusals import refused
from torch import nn
from torch.testing import assert_close

from qtlite import QNN, QuantumTrain
from qtlite.circuit import build_circuit
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.models.build import build_model
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.report import figures
from qtlite.experiments.studies import Row, run_study, sampling, studies
from qtlite.experiments.studies.noise import accuracy_against_noise
from qtlite.experiments.studies.sampling import (
    SampledQNN,
    infidelity,
    network_from,
    parameter_shift,
    run_circuits,
    sample_frequencies,
)
from qtlite.experiments.studies.shot_training import gradient_against_shots, training_with_shots
from qtlite.experiments.studies.shots import (
    accuracy_against_shots,
    paper_shots,
    shots_needed,
    squared_bias_and_variance,
)
from qtlite.experiments.studies.toy import toy_accuracy, toy_model, toy_task
from qtlite.experiments.train.fitting import fit
from qtlite.experiments.train.loop import evaluate
from qtlite.experiments.train.runs import trained_models

MEASUREMENTS = Path(__file__).parents[2] / "book" / "measurements"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def circuit(n_qubits=5, n_blocks=3, seed=0):
    return QNN(n_qubits, n_blocks, generator=seeded(seed)).double()


P = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625, 0.0, 0.0, 0.0], dtype=torch.float64)


def test_counts_have_the_mean_and_covariance_of_a_multinomial():
    n_shots, n_draws = 200, 2000
    ours = sample_frequencies(P.expand(n_draws, 8), n_shots, seeded()).numpy()
    ours = (ours * n_shots).round()
    numpys = np.random.default_rng(0).multinomial(n_shots, P, n_draws)
    covariance = n_shots * (np.diag(P) - np.outer(P, P))
    for counts in (ours, numpys):  # the second shows that the bounds are fair
        error = np.sqrt(np.diag(covariance) / n_draws)
        assert (np.abs(counts.mean(axis=0) - n_shots * P.numpy()) <= 4 * error).all()
        assert np.allclose(np.cov(counts.T), covariance, atol=0.1 * covariance.max())
    assert (ours[:, 5:] == 0).all()
    assert (ours.sum(axis=1) == n_shots).all()


def test_counts_are_those_of_tensorcircuit_running_the_gates():
    qnn = circuit(4, 3)
    uniform = torch.rand(500, dtype=torch.float64, generator=seeded(7)).numpy()
    with tc.runtime_dtype("complex128"):
        gates = build_circuit(4, qnn.angles.detach().numpy())
        by_gates = gates.sample(batch=500, allow_state=True, format="count_vector", status=uniform)
    ours = sample_frequencies(qnn(), 500, seeded(7))
    assert np.array_equal((ours.numpy() * 500).round(), by_gates)


def test_many_shots_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLED_AT_ONCE", 64)
    p_hat = sample_frequencies(P.float(), 1000, seeded())
    assert p_hat.dtype == torch.float32
    assert p_hat.sum().item() == pytest.approx(1)
    expected = 1000 * P[:5]
    chi_squared = ((1000 * p_hat[:5] - expected) ** 2 / expected).sum()
    assert chi_squared < 18.5  # four degrees of freedom: exceeded once in a thousand


def test_the_paper_circuit_at_full_size_by_shifts():
    """16 blocks, 13 qubits, a nonlinear loss: parameter shift = adjoint to 1e-6."""
    qnn = circuit(13, 16)
    p = qnn()
    p.retain_grad()
    loss = (2**13 * p).tanh().mul(torch.linspace(-1, 1, 2**13).double()).sum()
    loss.backward()
    shifted = parameter_shift(qnn, p.grad)
    assert shifted.shape == (16, 13)
    assert (shifted - qnn.angles.grad).abs().max() < 1e-6
    assert qnn.angles.grad.abs().max() > 1e-2


def test_every_derivative_of_every_probability_by_shifts():
    qnn = circuit(3, 2)
    exact = torch.autograd.functional.jacobian(
        lambda angles: torch.func.functional_call(qnn, {"angles": angles}, ()), qnn.angles
    )
    for state, row in enumerate(torch.eye(8).double()):
        assert torch.allclose(parameter_shift(qnn, row), exact[state], atol=1e-12)


def variance_by_formula(qnn, values, n_shots):
    """(Var_+ + Var_-) / (4 S): two independent means of ``values`` over S shots each."""
    shifts = torch.pi / 2 * torch.eye(qnn.angles.numel()).reshape(-1, *qnn.angles.shape).double()
    p = [run_circuits(qnn, qnn.angles.detach() + shift) for shift in (shifts, -shifts)]
    variances = [each @ values**2 - (each @ values) ** 2 for each in p]
    return (sum(variances) / (4 * n_shots)).reshape(qnn.angles.shape)


@pytest.mark.parametrize("n_shots", [16, 256])
def test_shifts_with_shots_are_unbiased_and_their_variance_is_one_over_shots(n_shots):
    qnn, values = circuit(3, 2), torch.linspace(-1, 2, 8).double()
    (exact,) = torch.autograd.grad(qnn() @ values, qnn.angles)
    generator, n_draws = seeded(1), 200
    draws = torch.stack([parameter_shift(qnn, values, n_shots, generator) for _ in range(n_draws)])
    expected = variance_by_formula(qnn, values, n_shots)
    within = (draws.mean(dim=0) - exact).abs() / (expected / n_draws).sqrt()
    assert within.max() < 3
    # a sample variance of 200 scatters by sqrt(2 / 200) = 10 %
    assert ((draws.var(dim=0) / expected) - 1).abs().max() < 0.4


def test_plug_in_bias_of_a_square_is_that_of_the_formula():
    """E[sum p^_i**2] - sum p_i**2 = (1 - sum p_i**2) / S."""
    n_shots, n_draws = 20, 4000
    draws = sample_frequencies(P.expand(n_draws, 8), n_shots, seeded(2)).square().sum(dim=1)
    bias = draws.mean() - P.square().sum()
    assert abs(bias - (1 - P.square().sum()) / n_shots) < 3 * draws.std() / n_draws**0.5


def test_weights_bias_is_estimated_without_bias():
    exact = torch.randn(2000, generator=seeded(), dtype=torch.float64)
    scatter = torch.randn(4, 2000, generator=seeded(1), dtype=torch.float64)
    for true in (0.0, 0.3):
        found, variance = squared_bias_and_variance(exact + true + 0.5 * scatter, exact)
        assert found == pytest.approx(true**2, abs=0.02)
        assert variance == pytest.approx(0.25, abs=0.02)


def test_straight_through_is_sampled_forward_and_exact_backward():
    qnn, values = circuit(), torch.linspace(-1, 1, 32).double()
    sampled = SampledQNN(qnn, 50, "straight_through", seeded())
    p_hat = sampled()
    assert torch.allclose((50 * p_hat).round(), 50 * p_hat)
    assert not torch.equal(p_hat, sampled())  # fresh shots
    (found,) = torch.autograd.grad(p_hat @ values, qnn.angles)
    (exact,) = torch.autograd.grad(qnn() @ values, qnn.angles)
    assert torch.allclose(found, exact, atol=1e-12)


def test_sampled_circuit_in_a_model_learns_by_shifts_alone():
    toy = toy_task(load_dataset("digits"))
    model = toy_model(n_blocks=2)
    start = model.qnn.angles.detach().clone()
    model.qnn = SampledQNN(model.qnn, 2048, generator=seeded())
    losses = fit(model, toy.inputs, toy.labels, epochs=2, learning_rate=0.05)
    assert len(losses) == 2 * 12
    assert sum(losses[-5:]) < sum(losses[:5])
    assert not torch.equal(model.qnn.qnn.angles, start)
    assert toy_accuracy(model, toy) > 0.2


def test_circuits_of_a_step_are_counted():
    calls = []

    class Counted(QNN):
        def forward(self):
            calls.append(1)
            return super().forward()

    sampled = SampledQNN(Counted(3, 2), 10)
    sampled().sum().backward()
    assert len(calls) == 1 + 2 * 2 * 3


def test_infidelity_of_frequencies_is_a_quarter_of_states_per_shot():
    n_shots = 2**16
    p = torch.full((1024,), 1 / 1024)
    found = infidelity(p, sample_frequencies(p, n_shots, seeded()))
    assert found == pytest.approx(1023 / (4 * n_shots), rel=0.2)
    assert infidelity(p, p) == pytest.approx(0, abs=1e-6)


def test_the_papers_number_of_shots():
    assert paper_shots(2, 1.0) == pytest.approx(4 * np.log(4))
    assert paper_shots(13, 0.01) == pytest.approx(8192 * 100 * np.log(819200))


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.5, 0.88, 0.9], 2**8 * 4 ** (1 + 0.5)),  # half way between 0.88 and 0.9
        ([0.895, 0.5, 0.9], 2**10 * 4 ** (0.39 / 0.4)),  # a lucky first value does not count
        ([0.1, 0.2, 0.3], None),
        ([0.9, 0.9, 0.9], 2**8),
    ],
)
def test_shots_needed_for_one_percent(accuracies, expected):
    found = shots_needed([2**8, 2**10, 2**12], accuracies, exact=0.9)
    assert found == (None if expected is None else pytest.approx(expected))


def test_network_from_exact_probabilities_is_the_models_own():
    model = QuantumTrain(nn.Linear(4, 3), 2, generator=seeded())
    before = model.qnn
    found, expected = network_from(model, model.qnn()), model.to_classical()
    assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert model.qnn is before


def test_bad_input_is_named():
    qnn, row, whole = QNN(2, 1), Row("digits", 1), "n_shots must be an integer from 1 to .*, got"
    for wrong in (0, 1.5, 2**33):
        refused(f"{whole} {wrong}", sample_frequencies, P, wrong)
    refused(f"{whole} 0", SampledQNN, qnn, 0)
    refused(f"{whole} -1", parameter_shift, qnn, torch.ones(4), n_shots=-1)
    for wrong, text in (
        (torch.ones(3) / 3, r"have shape \(2\*\*N,\) or \(B, 2\*\*N\), got \(3,\)"),
        (torch.tensor([1.5, -0.5]), "be >= 0 and sum to 1, got -0.5 and 1"),
        (torch.tensor([[1.0, 0.0], [0.5, torch.nan]]), "be >= 0 and sum to 1, got nan and nan"),
    ):
        refused(f"probabilities must {text}", sample_frequencies, wrong, 1)
    refused("gradient must be one of .*, got 'exact'", SampledQNN, qnn, 1, "exact")
    refused(r"gradient must have shape \(4,\), got \(3,\)", parameter_shift, qnn, torch.ones(3))
    refused("epsilon must be above 0 and at most 1, got 0", paper_shots, 13, 0)
    refused("n_draws must be at least 2, got 1", accuracy_against_shots, row, n_draws=1)
    refused("name must be one of .*'shots'.*, got 'speed'", run_study, "speed", runs=None)
    refused("n_blocks must be at least 1, got 0", run_study, "ranks", n_blocks=0, runs=None)


def write_run(runs, n_blocks=1, seed=0, n_epochs=None, **changes):
    """What a finished run leaves, without the run."""
    config = recipe_config("qtlite", "digits", n_blocks=n_blocks, seed=seed, **changes)
    model = build_model(config)
    with torch.no_grad():
        model.qnn.angles += 1
    folder = runs / f"digits-qt-qtlite-L{n_blocks}-s{seed}-{len(list(runs.iterdir()))}"
    folder.mkdir()
    history = [{}] * (n_epochs or config.epochs)
    content = {"config": config.to_dict(), "model": model.state_dict(), "history": history}
    torch.save(content, folder / "checkpoint.pt")
    return model


def test_trained_models_are_found_by_what_they_are(tmp_path):
    second, first = write_run(tmp_path, seed=1), write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=2, n_epochs=3)  # unfinished
    write_run(tmp_path, seed=3, learning_rate=0.5)  # another recipe
    write_run(tmp_path, n_blocks=2)  # another depth
    older = write_run(tmp_path, seed=4)
    path = next(tmp_path.glob("*-s4-*/checkpoint.pt"))
    content = torch.load(path, weights_only=True)
    content["config"]["speed"] = 1  # a field that is gone
    torch.save(content, path)
    found = [model for _, model in trained_models(tmp_path, "digits", 1).values()]
    assert len(found) == 2
    assert torch.equal(found[0].qnn.angles, first.qnn.angles)
    assert torch.equal(found[1].qnn.angles, second.qnn.angles)
    assert not torch.equal(found[1].qnn.angles, older.qnn.angles)
    assert len(trained_models(tmp_path, "digits", 1, at_most=1)) == 1
    text = "runs must hold a finished run of QT-3 on digits"
    refused(text, trained_models, tmp_path, "digits", 3)


def test_studies_of_recorded_networks(tmp_path):
    model = write_run(tmp_path)
    row = Row("digits", 1, runs=tmp_path)
    digits = load_dataset("digits")
    loss, accuracy = evaluate(
        model.to_classical(), digits.test_images, digits.test_labels, TrainConfig(n_blocks=1)
    )
    (by_shots,) = accuracy_against_shots(row, shots=[2**10, 2**20], n_draws=2, n_seeds=1)
    assert (by_shots["exact_loss"], by_shots["exact_accuracy"]) == (loss, accuracy)
    few, many = by_shots["points"]
    assert [few["n_shots"], many["n_shots"]] == [2**10, 2**20]
    assert np.abs(np.subtract(many["losses"], loss)).max() < 0.02
    assert many["infidelity"] < few["infidelity"] / 100
    assert many["weight_variance"] < few["weight_variance"] / 50
    (by_noise,) = accuracy_against_noise(row, error_rates=[1e-9, 1e-2], n_seeds=1)
    clean, noisy = by_noise["points"]
    assert clean["accuracy"] == by_noise["exact_accuracy"] == accuracy
    assert noisy["survival"] == pytest.approx(0.99**25)
    gradients = gradient_against_shots(row, shots=[2**4, 2**16], n_images=64)
    assert [row["stage"] for row in gradients] == ["untrained"] * 2 + ["trained"] * 2
    for few, many in (gradients[:2], gradients[2:]):
        assert many["cosine"] > max(0.8, few["cosine"])
    json.dumps([by_shots, by_noise, gradients], allow_nan=False)


def test_measured_training_with_few_shots_and_with_exact_probabilities():
    few, exact = training_with_shots(Row("digits", 1), shots=[2**6], epochs=1, learning_rate=0.01)
    assert (few["n_shots"], exact["n_shots"]) == (64, None)
    assert exact["sampled_accuracy"] == exact["exact_accuracy"]
    assert 0 <= few["sampled_accuracy"] <= 1


@pytest.mark.parametrize("name", studies())
def test_the_books_measurements_have_todays_settings(name):
    paths = list(MEASUREMENTS.glob(f"{name}.json")) + list(MEASUREMENTS.glob(f"{name}-*-L*.json"))
    assert paths
    for path in paths:
        config = json.loads(path.read_text())["config"]
        row = Row(config.get("dataset"), config.get("n_blocks"))
        assert studies()[name].config(row) == config


def test_figure_has_every_curve_reference_and_vertical():
    figure = figures.measured_points(
        {"a": ([1, 2], [0.1, 0.2], [0.1, 0.1]), "b": ([1, 4], [0.3, 0.2], None)},
        x_label="shots",
        y_label="accuracy",
        x_base=2,
        log_y=True,
        references={"theory": ([1, 4], [1, 2])},
        verticals={"here": 2},
    )
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["theory", "a", "b"]
    assert [text.get_text() for text in axes.texts] == ["here"]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("shots", "accuracy")
