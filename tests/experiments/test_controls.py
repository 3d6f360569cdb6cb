"""Each control, put together a second time by hand on a toy size."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn import functional as F

from qtlite import QNN, mapping_inputs
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.controls import ALL_CONTROLS, PROBABILITY_CONTROLS
from qtlite.experiments.models.build import build_model
from qtlite.experiments.models.controls import (
    BitsToWeights,
    HashedWeights,
    RandomSubspace,
    StoredWeights,
    build_control,
    mlp_widths,
    small_cnn,
)
from qtlite.experiments.models.sources import (
    FrozenNoise,
    MatrixProductState,
    Shuffled,
    SpreadVector,
)
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.recipes import recipe_config


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def toy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 2))


def by_hand(flat, x, gain=2**0.5):
    """The toy network with 50 weights, rows of 9 standardised, everything scaled as documented."""
    first, first_bias, second, second_bias = flat.split([36, 4, 8, 2])
    rows = first.view(4, 9)
    rows = (rows - rows.mean(1, keepdim=True)) / rows.std(1, correction=0, keepdim=True)
    hidden = F.relu(x @ (rows * gain / 3).T + first_bias * gain / 6)
    return hidden @ (second.view(2, 4) * gain / 2).T + second_bias * gain / 4


@pytest.mark.parametrize("n_blocks", [16, 61, 121])
@pytest.mark.parametrize("name", ALL_CONTROLS)
def test_as_many_trained_parameters_as_the_qt_row(name, n_blocks):
    control = build_control(name, paper_cnn("mnist"), n_blocks)
    row = build_model(recipe_config("qtlite", "mnist", n_blocks=n_blocks))
    assert control.n_trainable == row.n_trainable == 249 + 13 * n_blocks
    if name != "small_cnn":
        assert control.n_weights == row.n_weights == 6690


@pytest.mark.parametrize("name", ALL_CONTROLS)
def test_every_trained_parameter_gets_a_gradient_and_the_start_depends_on_the_seed_alone(name):
    config = recipe_config("qtlite", "digits", model=name)
    model, again = build_model(config), build_model(config)
    other = build_model(recipe_config("qtlite", "digits", model=name, seed=1))
    x = torch.randn(8, 1, 28, 28)
    assert torch.equal(model(x), again(x))
    assert not torch.equal(model(x), other(x))
    model(x).square().sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == model.n_trainable
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)


def test_random_subspace_is_start_plus_directions_times_z():
    model = RandomSubspace(toy(), 7, generator=seeded())
    draws = seeded()
    start = torch.randn(50, generator=draws)
    directions = torch.randn(50, 7, generator=draws) / 7**0.5
    with torch.no_grad():
        model.z.copy_(torch.arange(7.0) - 3)
    x = torch.randn(5, 9)
    torch.testing.assert_close(model(x), by_hand(start + directions @ model.z.detach(), x))


def test_hashed_weights_share_values_up_to_sign():
    model = HashedWeights(toy(), 7, generator=seeded())
    flat = model.generate().detach()
    assert flat.abs().unique().numel() == 7
    counts = torch.bincount(model._reader, minlength=7)
    assert counts.max() - counts.min() <= 1
    values = model.values.detach()
    explicit = torch.tensor([model._signs[i] * values[model._reader[i]] for i in range(50)])
    x = torch.randn(5, 9)
    torch.testing.assert_close(model(x), by_hand(explicit, x))


def test_stored_weights_are_the_network_itself():
    model = StoredWeights(toy(), generator=seeded())
    x = torch.randn(5, 9)
    torch.testing.assert_close(model(x), by_hand(torch.randn(50, generator=seeded()), x))


def test_bits_to_weights_sees_the_index_alone():
    model = BitsToWeights(toy(), (3, 5, 3), generator=seeded())
    bits = [[2.0 * int(bit) - 1 for bit in format(i, "06b")] for i in range(50)]
    x = torch.randn(5, 9)
    flat = model.layers(torch.tensor(bits)).squeeze(1).detach()
    torch.testing.assert_close(model(x), by_hand(flat, x))
    assert flat.mean().abs() < 1e-5


@pytest.mark.parametrize(
    "name", ["frozen_circuit", "frozen_noise", "trainable_vector", *PROBABILITY_CONTROLS]
)
def test_mapped_sources(name):
    """These keep the mapping net: only the numbers in the probability's place differ."""
    model = build_control(name, toy(), 3, generator=seeded())
    inputs = mapping_inputs(64 * model.qnn()[:50], 6)
    x = torch.randn(5, 9)
    flat = model.mapping.layers(inputs).squeeze(1)
    torch.testing.assert_close(model(x), by_hand(flat, x), rtol=1e-4, atol=1e-5)
    trained = {name for name, p in model.qnn.named_parameters() if p.requires_grad}
    expected = {"shuffled": {"qnn.angles"}, "frozen_circuit": set(), "frozen_noise": set()}
    assert trained == expected.get(name, {"values"})


