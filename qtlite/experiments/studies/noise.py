"""Depolarising noise: exact for a few qubits, and a model of it for many.

The exact simulation is TensorCircuit's, with a density matrix of 4**N entries. The global
depolarising model is one formula for any size: any error leaves uniform probabilities.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from qtlite.circuit import tensorcircuit_with
from qtlite.experiments.studies.sampling import network_from, sample_frequencies
from qtlite.experiments.studies.study import Row, Study
from qtlite.qnn import QNN


def noisy_probabilities(angles: Tensor, error_rate: float) -> Tensor:
    """Return the probabilities of the paper's circuit with depolarising noise after every gate.

    With probability ``error_rate`` a gate is followed by a random one of the 4**n - 1 Pauli errors
    on its n qubits (Ry has one, CNOT two): TensorCircuit's isotropic depolarising channel.

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


def _check_rate(error_rate: float) -> None:
    if not 0 <= error_rate <= 1:
        raise ValueError(f"error_rate must be between 0 and 1, got {error_rate}")


def survival(n_qubits: int, n_blocks: int, error_rate: float) -> float:
    """Return the probability that no gate of the paper's circuit fails, (1 - epsilon)**gates.

    Each block has N rotations and N - 1 CNOTs.

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
    return (1 - error_rate) ** ((2 * n_qubits - 1) * n_blocks)


def mix_with_uniform(probabilities: Tensor, surviving: float) -> Tensor:
    """Apply the global depolarising model: surviving * p + (1 - surviving) / 2**N.

    Args:
        probabilities: p, shape (2**N,).
        surviving: from 1 (no noise) to 0 (uniform).

    Example:
        >>> mix_with_uniform(torch.tensor([1.0, 0.0]), 0.5)
        tensor([0.7500, 0.2500])
    """
    return surviving * probabilities + (1 - surviving) / len(probabilities)


def unmix(probabilities: Tensor, surviving: float) -> Tensor:
    """Undo ``mix_with_uniform``; errors of the probabilities grow by 1 / surviving.

    Args:
        probabilities: shape (2**N,).
        surviving: above 0, at most 1.

    Returns:
        Shape (2**N,), summing to 1; entries may be negative.

    Raises:
        ValueError: if ``surviving`` is out of range.
    """
    if not 0 < surviving <= 1:
        raise ValueError(f"surviving must be above 0 and at most 1, got {surviving}")
    return (probabilities - (1 - surviving) / len(probabilities)) / surviving


def fit_survival(noisy: Tensor, exact: Tensor) -> tuple[float, float]:
    """Fit ``surviving`` of the global model by least squares of noisy - uniform on exact - uniform.

    Args:
        noisy, exact: shape (2**N,).

    Returns:
        The slope, and the residual's length divided by the length of noisy - uniform.

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
    """Compare the global model with density matrices of circuits with random angles.

    Args:
        sizes: pairs (N, L).
        error_rates: values of epsilon.
        seed: of the angles.
        n_draws: circuits for each.

    Returns:
        For each size, draw and rate: ``survival`` by counting gates, ``fitted`` to the density
        matrix, and the share that the model ``missed``, see ``fit_survival``.
    """
    rows = []
    generator = torch.Generator().manual_seed(seed)
    for (n_qubits, n_blocks), _ in product(sizes, range(n_draws)):
        qnn = QNN(n_qubits, n_blocks, generator=generator).double()
        exact = qnn().detach()
        for rate in error_rates:
            fitted, missed = fit_survival(noisy_probabilities(qnn.angles, rate), exact)
            row = {"n_qubits": n_qubits, "n_blocks": n_blocks, "error_rate": rate}
            row |= {"survival": survival(n_qubits, n_blocks, rate)}
            rows.append(row | {"fitted": fitted, "missed": missed})
    return rows


def accuracy_against_noise(
    row: Row,
    error_rates: Sequence[float] = tuple(10 ** (k / 4) for k in range(-22, -7)),
    n_shots: int = 2**22,
    n_seeds: int = 2,
) -> list[dict[str, Any]]:
    """Test the networks that trained models generate under the global depolarising model.

    Args:
        row: of the models, trained without noise.
        error_rates: values of epsilon, below 1.
        n_shots: S of the noisy measurement that ``unmix`` corrects.
        n_seeds: number of models.

    Returns:
        For each model ``exact_accuracy``, and for each rate in ``points``: ``survival``, the
        ``accuracy`` with noise and infinitely many shots, and the ``corrected_accuracy`` with
        noise, S shots and correction.
    """
    generator = torch.Generator().manual_seed(row.seed)
    results = []
    for name, model, test in row.models(n_seeds):
        p, points = model.qnn().detach(), []
        for rate in error_rates:
            surviving = survival(model.n_qubits, row.n_blocks, rate)
            noisy = mix_with_uniform(p, surviving)
            corrected = unmix(sample_frequencies(noisy, n_shots, generator), surviving)
            point = {"error_rate": rate, "survival": surviving}
            for column, q in (("accuracy", noisy), ("corrected_accuracy", corrected)):
                point[column] = test(network_from(model, q))[1]
            points.append(point)
        found = {"exact_accuracy": test(network_from(model, p))[1], "points": points}
        results.append({"record": name, "n_qubits": model.n_qubits, **found})
    return results


STUDY = Study("noise", accuracy_against_noise)
