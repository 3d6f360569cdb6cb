import pytest

from qtlite.experiments.records import error_at_training_loss, generalization_error


def test_error_is_test_minus_training_loss():
    assert generalization_error({"test_loss": 0.3, "train_loss": 0.1}) == pytest.approx(0.2)


def test_error_at_the_first_epoch_that_reaches_the_loss():
    losses = [(1.0, 1.2), (0.5, 0.9), (0.2, 0.9)]
    record = {"history": [{"train_loss": a, "test_loss": b} for a, b in losses]}
    assert error_at_training_loss(record, 0.6) == pytest.approx(0.4)
    assert error_at_training_loss(record, 0.1) is None
