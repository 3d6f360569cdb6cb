import torch
from torch import nn

from qtlite import QuantumTrain
from qtlite.experiments.config import recipe_config
from qtlite.experiments.controls import RandomSubspace, StoredWeights
from qtlite.experiments.effective_rank import effective_rank, singular_values
from qtlite.experiments.training import build_model


def toy(n_inputs=9):
    torch.manual_seed(0)
    return nn.Linear(n_inputs, 5)


def test_singular_values_are_those_of_finite_differences():
    model = QuantumTrain(toy(), 2, hidden=(2,), normalisation="tensor").double()

    @torch.no_grad()
    def theta():
        return torch.cat([weight.flatten() for weight in model.weights().values()])

    columns = []
    for parameter in model.parameters():
        flat = parameter.data.view(-1)
        for i in range(len(flat)):
            start = flat[i].item()
            flat[i] = start + 1e-6
            above = theta()
            flat[i] = start - 1e-6
            columns.append((above - theta()) / 2e-6)
            flat[i] = start
    expected = torch.linalg.svdvals(torch.stack(columns, dim=1))
    torch.testing.assert_close(singular_values(model), expected, rtol=1e-4, atol=1e-8)


def test_random_rows_keep_the_rank():
    """More weights than parameters: the matrix is not built whole."""
    model = RandomSubspace(toy(60), 7, normalisation="none")
    assert len(singular_values(model)) == 7
    assert effective_rank(model) == 7
    model._directions[:, 3] = model._directions[:, 2]  # two parameters, one direction
    assert effective_rank(model) == 6


def test_standardised_rows_cannot_shift_or_grow():
    assert effective_rank(StoredWeights(toy(), normalisation="tensor")) == 50
    # five rows of nine lose two directions each
    assert effective_rank(StoredWeights(toy(), normalisation="row")) == 40


def test_the_authors_mapping_net_is_affine():
    """249 parameters, yet one slope for each of 14 inputs; centring takes the constant away."""
    model = build_model(recipe_config("released", "mnist"))
    model.qnn.requires_grad_(False)
    assert model.n_trainable == 249
    assert effective_rank(model) == 14
