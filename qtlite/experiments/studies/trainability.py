"""Gradient variance before training, against qubits N, blocks L and the range of the angles.

Where it shrinks exponentially with N, the circuit has a barren plateau (McClean et al. 2018).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qtlite.experiments.data.loading import load_dataset, to_float
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.studies.study import Study
from qtlite.mapping import MappingNet, qubits_needed
from qtlite.qnn import QNN
from qtlite.quantum_train import QuantumTrain


def derivative_variance(
    n_qubits: int, n_blocks: int, angle_range: float, n_draws: int, generator: torch.Generator
) -> tuple[float, float]:
    """Return the mean of (dp_i / dangle)**2 over all basis states i, all angles and random starts.

    It is the variance if angles are uniform in +-pi: every derivative then has mean 0, since half
    a turn of the angle changes its sign. One backward pass for each start gives all angles at once:
    with random signs v_i, the mean of (sum_i v_i dp_i)**2 over v is the sum over all i.

    Args:
        n_qubits: N.
        n_blocks: L.
        angle_range: angles are drawn uniform in +-angle_range, radians.
        n_draws: starts, at least 2.
        generator: source of starts and signs.

    Returns:
        The mean and its standard error, rad**-2.

    Raises:
        ValueError: if ``n_draws`` is below 2.

    Example:
        >>> generator = torch.Generator().manual_seed(0)  # one qubit: -sin(angle)/2, its mean
        >>> mean, error = derivative_variance(1, 1, torch.pi, 1000, generator)  # square is 1/8
        >>> abs(mean - 1 / 8) < 4 * error
        True
    """

    def mean_square() -> Tensor:
        qnn = QNN(n_qubits, n_blocks, angle_range=angle_range, generator=generator).double()
        signs = torch.randint(0, 2, (2**n_qubits,), generator=generator) * 2.0 - 1
        (gradient,) = torch.autograd.grad(qnn() @ signs.double(), qnn.angles)
        return gradient.square().mean() / 2**n_qubits

    return _mean_and_error(mean_square, n_draws)


def _mean_and_error(draw: Callable[[], Tensor], n_draws: int) -> tuple[float, float]:
    if n_draws < 2:
        raise ValueError(f"n_draws must be at least 2, got {n_draws}")
    values = torch.stack([draw().double() for _ in range(n_draws)])
    return values.mean().item(), (values.std() / math.sqrt(n_draws)).item()


def random_state_variance(n_qubits: int) -> float:
    """Return ``derivative_variance`` of Haar-random real states: 1 / (d (d + 2)) with d = 2**N.

    dp_i / dangle = 2 psi_i dpsi_i, where dpsi_i is, up to sign, half of another amplitude. For a
    real vector uniform on the sphere, the mean of psi_i**2 psi_j**2 is 1 / (d (d + 2)).

    Example:
        >>> random_state_variance(1)
        0.125
    """
    n_states = 2**n_qubits
    return 1 / (n_states * (n_states + 2))


def loss_gradient_variance(
    target: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    n_blocks: int,
    n_draws: int,
    generator: torch.Generator,
    *,
    feature: str = "scaled",
    angle_range: float = torch.pi,
) -> tuple[float, float]:
    """Return the mean of (dloss / dangle)**2 of untrained ``QuantumTrain``s over angles and starts.

    Args:
        target: whose weights are generated.
        inputs: shape (n, ...).
        labels: shape (n,).
        n_blocks: L.
        n_draws: starts of angles and mapping net, at least 2.
        generator: source of the starts.
        feature: what the mapping net sees of p, see ``QuantumTrain``.
        angle_range: angles are drawn uniform in +-angle_range, radians.

    Returns:
        The mean and its standard error, nat**2 rad**-2.

    Raises:
        ValueError: if ``n_draws`` is below 2.
    """
    n_qubits = qubits_needed(sum(parameter.numel() for parameter in target.parameters()))

    def mean_square() -> Tensor:
        qnn = QNN(n_qubits, n_blocks, angle_range=angle_range, generator=generator)
        net = MappingNet(n_qubits, generator=generator)
        model = QuantumTrain(target, qnn=qnn, mapping=net, feature=feature)
        loss = F.cross_entropy(model(inputs), labels)
        (gradient,) = torch.autograd.grad(loss, model.qnn.angles)
        return gradient.double().square().mean()

    return _mean_and_error(mean_square, n_draws)


def classifier_of_size(n_qubits: int) -> nn.Sequential:
    """Return a network for 28 x 28 images and ten classes with nearly 2**N weights.

    It pools to 7 x 7 pixels and has one hidden layer of h ReLU units, hence 60 h + 10 weights, with
    the largest h for 2**N.

    Args:
        n_qubits: N, 7 to 30.

    Raises:
        ValueError: if ``n_qubits`` is out of range.

    Example:
        >>> sum(p.numel() for p in classifier_of_size(13).parameters())
        8170
    """
    if n_qubits not in range(7, 31):
        raise ValueError(f"n_qubits must be an integer from 7 to 30, got {n_qubits}")
    width = (2**n_qubits - 10) // 60
    layers = [nn.Linear(49, width), nn.ReLU(), nn.Linear(width, 10)]
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), *layers)


@dataclass(frozen=True)
class Line:
    """A fitted line: intercept, slope, and the 95 % confidence interval of the slope."""

    slope: float
    intercept: float
    low: float
    high: float


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Fit a line by least squares; the slope's interval is Student's.

    Args:
        x, y: finite, shape (n,), with at least 3 different x.

    Raises:
        ValueError: if there are fewer, the lengths differ, or a coordinate is not finite.

    Example:
        >>> line = fit_line([0, 1, 2, 3], [0.0, 2.1, 3.9, 6.0])
        >>> round(line.slope, 2), line.low < 2 < line.high
        (1.98, True)
    """
    from scipy.stats import linregress, t  # here: it takes a second

    if len(set(x)) < 3:
        raise ValueError(f"x must have at least 3 different values, got {list(x)}")
    if len(x) != len(y):
        raise ValueError(f"x and y must have one length, got {len(x)} and {len(y)}")
    if not np.isfinite([x, y]).all():
        raise ValueError(f"x and y must be finite, got {list(x)} and {list(y)}")
    fitted = linregress(x, y)
    slope, half = float(fitted.slope), float(t.ppf(0.975, len(x) - 2) * fitted.stderr)
    return Line(slope, float(fitted.intercept), slope - half, slope + half)


