"""Reading out against simulating: how shots and simulation time grow with the number of qubits."""

import math
import time
import timeit
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from qtlite.experiments.data.loading import to_float
from qtlite.experiments.recipes import QT_RATES
from qtlite.experiments.studies.sampling import network_from, sample_frequencies
from qtlite.experiments.studies.shots import shots_needed
from qtlite.experiments.studies.study import Row, Study
from qtlite.experiments.studies.trainability import classifier_of_size
from qtlite.experiments.train.fitting import fit
from qtlite.qnn import QNN
from qtlite.quantum_train import QuantumTrain


def weight_error(
    model: QuantumTrain, n_shots: int, n_draws: int, generator: torch.Generator
) -> float:
    """Return the root mean square error of the weights from S shots, over their deviation.

    Args:
        model: unchanged.
        n_shots: S.
        n_draws: networks to average over.
        generator: source of the shots.
    """
    p = model.qnn().detach()
    exact = nn.utils.parameters_to_vector(network_from(model, p).parameters())
    squares = [
        (nn.utils.parameters_to_vector(network_from(model, draw).parameters()) - exact).square()
        for draw in (sample_frequencies(p, n_shots, generator) for _ in range(n_draws))
    ]
    return (torch.stack(squares).mean().sqrt() / exact.std()).item()


def shots_for_error(
    model: QuantumTrain, error: float, n_draws: int, generator: torch.Generator
) -> float:
    """Return the S at which ``weight_error`` falls to ``error``; S is doubled until it does.

    Raises:
        ValueError: if 2**14 shots for each basis state are too few.
    """
    shots, errors = [2 ** (model.n_qubits - 2)], [math.inf]
    while errors[-1] > error:
        if shots[-1] >= 2 ** (model.n_qubits + 14):
            raise ValueError(f"error must be one that 2**14 shots a state reach, got {error}")
        shots.append(2 * shots[-1])
        errors.append(weight_error(model, shots[-1], n_draws, generator))
    if len(shots) < 3:
        return float(shots[-1])
    low, high = math.log(errors[-2]), math.log(errors[-1])
    return shots[-2] * 2 ** ((low - math.log(error)) / (low - high))


def simulation_seconds(qnn: QNN, n_calls: int) -> tuple[float, float]:
    """Return the least processor time of one run of a circuit, and of a run with its gradient.

    Args:
        qnn: the circuit.
        n_calls: to take the least of, after one that is not timed.
    """
    direction = torch.ones(2**qnn.n_qubits)

    def run() -> Tensor:
        with torch.no_grad():
            return qnn()

    def gradient() -> None:
        qnn.angles.grad = None
        qnn().backward(direction)

    options = {"timer": time.process_time, "number": 1, "repeat": n_calls + 1}
    return tuple(min(timeit.repeat(call, **options)[1:]) for call in (run, gradient))


def readout(
    row: Row,
    qubits: Sequence[int] = tuple(range(6, 16)),
    trained_qubits: Sequence[int] = tuple(range(9, 16)),
    timed_qubits: Sequence[int] = tuple(range(6, 21)),
    error: float = 0.1,
    n_starts: int = 4,
    n_models: int = 3,
    n_draws: int = 2,
    n_train: int = 20_000,
    epochs: int = 2,
) -> dict[str, Any]:
    """Find the shots for an error of the weights and for one point of accuracy, and time circuits.

    Args:
        row: gives the images of 28 x 28 pixels and L.
        qubits: N of untrained models, whose target is a linear layer of 2**N weights.
        trained_qubits: N of models trained on the images, with ``classifier_of_size``.
        timed_qubits: N of circuits to time on one core.
        error: of the weights, root mean square over their standard deviation.
        n_starts: untrained models for each N, from seed ``row.seed`` on.
        n_models: trained ones.
        n_draws: networks for each model and number of shots.
        n_train, epochs: of the training.

    Returns:
        ``weights``: for each N and model the ``shots`` for the error. ``accuracies``: for each N
        and model ``exact_accuracy``, ``shots`` for one point, and the mean ``accuracy`` for each S
        in ``points``. ``seconds``: for each N the time of a ``run`` and of a ``gradient``.
    """
    config = row.config()
    images, weights, accuracies = row.images(), [], []
    pixels = {"mean": config.pixel_mean, "std": config.pixel_std}
    inputs = to_float(images.test_images, **pixels)
    for seed in range(row.seed, row.seed + n_starts):
        generator = torch.Generator().manual_seed(seed)
        for n_qubits in qubits:
            target = nn.Linear(15, 2 ** (n_qubits - 4))
            model = QuantumTrain(target, row.n_blocks, generator=generator)
            needed = shots_for_error(model, error, n_draws, generator)
            weights.append({"n_qubits": n_qubits, "seed": seed, "shots": needed})
    for seed in range(row.seed, row.seed + n_models):
        generator = torch.Generator().manual_seed(seed)
        for n_qubits in trained_qubits:
            model = QuantumTrain(classifier_of_size(n_qubits), row.n_blocks, generator=generator)
            few = images.train_images[:n_train], images.train_labels[:n_train]
            rate = QT_RATES["adam"] * 4 / math.sqrt(row.n_blocks)
            prepare = partial(to_float, **pixels)
            fit(model, *few, epochs=epochs, learning_rate=rate, seed=seed, prepare=prepare)

            def accuracy(p: Tensor, model: QuantumTrain = model) -> float:
                with torch.no_grad():
                    answers = network_from(model, p)(inputs).argmax(1)
                return (answers == images.test_labels).float().mean().item()

            p, points = model.qnn().detach(), []
            for n_shots in (2 ** (n_qubits + power) for power in range(-1, 8)):
                draws = [sample_frequencies(p, n_shots, generator) for _ in range(n_draws)]
                mean = sum(map(accuracy, draws)) / n_draws
                points.append({"n_shots": n_shots, "accuracy": mean})
            found = {"n_qubits": n_qubits, "seed": seed, "exact_accuracy": accuracy(p)}
            found["shots"] = shots_needed(
                [point["n_shots"] for point in points],
                [point["accuracy"] for point in points],
                found["exact_accuracy"],
            )
            accuracies.append({**found, "points": points})
    seconds = []
    for n_qubits in timed_qubits:
        run, gradient = simulation_seconds(QNN(n_qubits, row.n_blocks), 20)
        seconds.append({"n_qubits": n_qubits, "run": run, "gradient": gradient})
    return {"weights": weights, "accuracies": accuracies, "seconds": seconds}


STUDY = Study("readout", readout)
