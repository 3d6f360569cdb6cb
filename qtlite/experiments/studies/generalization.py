"""The generalization error of recorded runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def generalization_error(record: Mapping[str, Any]) -> float:
    """Return test loss minus training loss of the trained network, nats (Eq. 6 of the paper).

    Both are means over all images of the same network, after the last step.

    Example:
        >>> generalization_error({"test_loss": 0.5, "train_loss": 0.25})
        0.25
    """
    return record["test_loss"] - record["train_loss"]


def error_at_training_loss(record: Mapping[str, Any], level: float) -> float | None:
    """Return test loss minus training loss at the first epoch that reaches a training loss, nats.

    At equal training loss, models can be compared: early in training every model has a small error.
    The training loss in the history is the mean over an epoch while the network changes, which is
    usually larger than the loss at the epoch's end.

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