def gradient_variances(
    qubits: Sequence[int] = tuple(range(2, 15)),
    blocks: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128),
    ranges: Sequence[float] = (math.pi, 0.1),
    n_draws: int = 200,
    loss_qubits: Sequence[int] = tuple(range(7, 15)),
    loss_blocks: Sequence[int] = (1, 4, 16, 61, 121),
    loss_draws: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure derivatives of p, then of the loss of untrained models, on a grid of settings.

    Args:
        qubits, blocks: N and L for p.
        ranges: of the angles, radians.
        n_draws, loss_draws: random starts of each setting, for p and for the loss.
        loss_qubits: N of ``classifier_of_size`` with 16 blocks.
        loss_blocks: L of the paper's CNN with 13 qubits.
        seed: of all starts.

    Returns:
        ``probabilities`` and ``losses``: for each setting its ``variance`` and standard ``error``.
    """
    generator = torch.Generator().manual_seed(seed)
    probabilities = []
    for angle_range, n_blocks, n_qubits in product(ranges, blocks, qubits):
        found = derivative_variance(n_qubits, n_blocks, angle_range, n_draws, generator)
        row = {"n_qubits": n_qubits, "n_blocks": n_blocks, "angle_range": angle_range}
        probabilities.append(row | dict(zip(("variance", "error"), found, strict=True)))
    digits = load_dataset("digits")
    images = to_float(digits.train_images[:256]), digits.train_labels[:256]
    targets = [("mlp", n, 16, classifier_of_size(n)) for n in loss_qubits]
    targets += [("cnn", 13, n_blocks, paper_cnn("digits")) for n_blocks in loss_blocks]
    losses = []
    for target, feature, angle_range in product(targets, ("raw", "scaled"), ranges):
        name, n_qubits, n_blocks, network = target
        start = {"feature": feature, "angle_range": angle_range}
        found = loss_gradient_variance(network, *images, n_blocks, loss_draws, generator, **start)
        row = {"n_qubits": n_qubits, "n_blocks": n_blocks, "target": name, **start}
        losses.append(row | dict(zip(("variance", "error"), found, strict=True)))
    return {"probabilities": probabilities, "losses": losses}


STUDY = Study("trainability", gradient_variances)
