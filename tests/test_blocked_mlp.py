import numpy as np
import pytest
import torch
from torch import nn

from qtlite import blocked_mlp as module
from qtlite.blocked_mlp import blocked_mlp
from qtlite.fast_tanh import tanh_
from qtlite.mapping import MappingNet


def results(function, net, inputs, weights):
    """Outputs, and gradients of their weighted sum with respect to inputs and parameters."""
    inputs = inputs.detach().requires_grad_()
    outputs = function(inputs)
    gradients = torch.autograd.grad((weights * outputs).sum(), [inputs, *net.parameters()])
    return [outputs.detach(), *gradients]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("activation", ["none", "first", "all"])
@pytest.mark.parametrize(("n_rows", "block_numbers"), [(1, 2**19), (1000, 2**19), (1001, 9000)])
def test_values_and_gradients_are_those_of_the_plain_net(
    monkeypatch, n_rows, block_numbers, activation, dtype, tolerance
):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", block_numbers)
    torch.manual_seed(0)
    net = MappingNet(14, (4, 20, 4), activation=activation).to(dtype)
    inputs, weights = torch.randn(n_rows, 14, dtype=dtype), torch.randn(n_rows, dtype=dtype)
    plain = results(net, net, inputs, weights)
    blocked = results(lambda x: blocked_mlp(net.layers, x), net, inputs, weights)
    for ours, theirs in zip(blocked, plain, strict=True):
        scale = theirs.abs().max()
        assert (ours - theirs).abs().max() <= tolerance * scale


def test_transposed_inputs_give_the_same():
    net, inputs = MappingNet(5, (3,)), torch.randn(5, 40)
    torch.testing.assert_close(
        blocked_mlp(net.layers, inputs.T), blocked_mlp(net.layers, inputs.T.contiguous())
    )


def test_gradients_against_finite_differences(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 60)
    net = MappingNet(3, (4, 2), activation="all").double()
    inputs = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: blocked_mlp(net.layers, x), inputs)


def test_two_calls_before_one_backward_do_not_share_tables():
    net, first, second = MappingNet(3, (4,)), torch.randn(6, 3), torch.randn(6, 3)
    parameters = list(net.parameters())
    together = blocked_mlp(net.layers, first).sum() + 2 * blocked_mlp(net.layers, second).sum()
    apart = net(first).sum() + 2 * net(second).sum()
    for ours, theirs in zip(
        torch.autograd.grad(together, parameters),
        torch.autograd.grad(apart, parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(2, 1), nn.ReLU()),
        nn.Sequential(nn.Tanh(), nn.Linear(2, 1)),
        nn.Sequential(nn.Linear(2, 1, bias=False)),
    ],
)
def test_other_layers_are_refused(net):
    with pytest.raises(
        ValueError, match="net must be Linear layers, each with at most a Tanh, got"
    ):
        blocked_mlp(net, torch.zeros(1, 2))


def test_fast_tanh_is_tanh():
    values = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([1e-30, 1e30, -1e30])])
    exact = np.tanh(values.double().numpy())
    fast = tanh_(values.clone()).double().numpy()
    assert np.abs(fast - exact).max() < 2e-7


def test_fast_tanh_passes_nan_and_infinities():
    fast = tanh_(torch.tensor([float("nan"), float("inf"), float("-inf")]))
    assert fast[0].isnan()
    assert fast[1:].tolist() == [1, -1]


def test_strided_and_double_go_another_way_to_the_same():
    values = torch.randn(8, 6)
    torch.testing.assert_close(tanh_(values.clone()[:, :3]), values[:, :3].tanh())
    assert torch.equal(tanh_(values.double()), values.double().tanh())


def test_more_outputs_and_no_inputs_are_refused():
    with pytest.raises(ValueError, match="net must end in a Linear layer with one output"):
        blocked_mlp(nn.Sequential(nn.Linear(2, 2)), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"inputs must have shape .*, got \(0, 2\)"):
        blocked_mlp(nn.Sequential(nn.Linear(2, 1)), torch.zeros(0, 2))
