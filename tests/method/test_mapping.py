import pytest
import torch
from torch import nn

from qtlite.mapping import MappingNet, basis_bits, mapping_inputs, probability_feature


def test_rows_are_bits_then_probability_as_in_equation_2():
    probabilities = torch.zeros(2**7)
    probabilities[0b0100100] = 0.023
    row = mapping_inputs(probabilities, n_weights=128)[0b0100100]
    assert row.tolist() == pytest.approx([0, 1, 0, 0, 1, 0, 0, 0.023])


def test_bits_count_up_in_binary():
    bits = basis_bits(5, 32)
    assert [int("".join(str(int(b)) for b in row), 2) for row in bits] == list(range(32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_keep_the_probabilities_type_and_gradient(dtype):
    probabilities = torch.full((8,), 1 / 8, dtype=dtype, requires_grad=True)
    inputs = mapping_inputs(probabilities, 5, "scaled", (-1, 1))
    assert inputs.dtype == dtype
    assert inputs.shape == (5, 4)
    inputs[:, -1].sum().backward()
    assert probabilities.grad.tolist() == [8] * 5 + [0] * 3


def test_released_feature_is_the_authors_formula_and_safe_at_zero():
    probabilities = torch.tensor([0.0, 0.01, 0.2, 0.79], dtype=torch.float64, requires_grad=True)
    feature = probability_feature(probabilities, "released")
    expected = (0.8 * torch.tanh(0.1 * 2 ** (2 - 1) * probabilities)) ** 0.3
    assert torch.allclose(feature[1:], expected[1:], atol=1e-14)
    feature.sum().backward()
    assert probabilities.grad.isfinite().all()


@pytest.mark.parametrize(
    ("n_inputs", "hidden", "count"), [(14, (4, 20, 4), 249), (20, (40, 200, 40), 17121)]
)
def test_sizes_of_the_paper(n_inputs, hidden, count):
    assert sum(p.numel() for p in MappingNet(n_inputs, hidden).parameters()) == count


@pytest.mark.parametrize(("activation", "n_tanh"), [("none", 0), ("first", 1), ("all", 3)])
def test_activations(activation, n_tanh):
    net = MappingNet(4, (3, 3, 3), activation=activation)
    assert sum(isinstance(layer, nn.Tanh) for layer in net.layers) == n_tanh
    assert isinstance(net.layers[-1], nn.Linear)


def test_without_activation_the_net_is_affine():
    net = MappingNet(4, (3, 5), activation="none").double()
    a, b = torch.randn(2, 6, 4, dtype=torch.float64)
    assert torch.allclose(net((a + b) / 2), (net(a) + net(b)) / 2, atol=1e-12)


def test_standardised_output_starts_with_mean_0_and_sd_1():
    net, inputs = MappingNet(9, (4, 8), activation="all"), torch.randn(500, 9)
    net.standardise_output(inputs)
    outputs = net(inputs)
    assert outputs.mean().item() == pytest.approx(0, abs=1e-4)
    assert outputs.std().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("probabilities", "n_weights", "feature", "message"),
    [
        (torch.ones(3), 1, "raw", r"length is a power of two, got shape \(3,\)"),
        (torch.ones(2, 2), 1, "raw", r"one axis .*, got shape \(2, 2\)"),
        (torch.ones(4), 5, "raw", r"n_weights must be between 1 and 2\*\*n_qubits = 4, got 5"),
        (torch.ones(4), 0, "raw", "n_weights must be between 1 and .*, got 0"),
        (torch.ones(4), 1, "log", "feature must be one of .*, got 'log'"),
    ],
)
def test_bad_inputs(probabilities, n_weights, feature, message):
    with pytest.raises(ValueError, match=message):
        mapping_inputs(probabilities, n_weights, feature)


def test_bad_net():
    with pytest.raises(ValueError, match="n_inputs must be at least 1, got 0"):
        MappingNet(0)
    with pytest.raises(ValueError, match=r"hidden must hold widths of at least 1, got \(4, 0\)"):
        MappingNet(3, (4, 0))
    with pytest.raises(ValueError, match="activation must be one of .*, got 'relu'"):
        MappingNet(3, activation="relu")


def test_bits_of_more_states_than_there_are():
    with pytest.raises(ValueError, match="n_states must be between 1 and 4, got 5"):
        basis_bits(2, 5)