def test_frozen_noise_is_drawn_once_and_looks_like_a_random_state():
    source = FrozenNoise(2**13, generator=seeded())
    assert source() is source()
    scaled = 2**13 * source()
    assert scaled.mean().item() == pytest.approx(1, abs=1e-4)
    assert scaled.var().item() == pytest.approx(2, rel=0.2)  # chi squared, one degree of freedom


def test_spread_vector_reads_every_value_equally_often():
    source = SpreadVector(3, 8, generator=seeded())
    assert sorted(torch.bincount(source.reader).tolist()) == [2, 3, 3]
    assert torch.equal(
        source(), torch.stack([source.values.detach()[i] / 8 for i in source.reader])
    )


@pytest.mark.parametrize("n_values", [8, 13, 20, 33, 40])
def test_matrix_product_state_is_its_tensors_multiplied_out(n_values):
    """Each amplitude by a loop over bits and matrices, from entries set in the documented order."""
    source = MatrixProductState(4, n_values, generator=seeded()).double()
    tensors = [tensor.detach().numpy() for tensor in source.tensors()]
    assert sum((tensor != 0).sum() for tensor in tensors) == n_values
    assert max(source.bonds) <= 4
    psi = []
    for state in range(16):
        product = np.eye(1)
        for tensor, bit in zip(tensors, format(state, "04b"), strict=True):
            product = product @ tensor[:, int(bit)]
        psi.append(product.item())
    p = np.square(psi) / np.square(psi).sum()
    np.testing.assert_allclose(source().detach().numpy(), p, atol=1e-12)
    # cut after two qubits, a state has no more Schmidt coefficients than the bond between them
    assert np.linalg.matrix_rank(np.reshape(psi, (4, 4)), tol=1e-6) <= source.bonds[2]


def test_shuffled_is_the_circuit_in_another_order():
    qnn = QNN(6, 3, generator=seeded(1))
    source = Shuffled(qnn, generator=seeded())
    order = torch.randperm(64, generator=seeded())
    expected = torch.stack([qnn()[place] for place in order])
    torch.testing.assert_close(source(), expected)
    assert not torch.equal(source(), qnn())


def test_no_entanglement_is_a_product_of_single_qubits():
    model = build_control("no_entanglement", toy(), 3, generator=seeded())
    angles = model.qnn.angles.detach().sum(dim=0)  # rotations about one axis add up
    product = torch.ones(1)
    for angle in angles:
        qubit = torch.stack([(angle / 2).cos() ** 2, (angle / 2).sin() ** 2])
        product = torch.kron(product, qubit)
    torch.testing.assert_close(model.qnn().detach(), product)


def test_one_weight_from_its_bits_is_a_number():
    control = BitsToWeights(nn.Linear(1, 1, bias=False), (4,), generator=seeded())
    assert control.generate().isfinite().all()


@pytest.mark.parametrize("n_weights", [457, 1042, 1822])
def test_small_cnn(n_weights):
    network = small_cnn(n_weights)
    assert sum(p.numel() for p in network.parameters()) == n_weights
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_widths_have_the_size_asked_for():
    widths = mlp_widths(14, 1822, (4, 20, 4))
    layers = [14, *widths, 1]
    assert sum((a + 1) * b for a, b in pairwise(layers)) == 1822


def test_bad_input():
    refused("name must be one of .*, got 'nothing'", build_control, "nothing", toy(), 3)
    refused(r"n_weights must be one of \(457, 1042, 1822\), got 500", small_cnn, 500)
    refused("n_parameters must be the size of a net .*, got 5", mlp_widths, 14, 5, (4, 20, 4))
    refused(r"shape must be three positive widths, got \(4, 4\)", mlp_widths, 14, 457, (4, 4))
    for wrong in (0, 1.5, "2", 10**30):
        message = f"n_blocks must be a whole number from 1 to 10,000, got {wrong!r}"
        refused(message, build_control, "hashed", toy(), wrong)
    for make in (
        lambda n: HashedWeights(toy(), n),
        lambda n: RandomSubspace(toy(), n),
        lambda n: SpreadVector(n, 50),
    ):
        for n_values in (-1, 0, 51):
            message = f"n_values must be between 1 and 50, got {n_values}"
            refused(message, make, n_values)
    for n_values in (7, 41):
        message = f"n_values must be between 8 and 40, got {n_values}"
        refused(message, MatrixProductState, 4, n_values)
    refused("model must be one of .*, got 'noise'", TrainConfig, model="noise")
