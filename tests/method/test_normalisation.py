import pytest
import torch
from refusals import refused
from torch import nn

from qtlite.normalisation import normalise_weights, weight_scales


def normalised(layer, weights, scheme="row"):
    return normalise_weights(weights, weight_scales(layer, weights, weight_gain=1), scheme)


def test_row_standardisation_of_every_output_channel():
    weights = {"weight": 3 + 5 * torch.randn(4, 3, 3, 3), "bias": torch.ones(4)}
    normal = normalised(nn.Conv2d(6, 4, 3, groups=2), weights)
    rows, fan_in = normal["weight"].flatten(1), 27
    assert torch.allclose(rows.mean(dim=1), torch.zeros(4), atol=1e-6)
    assert torch.allclose(rows.std(dim=1, correction=0), torch.full((4,), fan_in**-0.5), atol=1e-6)
    assert normal["bias"].tolist() == pytest.approx([0.5 * fan_in**-0.5] * 4)


def test_tensor_scheme_scales_alone_and_none_leaves_all():
    layer, weights = nn.Linear(16, 2), {"weight": torch.randn(2, 16)}
    assert torch.equal(normalised(layer, weights, "tensor")["weight"], weights["weight"] / 4)
    assert normalised(layer, weights, "none")["weight"] is weights["weight"]


def test_gain_of_a_normalisation_layer_stays_around_one():
    normal = normalised(nn.BatchNorm1d(25), {"weight": torch.ones(25), "bias": torch.ones(25)})
    assert normal["weight"].tolist() == pytest.approx([1.1] * 25)
    assert normal["bias"].tolist() == pytest.approx([0.1] * 25)


@pytest.mark.parametrize("fan_in", [1, 7])
def test_short_rows_are_scaled_alone(fan_in):
    weights = {"weight": torch.randn(3, fan_in), "bias": torch.ones(3)}
    normal = normalised(nn.Linear(fan_in, 3), weights)
    torch.testing.assert_close(normal["weight"], weights["weight"] * fan_in**-0.5)
    torch.testing.assert_close(normal["bias"], torch.full((3,), 0.5 * fan_in**-0.5))


def test_constant_rows_give_finite_gradients():
    weights = torch.ones(2, 9, requires_grad=True)
    normalised(nn.Linear(9, 2), {"weight": weights})["weight"][:, 0].sum().backward()
    assert weights.grad.isfinite().all()


def test_default_gain_is_hes_for_relu():
    scales = weight_scales(nn.Linear(8, 2), ["weight"])
    assert scales["weight"].scale == pytest.approx((2 / 8) ** 0.5)


def test_bad_input():
    refused("scheme must be one of .*, got 'column'", normalise_weights, {}, {}, "column")
    gain = "weight_gain must be a number from 1e-06 to 1e.06, got 0"
    refused(gain, weight_scales, nn.Linear(2, 2), ["weight"], weight_gain=0)
