"""How large gradients are before training: against qubits N, blocks L and the spread of the start.

Where they shrink like 2**-N or faster, one speaks of a barren plateau (McClean et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qtlite.qnn import QNN
from qtlite.quantum_train import QuantumTrain


def derivative_variance(
    n_qubits: int, n_blocks: int, angle_range: float, n_draws: int, generator: torch.Generator
) -> tuple[float, float]:
    """Mean of (dp_i / dangle)**2 over all basis states i, all angles and random starts.

    For a uniform start every derivative has mean 0 (half a turn of the angle changes its sign), so
    that this is its variance. One backward pass for each start gives all angles at once, and with
    random signs v_i the mean of (sum_i v_i dp_i)**2 over v is the sum over all i.

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
    if n_draws < 2:
        raise ValueError(f"n_draws must be at least 2, got {n_draws}")
    squares = torch.empty(n_draws, dtype=torch.float64)
    for draw in range(n_draws):
        qnn = QNN(n_qubits, n_blocks, angle_range=angle_range, generator=generator).double()
        signs = torch.randint(0, 2, (2**n_qubits,), generator=generator) * 2.0 - 1
        (gradient,) = torch.autograd.grad(qnn() @ signs.double(), qnn.angles)
        squares[draw] = gradient.square().mean() / 2**n_qubits
    return squares.mean().item(), (squares.std() / math.sqrt(n_draws)).item()


def random_state_variance(n_qubits: int) -> float:
    """The same for states of random direction: 1 / (d (d + 2)) with d = 2**N.

    dp_i / dangle = 2 psi_i dpsi_i, and dpsi is psi with its entries paired, swapped and halved. For
    a real vector uniform on the sphere, the mean of psi_i**2 psi_j**2 is 1 / (d (d + 2)).

    Args:
        n_qubits: N.

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
    **options: Any,
) -> tuple[float, float]:
    """Mean of (dloss / dangle)**2 of an untrained ``QuantumTrain`` over angles and starts.

    Args:
        target: whose weights are generated.
        inputs: shape (n, ...).
        labels: shape (n,).
        n_blocks: L.
        n_draws: starts of angles and mapping net, at least 2.
        generator: source of the starts.
        options: of ``QuantumTrain``, such as ``feature`` or ``angle_range``.

    Returns:
        The mean and its standard error, nat**2 rad**-2.

    Raises:
        ValueError: if ``n_draws`` is below 2.
    """
    if n_draws < 2:
        raise ValueError(f"n_draws must be at least 2, got {n_draws}")
    squares = torch.empty(n_draws, dtype=torch.float64)
    for draw in range(n_draws):
        model = QuantumTrain(target, n_blocks, generator=generator, **options)
        loss = F.cross_entropy(model(inputs), labels)
        (gradient,) = torch.autograd.grad(loss, model.qnn.angles)
        squares[draw] = gradient.double().square().mean()
    return squares.mean().item(), (squares.std() / math.sqrt(n_draws)).item()


def classifier_of_size(n_qubits: int) -> nn.Sequential:
    """A network for 28 x 28 images and ten classes with as many weights as N qubits can write.

    Pooled to 7 x 7 pixels, then one hidden layer of h ReLU units: 60 h + 10 weights, h as large as
    2**N allows.

    Args:
        n_qubits: N >= 7.

    Raises:
        ValueError: if ``n_qubits`` is below 7.

    Example:
        >>> sum(p.numel() for p in classifier_of_size(13).parameters())
        8170
    """
    if n_qubits < 7:
        raise ValueError(f"n_qubits must be at least 7, got {n_qubits}")
    width = (2**n_qubits - 10) // 60
    layers = [nn.Linear(49, width), nn.ReLU(), nn.Linear(width, 10)]
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), *layers)


@dataclass(frozen=True)
class Line:
    """y = intercept + slope x, with the confidence interval of the slope."""

    slope: float
    intercept: float
    low: float
    high: float


def fit_line(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Line:
    """Least squares through points; the slope's interval is Student's, from the points' scatter.

    Args:
        x, y: shape (n,), n >= 3.
        confidence: of the interval.

    Raises:
        ValueError: if there are fewer than three points.

    Example:
        >>> line = fit_line([0, 1, 2, 3], [0.0, 2.1, 3.9, 6.0])
        >>> round(line.slope, 2), line.low < 2 < line.high
        (1.98, True)
    """
    from scipy.stats import linregress, t  # here: it takes a second

    if len(x) < 3:
        raise ValueError(f"x must have at least 3 points, got {len(x)}")
    fitted = linregress(x, y)
    half = t.ppf((1 + confidence) / 2, len(x) - 2) * fitted.stderr
    slope, intercept = float(fitted.slope), float(fitted.intercept)
    return Line(slope, intercept, float(slope - half), float(slope + half))
