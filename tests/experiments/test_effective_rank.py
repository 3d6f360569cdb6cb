import torch
from torch import nn

from qtlite import MappingNet, QuantumTrain
from qtlite.experiments.models.build import build_model
from qtlite.experiments.models.controls import HashedWeights, RandomSubspace, StoredWeights
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.studies.effective_rank import effective_rank, singular_values
from qtlite.mapping import qubits_needed


def toy(n_inputs=9):
    torch.manual_seed(0)
    return nn.Linear(n_inputs, 5)


def by_autograd(model):
    """Singular values of the Jacobian, one backward pass a weight."""
    model = model.double()
    flat = torch.cat([weight.flatten() for weight in model.weights().values()])
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = [torch.autograd.grad(weight, parameters, retain_graph=True) for weight in flat]
    matrix = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    return torch.linalg.svdvals(matrix)


def test_singular_values_are_those_of_autograd():
    for target in (toy(), toy(90)):  # fewer weights than parameters, and more
        n_qubits = qubits_needed(sum(p.numel() for p in target.parameters()))
        model = QuantumTrain(target, 2, mapping=MappingNet(n_qubits, (2, 4)))
        found, expected = singular_values(model), by_autograd(model)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_singular_values_of_random_directions_are_the_matrixs_own():
    model = RandomSubspace(toy(60), 7, normalisation="none")
    expected = torch.linalg.svdvals(model._directions.double())
    torch.testing.assert_close(singular_values(model), expected, rtol=1e-6, atol=1e-9)
    assert effective_rank(model) == 7
    model._directions[:, 3] = model._directions[:, 2]  # two parameters, one direction
    assert effective_rank(model) == 6


def test_hashed_values_move_disjoint_weights():
    model = HashedWeights(toy(60), 7, normalisation="none")
    counts = torch.bincount(model._reader, minlength=7).double()
    expected = counts.sqrt().sort(descending=True).values
    torch.testing.assert_close(singular_values(model), expected, rtol=1e-6, atol=1e-9)


def test_standardised_rows_cannot_shift_or_grow():
    assert effective_rank(StoredWeights(toy(), normalisation="tensor")) == 50
    # five rows of nine lose two directions each
    assert effective_rank(StoredWeights(toy(), normalisation="row")) == 40


def test_model_is_left_as_it_is():
    model = QuantumTrain(toy(), 2)
    before = [p.clone() for p in model.parameters()]
    singular_values(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_authors_mapping_net_is_affine():
    """249 parameters, yet one slope for each of 14 inputs; centring takes the constant away."""
    model = build_model(recipe_config("released", "mnist"))
    model.qnn.requires_grad_(False)
    assert model.n_trainable == 249
    assert effective_rank(model) == 14
