import pytest
import torch
from refusals import refused
from torch import nn

from qtlite.acceleration import plain
from qtlite.mapping import FEATURES, MappingNet, mapping_inputs, root


def test_rows_are_bits_then_probability_as_in_equation_2():
    probabilities = torch.zeros(2**7)
    probabilities[0b0100100] = 0.023
    row = mapping_inputs(probabilities, 7, bit_values=(0, 1))[0b0100100]
    assert row.tolist() == pytest.approx([0, 1, 0, 0, 1, 0, 0, 0.023])
    for first in (0, 3):
        bits = mapping_inputs(torch.ones(32 - first), 5, (0, 1), first)[:, :-1]
        numbers = [int("".join(str(int(b)) for b in row), 2) for row in bits]
        assert numbers == list(range(first, 32))


def test_features():
    p = torch.tensor([0.0, 0.04, 0.36, 0.6], requires_grad=True)
    assert {name: f(p)[1].item() for name, f in FEATURES.items()} == pytest.approx(
        {"raw": 0.04, "scaled": 0.16, "root": 0.4}, abs=1e-5
    )
    root(p).sum().backward()
    assert p.grad.isfinite().all()


@pytest.mark.parametrize(("activation", "n_tanh"), [("none", 0), ("first", 1), ("all", 3)])
def test_activations(activation, n_tanh):
    net = MappingNet(4, (3, 3, 3), activation=activation)
    assert sum(isinstance(layer, nn.Tanh) for layer in net.layers) == n_tanh
    assert isinstance(net.layers[-1], nn.Linear)


def test_plain_rows_in_several_parts_are_the_rows_in_one(monkeypatch):
    monkeypatch.setattr("qtlite.mapping.ROWS", 100)
    net, column = MappingNet(9).double(), torch.rand(450, dtype=torch.float64)
    with plain():
        torch.testing.assert_close(net(column), net.layers(mapping_inputs(column, 9)).flatten())


def test_standardised_output_starts_with_mean_0_and_sd_1():
    net, column = MappingNet(9, (4, 8)), torch.randn(500)
    net.standardise_output(column)
    outputs = net(column)
    assert outputs.mean().item() == pytest.approx(0, abs=1e-4)
    assert outputs.std().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("shape", [(5,), (0,), (2, 2)])
@pytest.mark.parametrize("apply", [lambda c: mapping_inputs(c, 2), MappingNet(2)])
def test_bad_columns(shape, apply):
    refused("column must have shape .R,., R <= 4, got", apply, torch.ones(shape))


def test_bad_nets():
    refused("n_qubits must be a whole number from 1 to .*, got 0", MappingNet, 0)
    refused(r"hidden must be a whole number from 1 to 65,536, got 0", MappingNet, 3, (4, 0))
    refused("hidden must be a sequence of widths, got 5", MappingNet, 3, 5)
    refused("activation must be one of .*, got 'relu'", MappingNet, 3, activation="relu")
    numbers = r"bit_values must be two different numbers from .*, got \(1.0,\)"
    refused(numbers, MappingNet, 3, bit_values=(1.0,))
