import numpy as np
import pytest

from qtlite.experiments.studies.generalization import (
    error_at_training_loss,
    fit_power_law,
    generalization_error,
)


def test_error_is_test_minus_training_loss():
    assert generalization_error({"test_loss": 0.3, "train_loss": 0.1}) == pytest.approx(0.2)


def test_error_at_the_first_epoch_that_reaches_the_loss():
    losses = [(1.0, 1.2), (0.5, 0.9), (0.2, 0.9)]
    record = {"history": [{"train_loss": a, "test_loss": b} for a, b in losses]}
    assert error_at_training_loss(record, 0.6) == pytest.approx(0.4)
    assert error_at_training_loss(record, 0.1) is None


def test_fit_finds_the_law_and_its_interval_covers_it():
    """Of many noisy samples, about 95 in 100 intervals hold the true exponent."""
    random, x = np.random.default_rng(0), np.repeat([1.0, 2.0, 4.0, 8.0], 3)
    covered = 0
    for _ in range(400):
        law = fit_power_law(x, 0.1 * x**0.5 * np.exp(0.2 * random.standard_normal(len(x))))
        covered += law.low <= 0.5 <= law.high
    assert 0.91 <= covered / 400 <= 0.99


def test_fit_agrees_with_polyfit():
    x, errors = np.array([1.0, 3.0, 9.0, 12.0]), np.array([0.1, 0.25, 0.3, 0.6])
    slope, intercept = np.polyfit(np.log(x), np.log(errors), 1)
    law = fit_power_law(x, errors)
    assert law.exponent == pytest.approx(slope)
    assert law.factor == pytest.approx(np.exp(intercept))
    assert law.low < law.exponent < law.high


@pytest.mark.parametrize(
    ("x", "errors", "message"),
    [
        ([1, 2], [1, 1], r"x must hold at least three different values.*, got \[1.0, 2.0\]"),
        ([1, 1, 2], [1, 1, 1], "x must hold at least three different values"),
        ([1, 2, 3], [1, 1], "one for each error"),
        ([0, 1, 2], [1, 1, 1], "x must be positive, got 0.0"),
        ([1, 2, 3], [1, -1, 1], "errors must be positive, got -1.0"),
    ],
)
def test_bad_points(x, errors, message):
    with pytest.raises(ValueError, match=message):
        fit_power_law(x, errors)


def test_bad_confidence():
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 95"):
        fit_power_law([1, 2, 3], [1, 2, 3], confidence=95)
