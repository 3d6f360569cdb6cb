"""Depolarising noise: simulated exactly for a few qubits, and the model of it for many.

Exactly: a density matrix has 4**N entries, which TensorCircuit can do for a few qubits. As a model:
"any error at all leaves uniform probabilities", one formula for any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qtlite.circuit import tensorcircuit_with
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.studies.shots import network_from, sample_frequencies
from qtlite.experiments.train.loop import evaluate
from qtlite.qnn import QNN
from qtlite.quantum_train import QuantumTrain


def noisy_probabilities(angles: Tensor, error_rate: float) -> Tensor:
    """Run the paper's block L times as a density matrix, every gate followed by depolarising noise.

    With probability ``error_rate`` a gate is followed by a random one of the 4**n - 1 Pauli errors
    on its n qubits: one after Ry, two after CNOT (TensorCircuit's isotropic depolarising channel).

    Args:
        angles: phi, shape (L, N), radians; N up to 8 or so.
        error_rate: epsilon, of every gate, 0 to 1.

    Returns:
        Probabilities, shape (2**N,), float64.

    Raises:
        ValueError: if ``error_rate`` is out of range.

    Example:
        >>> half_turn = torch.tensor([[torch.pi]])  # to |1>; X and Y, two of three errors, flip it
        >>> noisy_probabilities(half_turn, 0.3)
        tensor([0.2000, 0.8000], dtype=torch.float64)
    """
    _check_rate(error_rate)
    n_qubits = angles.shape[1]
    with tensorcircuit_with("numpy", "complex128") as tc:
        after_ry = tc.channels.isotropicdepolarizingchannel(error_rate, 1)
        after_cnot = tc.channels.isotropicdepolarizingchannel(error_rate, 2)
        circuit = tc.DMCircuit(n_qubits)
        for row in angles.detach().double().cpu().numpy():
            for qubit, angle in enumerate(row):
                circuit.ry(qubit, theta=angle)
                circuit.general_kraus(after_ry, qubit)
            for qubit in range(n_qubits - 1):
                circuit.cnot(qubit, qubit + 1)
                circuit.general_kraus(after_cnot, qubit, qubit + 1)
        return torch.as_tensor(circuit.densitymatrix().diagonal().real.copy())


def n_gates(n_qubits: int, n_blocks: int) -> int:
    """Gates of the paper's circuit: in each block N rotations and N - 1 CNOTs.

    Example:
        >>> n_gates(13, 1)
        25
    """
    return (2 * n_qubits - 1) * n_blocks


def survival(n_qubits: int, n_blocks: int, error_rate: float) -> float:
    """The probability that no gate of the paper's circuit fails, (1 - epsilon)**gates.

    Args:
        n_qubits: N.
        n_blocks: L.
        error_rate: epsilon, 0 to 1.

    Raises:
        ValueError: if ``error_rate`` is out of range.

    Example:
        >>> round(survival(13, 16, 0.001), 3)
        0.67
    """
    _check_rate(error_rate)
    return (1 - error_rate) ** n_gates(n_qubits, n_blocks)


def mix_with_uniform(probabilities: Tensor, surviving: float) -> Tensor:
    """The global depolarising model: surviving * p + (1 - surviving) / 2**N.

    Args:
        probabilities: p, shape (2**N,).
        surviving: from 1 (no noise) to 0 (uniform).

    Example:
        >>> mix_with_uniform(torch.tensor([1.0, 0.0]), 0.5)
        tensor([0.7500, 0.2500])
    """
    return surviving * probabilities + (1 - surviving) / len(probabilities)


def unmix(probabilities: Tensor, surviving: float) -> Tensor:
    """Undo ``mix_with_uniform``; errors of what is given, such as shot noise, grow by 1/surviving.

    Args:
        probabilities: shape (2**N,).
        surviving: above 0.

    Returns:
        Shape (2**N,), summing to 1; entries may be negative.

    Raises:
        ValueError: if ``surviving`` is not above 0.
    """
    if not surviving > 0:
        raise ValueError(f"surviving must be above 0, got {surviving}")
    return (probabilities - (1 - surviving) / len(probabilities)) / surviving


def fit_survival(noisy: Tensor, exact: Tensor) -> tuple[float, float]:
    """The best ``surviving`` of the global model for given probabilities, and what it misses.

    Least squares of noisy - uniform on exact - uniform.

    Args:
        noisy, exact: shape (2**N,).

    Returns:
        The slope, and the length of what remains divided by the length of noisy - uniform.

    Example:
        >>> p = torch.tensor([0.7, 0.1, 0.1, 0.1])
        >>> slope, rest = fit_survival(mix_with_uniform(p, 0.5), p)
        >>> round(slope, 4), round(rest, 4)
        (0.5, 0.0)
    """
    noisy, exact = (q.double() - 1 / len(q) for q in (noisy, exact))
    slope = noisy @ exact / (exact @ exact)
    return slope.item(), ((noisy - slope * exact).norm() / noisy.norm()).item()


def compare_models(
    sizes: Sequence[tuple[int, int]], error_rates: Sequence[float], *, seed: int, n_draws: int = 3
) -> list[dict[str, float]]:
    """Hold the global model against density matrices of circuits with random angles.

    Args:
        sizes: pairs (N, L).
        error_rates: values of epsilon.
        seed: of the angles.
        n_draws: circuits for each.

    Returns:
        For each size, rate and draw: ``survival`` by counting gates, ``fitted`` to the density
        matrix, and the share ``missed`` by the model, see ``fit_survival``.
    """
    rows = []
    generator = torch.Generator().manual_seed(seed)
    for n_qubits, n_blocks in sizes:
        for _ in range(n_draws):
            qnn = QNN(n_qubits, n_blocks, generator=generator).double()
            exact = qnn().detach()
            for rate in error_rates:
                noisy = noisy_probabilities(qnn.angles, rate)
                fitted, missed = fit_survival(noisy, exact)
                rows.append(
                    {
                        "n_qubits": n_qubits,
                        "n_blocks": n_blocks,
                        "error_rate": rate,
                        "survival": survival(n_qubits, n_blocks, rate),
                        "fitted": fitted,
                        "missed": missed,
                    }
                )
    return rows


def accuracy_against_noise(
    model: QuantumTrain,
    config: TrainConfig,
    images: Tensor,
    labels: Tensor,
    *,
    error_rates: Sequence[float],
    n_shots: int,
    generator: torch.Generator | None = None,
) -> dict[str, Any]:
    """Test the networks that a trained circuit would write under the global depolarising model.

    Args:
        model: trained without noise, with the paper's block.
        config: says how pixels are normalised.
        images: uint8, shape (n, channels, height, width).
        labels: shape (n,).
        error_rates: values of epsilon, below 1.
        n_shots: S of what is measured with noise and then corrected with ``unmix``.
        generator: source of the shots.

    Returns:
        ``exact_accuracy``, and for each rate in ``points``: ``survival``, the ``accuracy`` with
        noise and infinite shots, and the accuracy with noise, S shots and correction,
        ``corrected_accuracy``.
    """
    with torch.no_grad():
        p = model.qnn()

    def accuracy(probabilities: Tensor) -> float:
        network = network_from(model, probabilities)
        return evaluate(network, images, labels, config)[1]

    points = []
    for rate in error_rates:
        surviving = survival(model.n_qubits, model.qnn.n_blocks, rate)
        noisy = mix_with_uniform(p, surviving)
        measured = sample_frequencies(noisy, n_shots, generator)
        points.append(
            {
                "error_rate": rate,
                "survival": surviving,
                "accuracy": accuracy(noisy),
                "corrected_accuracy": accuracy(unmix(measured, surviving)),
            }
        )
    return {"exact_accuracy": accuracy(p), "points": points}


def _check_rate(error_rate: float) -> None:
    if not 0 <= error_rate <= 1:
        raise ValueError(f"error_rate must be between 0 and 1, got {error_rate}")
