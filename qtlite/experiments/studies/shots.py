"""How many shots does a trained circuit need to write its network?"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qtlite.experiments.studies.sampling import infidelity, network_from, sample_frequencies
from qtlite.experiments.studies.study import Row, Study


def accuracy_against_shots(
    row: Row,
    shots: Sequence[int] = tuple(2**k for k in range(10, 25)),
    n_draws: int = 4,
    n_seeds: int = 3,
) -> list[dict[str, Any]]:
    """Test the networks that trained models generate from S shots of their circuits.

    Args:
        row: of the models, trained with exact probabilities.
        shots: values of S.
        n_draws: networks for each S, at least 2.
        n_seeds: number of models.

    Returns:
        For each model ``exact_accuracy`` and ``exact_loss`` (nats), and for each S in ``points``:
        ``accuracies`` and ``losses`` of every draw, their mean ``infidelity``, and
        ``weight_squared_bias`` and ``weight_variance``, see ``squared_bias_and_variance``.

    Raises:
        ValueError: if ``n_draws`` is below 2.
    """
    if n_draws < 2:
        raise ValueError(f"n_draws must be at least 2, got {n_draws}")
    generator = torch.Generator().manual_seed(row.seed)
    results = []
    for name, model, test in row.models(n_seeds):
        p, points = model.qnn().detach(), []
        exact = network_from(model, p)
        exact_loss, exact_accuracy = test(exact)
        for n_shots in shots:
            draws = [sample_frequencies(p, n_shots, generator) for _ in range(n_draws)]
            networks = [network_from(model, draw) for draw in draws]
            losses, accuracies = zip(*map(test, networks), strict=True)
            weights = torch.stack([_flat(network) for network in networks])
            squared_bias, variance = squared_bias_and_variance(weights, _flat(exact))
            found = {"accuracies": list(accuracies), "losses": list(losses)}
            found["infidelity"] = sum(infidelity(p, draw) for draw in draws) / n_draws
            found |= {"weight_squared_bias": squared_bias, "weight_variance": variance}
            points.append({"n_shots": n_shots, **found})
        found = {"exact_accuracy": exact_accuracy, "exact_loss": exact_loss, "points": points}
        results.append({"record": name, "n_qubits": model.n_qubits, **found})
    return results


STUDY = Study("shots", accuracy_against_shots)


def _flat(network: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach().double()


def squared_bias_and_variance(draws: Tensor, exact: Tensor) -> tuple[float, float]:
    """Return squared bias and variance, means over all weights in units of their exact variance.

    The squared bias is an unbiased estimate: the scatter of a mean over few draws is subtracted, so
    that it can be negative.

    Args:
        draws: shape (draws, M).
        exact: shape (M,).
    """
    variance = draws.var(dim=0).mean()
    bias = (draws.mean(dim=0) - exact).square().mean() - variance / len(draws)
    return (bias / exact.var()).item(), (variance / exact.var()).item()


def paper_shots(n_qubits: int, epsilon: float) -> float:
    """Return the paper's number of shots, 2^N/epsilon ln(2^N/epsilon) (its Sec. V).

    It is an order of magnitude: the paper gives no constant in front, and here it is 1.

    Args:
        n_qubits: N.
        epsilon: infidelity, above 0 and at most 1.

    Raises:
        ValueError: if ``epsilon`` is out of range.

    Example:
        >>> f"{paper_shots(13, 0.01):.1e}"
        '1.1e+07'
    """
    if not 0 < epsilon <= 1:
        raise ValueError(f"epsilon must be above 0 and at most 1, got {epsilon}")
    return 2**n_qubits / epsilon * math.log(2**n_qubits / epsilon)


def shots_needed(
    shots: Sequence[int], accuracies: Sequence[float], exact: float, tolerance: float = 0.01
) -> float | None:
    """Return the S from which on the accuracy stays within ``tolerance`` of the exact one.

    Between two measured values, it interpolates linearly in log2 S.

    Args:
        shots: values of S, rising.
        accuracies: mean accuracy at each, in [0, 1].
        exact: accuracy with exact probabilities.
        tolerance: as a fraction: 0.01 is one percentage point.

    Returns:
        S; the first one if every accuracy is within tolerance, None if the last one is not.

    Example:
        >>> round(shots_needed([256, 1024, 4096], [0.5, 0.88, 0.90], exact=0.90))
        2048
    """
    wanted = exact - tolerance
    reached = len(shots)
    while reached > 0 and accuracies[reached - 1] >= wanted:
        reached -= 1
    if reached == len(shots):
        return None
    if reached == 0:
        return float(shots[0])
    low, high = accuracies[reached - 1], accuracies[reached]
    part = (wanted - low) / (high - low)
    return shots[reached - 1] * (shots[reached] / shots[reached - 1]) ** part
