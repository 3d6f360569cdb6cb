"""The generalization error of recorded runs, and how it falls with the number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qtlite.experiments.studies.trainability import fit_line


def generalization_error(record: Mapping[str, Any]) -> float:
    """Test loss minus training loss of the trained network, nats (Eq. 6 of the paper).

    Means over all test and all training images, by the same network, after the last step.

    Example:
        >>> generalization_error({"test_loss": 0.5, "train_loss": 0.25})
        0.25
    """
    return record["test_loss"] - record["train_loss"]


def error_at_training_loss(record: Mapping[str, Any], level: float) -> float | None:
    """Test loss minus training loss at the epoch that first reaches a training loss, nats.

    A run that is stopped early has a small error whatever its model; at equal training loss, models
    can be compared. The history's training loss is the mean over an epoch, while the network still
    changes, so that this is usually larger than the loss at the epoch's end.

    Args:
        record: of a run.
        level: training loss to reach, nats.

    Returns:
        None if no epoch reaches it.

    Example:
        >>> history = [{"train_loss": 1.0, "test_loss": 0.9}, {"train_loss": 0.4, "test_loss": 0.5}]
        >>> round(error_at_training_loss({"history": history}, 0.5), 3)
        0.1
    """
    for epoch in record["history"]:
        if epoch["train_loss"] <= level:
            return epoch["test_loss"] - epoch["train_loss"]
    return None


@dataclass(frozen=True)
class PowerLaw:
    """gen = factor * x**exponent, with the exponent's confidence interval."""

    factor: float
    exponent: float
    low: float
    high: float


def fit_power_law(
    x: Sequence[float], errors: Sequence[float], confidence: float = 0.95
) -> PowerLaw:
    """Fit gen = c x^k by least squares on logarithms.

    With x = N_t/n, the bound of Caro et al. 2022 has k = 1/2. The interval is Student's, as if
    points scattered alike about the line: seeds count as points.

    Args:
        x: positive, shape (points,), at least three different ones.
        errors: positive generalization errors, shape (points,).
        confidence: of the interval.

    Raises:
        ValueError: if there are too few points, or one is not positive.

    Example:
        >>> law = fit_power_law([1, 2, 4, 8], [3.0, 6.0, 12.0, 24.0])
        >>> round(law.factor, 6), round(law.exponent, 6)
        (3.0, 1.0)
    """
    x, errors = np.asarray(x, dtype=float), np.asarray(errors, dtype=float)
    if x.shape != errors.shape or len(np.unique(x)) < 3:
        raise ValueError(
            f"x must hold at least three different values, one for each error, got {x.tolist()}"
        )
    for name, values in (("x", x), ("errors", errors)):
        if not (values > 0).all():
            raise ValueError(f"{name} must be positive, got {values.min()}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    line = fit_line(np.log(x), np.log(errors), confidence)
    return PowerLaw(float(np.exp(line.intercept)), line.slope, line.low, line.high)
