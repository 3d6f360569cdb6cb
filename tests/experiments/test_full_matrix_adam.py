import copy

import torch
from refusals import refused
from torch import nn

from qtlite.experiments.train.full_matrix_adam import FullMatrixAdam


def run(optimiser, parameters, loss, n_steps):
    for _ in range(n_steps):
        optimiser.zero_grad()
        loss(*parameters).backward()
        optimiser.step()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def turned_valley(angle):
    """A quadratic with curvatures 1 and 1e-4 along axes turned by ``angle``."""
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    matrix = turn @ torch.diag(torch.tensor([1.0, 1e-4], dtype=torch.float64)) @ turn.T
    return lambda x: x @ matrix @ x / 2


def test_it_is_adam_until_the_basis_is_first_renewed():
    start = torch.randn(4, 3, dtype=torch.float64)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    run(FullMatrixAdam([ours], 0.01, refresh_every=50), [ours], lambda x: x.pow(4).sum(), 24)
    run(torch.optim.Adam([theirs], 0.01), [theirs], lambda x: x.pow(4).sum(), 24)
    torch.testing.assert_close(ours, theirs)


def test_basis_and_moments_are_those_of_the_gradients_seen():
    torch.manual_seed(0)
    gradients = torch.randn(30, 5, dtype=torch.float64)
    x = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optimiser = FullMatrixAdam([x], 1e-3, refresh_every=10)
    for gradient in gradients:
        x.grad = gradient.clone()
        optimiser.step()
    state = optimiser.state[x]
    weights = 0.01 * 0.99 ** torch.arange(29, -1, -1, dtype=torch.float64)
    matrix = torch.einsum("t,ti,tj->ij", weights, gradients, gradients)
    torch.testing.assert_close(state["matrix"], matrix)
    basis = state["basis"]
    torch.testing.assert_close(basis @ basis.T, torch.eye(5, dtype=torch.float64))
    off_diagonal = basis.T @ matrix @ basis
    off_diagonal.fill_diagonal_(0)
    assert off_diagonal.abs().max() < 1e-12
    momentum = 0.1 * 0.9 ** torch.arange(29, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(basis @ state["first_moment"], momentum @ gradients)


def test_turned_axes_make_no_difference():
    """Adam depends on the axes; this does not, if the basis is renewed from the first step on."""
    loss = turned_valley(torch.tensor(0.6, dtype=torch.float64))
    turn = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64, generator=seeded(3))).Q
    start = torch.tensor([4.0, 1.0], dtype=torch.float64)
    straight, turned = nn.Parameter(start.clone()), nn.Parameter(turn.T @ start)
    run(FullMatrixAdam([straight], 0.05, refresh_every=1), [straight], loss, 30)
    run(FullMatrixAdam([turned], 0.05, refresh_every=1), [turned], lambda x: loss(turn @ x), 30)
    torch.testing.assert_close(turn @ turned, straight, rtol=1e-5, atol=1e-5)


def test_several_tensors_are_one_vector():
    loss = turned_valley(torch.tensor(0.6, dtype=torch.float64))
    whole = nn.Parameter(torch.tensor([4.0, 1.0], dtype=torch.float64))
    parts = [nn.Parameter(torch.tensor([value], dtype=torch.float64)) for value in (4.0, 1.0)]
    run(FullMatrixAdam([whole], 0.05), [whole], loss, 60)
    run(FullMatrixAdam(parts, 0.05), parts, lambda a, b: loss(torch.cat([a, b])), 60)
    torch.testing.assert_close(torch.cat(parts), whole)


def test_state_goes_through_a_checkpoint(tmp_path):
    whole, resumed = (nn.Parameter(torch.tensor([4.0, 1.0], dtype=torch.float64)) for _ in range(2))
    loss = turned_valley(torch.tensor(0.6, dtype=torch.float64))
    run(FullMatrixAdam([whole], 0.05, refresh_every=7), [whole], loss, 40)
    first = FullMatrixAdam([resumed], 0.05, refresh_every=7)
    run(first, [resumed], loss, 17)
    torch.save(copy.deepcopy(first.state_dict()), tmp_path / "state.pt")
    again = FullMatrixAdam([resumed], 0.05, refresh_every=7)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    run(again, [resumed], loss, 23)
    assert torch.equal(whole, resumed)


def test_bad_options():
    two, lr = [nn.Parameter(torch.zeros(2))], 1.0
    for options, message in (
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"lr": lr, "eps": -1.0}, "eps must be positive, got -1.0"),
        ({"lr": lr, "refresh_every": 0}, "refresh_every must be at least 1, got 0"),
    ):
        refused(message, FullMatrixAdam, two, **options)
    for wrong in ([], [nn.Parameter(torch.zeros(4097))]):
        refused("parameters must hold between 1 and 4096 .*, got", FullMatrixAdam, wrong, lr)
    message = "parameters must all be given at construction"
    refused(message, FullMatrixAdam(two, lr).add_param_group, {"params": two})


def test_parameter_without_a_gradient_stays():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    run(FullMatrixAdam([used, unused], 0.1, refresh_every=2), [used], lambda x: x.sum(), 5)
    assert torch.equal(unused, torch.ones(2))
    assert (used < 1).all()
