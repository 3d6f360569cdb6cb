import math

import pytest
import torch
from refusals import refused
from torch import nn

from qtlite import QNN, QuantumTrain
from qtlite.experiments.studies.readout import (
    readout,
    shots_for_error,
    simulation_seconds,
    weight_error,
)
from qtlite.experiments.studies.study import Row


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def toy():
    """32 weights that are probabilities: no mapping net, no normalisation."""
    model = QuantumTrain(nn.Linear(7, 4), 3, normalisation="none", generator=seeded())
    model.mapping.forward = lambda column: column
    return model


def test_error_of_weights_that_are_frequencies():
    """Their mean square is sum p (1 - p) / S over the number of states, known in closed form."""
    model, n_shots = toy(), 400
    p = model.qnn().detach()
    expected = ((p * (1 - p)).mean() / n_shots).sqrt() / p.std()
    found = weight_error(model, n_shots, 60, seeded(1))
    assert found == pytest.approx(expected.item(), rel=0.1)


def test_shots_for_an_error_of_frequencies():
    model = toy()
    p = model.qnn().detach()
    expected = (p * (1 - p)).mean() / (0.1 * p.std()).square()
    assert shots_for_error(model, 0.1, 30, seeded(2)) == pytest.approx(expected.item(), rel=0.2)
    assert shots_for_error(model, 100.0, 1, seeded()) == 16  # the first number that is tried
    message = r"error must be one that 2\*\*14 shots a state reach, got 1e-09"
    refused(message, shots_for_error, model, 1e-9, 1, seeded())


def test_more_qubits_take_longer_to_simulate():
    small, large = (simulation_seconds(QNN(n, 2), 3) for n in (4, 16))
    assert 0 < small[0] < large[0]
    assert 0 < small[1] < large[1]


def test_study_on_digits():
    settings = {"timed_qubits": (6,), "n_starts": 2, "n_models": 1, "epochs": 1, "n_draws": 1}
    found = readout(Row("digits", 2), (6, 7), (9,), n_train=300, **settings)
    assert [(row["n_qubits"], row["seed"]) for row in found["weights"]] == [
        (6, 0), (7, 0), (6, 1), (7, 1)
    ]  # fmt: skip
    assert all(math.isfinite(row["shots"]) for row in found["weights"])
    (trained,) = found["accuracies"]
    assert trained["points"][-1]["accuracy"] == pytest.approx(trained["exact_accuracy"], abs=0.05)
    assert set(found["seconds"][0]) == {"n_qubits", "run", "gradient"}
