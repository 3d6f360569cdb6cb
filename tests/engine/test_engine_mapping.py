import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from qtlite.engine import mapping as module
from qtlite.engine.mapping import blocked_mlp
from qtlite.mapping import MappingNet, basis_bits


def plain(net, bits, column):
    return net(torch.cat([bits, column[:, None]], dim=1))


def blocked(net, bits, column):
    return blocked_mlp(net.layers, bits, column)


def results(function, net, bits, column, weights):
    """Outputs, and gradients of their weighted sum with respect to column and parameters."""
    column = column.detach().requires_grad_()
    outputs = function(net, bits, column)
    gradients = torch.autograd.grad((weights * outputs).sum(), [column, *net.parameters()])
    return [outputs.detach(), *gradients]


def assert_same(ours, theirs, tolerance):
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max()


@pytest.fixture
def large(monkeypatch):
    """As for a net whose tables are too large to be stored, worth a thread each."""
    monkeypatch.setattr(module, "FEW_NUMBERS", 0)
    monkeypatch.setattr(module, "PARALLEL_WORK", 0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("activation", ["none", "first", "all"])
@pytest.mark.parametrize("hidden", [(4, 20, 4), (70,), (5, 3), ()])
@pytest.mark.parametrize("n_rows", [1, 448, 1000])
@pytest.mark.parametrize("stored", [True, False])
def test_values_and_gradients_are_those_of_the_plain_net_in_float64(
    n_rows, hidden, activation, dtype, tolerance, stored, request
):
    if not stored:
        request.getfixturevalue("large")
    torch.manual_seed(0)
    net = MappingNet(14, hidden, activation=activation).to(dtype)
    bits = torch.randn(n_rows, 13, dtype=dtype)
    column, weights = torch.randn(2, n_rows, dtype=dtype)
    ours = results(blocked, net, bits, column, weights)
    exact = results(plain, net.double(), bits.double(), column.double(), weights.double())
    assert_same(ours, exact, tolerance)


def test_float32_where_float64_is_the_default():
    net, bits, column = MappingNet(4, (5,)), torch.randn(9, 3), torch.randn(9)
    expected = results(blocked, net, bits, column, torch.ones(9))
    torch.set_default_dtype(torch.float64)
    try:
        found = results(blocked, net, bits, column, torch.ones(9))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, expected))
    assert all(one.dtype == torch.float32 for one in found)


@pytest.mark.parametrize("which", ["column", "weight"])
def test_what_was_changed_before_the_backward_pass_is_noticed(which):
    net, bits, column = MappingNet(4, (5,)), torch.randn(9, 3), torch.randn(9)
    outputs = blocked(net, bits, column)
    with torch.no_grad():
        {"column": column, "weight": net.layers[0].weight}[which].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def test_without_numba_it_is_the_plain_net(monkeypatch):
    net, bits, column = MappingNet(4, (5,)), torch.randn(9, 3), torch.randn(9)
    compiled = blocked(net, bits, column)
    monkeypatch.setattr(module, "can_compile", lambda: False)
    monkeypatch.setattr(module, "_CompiledMLP", None)  # would be an error
    torch.testing.assert_close(blocked(net, bits, column), compiled)


def test_cifars_mapping_net_gives_the_gradients_of_the_plain_net_in_float64():
    torch.manual_seed(0)
    n_weights = 285_226
    net = MappingNet(20, (40, 200, 40), activation="all")
    bits, column = basis_bits(19, n_weights, (-1.0, 1.0)), torch.rand(n_weights)
    weights = torch.randn(n_weights)
    ours = results(blocked, net, bits, column, weights)
    exact = results(plain, net.double(), bits.double(), column.double(), weights.double())
    assert_same(ours, exact, 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_tanh_at_the_end(large, dtype, tolerance):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Tanh()).to(dtype)
    bits, column = torch.randn(2000, 2, dtype=dtype), torch.randn(2000, dtype=dtype)
    inputs = torch.cat([bits, column[:, None]], dim=1)
    parameters = list(net.parameters())
    ours = torch.autograd.grad(blocked_mlp(net, bits, column).sum(), parameters)
    assert_same(ours, torch.autograd.grad(net(inputs).sum(), parameters), tolerance)


def test_two_threads_give_the_same_each_time_and_what_one_gives(large, request):
    net, bits, column, weights = MappingNet(5, (8, 8)), torch.randn(3000, 4), *torch.randn(2, 3000)
    alone = results(blocked, net, bits, column, weights)
    request.getfixturevalue("two_threads")
    first, second = (results(blocked, net, bits, column, weights) for _ in range(2))
    assert all(map(torch.equal, first, second))
    assert_same(first, alone, 1e-5)
    with torch.inference_mode():
        assert torch.equal(blocked(net, bits, column), first[0])


def test_numbers_of_threads_are_left_as_they_were(large, two_threads):
    net = MappingNet(3, (4,))
    blocked(net, torch.randn(5000, 2), torch.randn(5000)).sum().backward()
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


def test_one_thread_starts_no_other(large, one_thread, monkeypatch):
    monkeypatch.setattr(module, "ThreadPoolExecutor", None)
    blocked(MappingNet(3, (4,)), torch.randn(5000, 2), torch.randn(5000)).sum().backward()


@pytest.mark.parametrize("n_rows", [6, 2000])
def test_two_calls_before_one_backward_do_not_share_tables(n_rows, large):
    net, bits = MappingNet(3, (4,)), torch.randn(n_rows, 2)
    first, second, parameters = torch.randn(n_rows), torch.randn(n_rows), list(net.parameters())
    gradients = []
    for function in (blocked, plain):
        sums = function(net, bits, first).sum() + 2 * function(net, bits, second).sum()
        gradients.append(torch.autograd.grad(sums, parameters, retain_graph=True))
        again = torch.autograd.grad(sums, parameters)
        assert all(map(torch.equal, again, gradients[-1]))
    assert_same(*gradients, 1e-5)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(2, 1), nn.ReLU()),
        nn.Sequential(nn.Tanh(), nn.Linear(2, 1)),
        nn.Sequential(nn.Linear(2, 1, bias=False)),
    ],
)
def test_other_layers_are_refused(net):
    with pytest.raises(ValueError, match=r"at most a Tanh, got (ReLU|Tanh|Linear)\("):
        blocked_mlp(net, torch.zeros(1, 1), torch.zeros(1))


def fast_tanh(values):
    net = nn.Sequential(nn.Linear(1, 1), nn.Tanh())
    with torch.no_grad():
        net[0].weight.fill_(1), net[0].bias.fill_(0)
        return blocked_mlp(net, values[:, None][:, :0], values)


def test_fast_tanh_is_tanh():
    values = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([1e-30, 1e30, -1e30])])
    exact = np.tanh(values.double().numpy())
    assert np.abs(fast_tanh(values).double().numpy() - exact).max() < 3e-7


def test_fast_tanh_passes_nan_and_infinities():
    fast = fast_tanh(torch.tensor([float("nan"), float("inf"), float("-inf")]))
    assert fast[0].isnan()
    assert fast[1:].tolist() == [1, -1]


def test_processors_without_vectors_of_their_own(tmp_path):
    # compiled for the least processor of this architecture, into another cache
    environment = os.environ | {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    selected = ["-k", "fast_tanh or tanh_at_the_end", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", __file__, *selected]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "4 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("where", ["bits", "column", "net"])
def test_what_is_not_finite_is_not_hidden(where):
    net, bits, column = MappingNet(4, (5,), activation="all"), torch.randn(9, 3), torch.randn(9)
    with torch.no_grad():
        {"bits": bits, "column": column, "net": net.layers[0].weight}[where].fill_(float("nan"))
    outputs = blocked(net, bits, column)
    assert outputs.isnan().all()
    (slope,) = torch.autograd.grad(outputs.sum(), [net.layers[0].weight])
    assert slope.isnan().any()


class Doubled(nn.Linear):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


def pruned(net):
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    return net


def doubled(net):
    net[0] = Doubled(3, 4)
    return net


@pytest.mark.parametrize("change", [pruned, doubled, parametrizations.weight_norm])
def test_hooks_and_forward_passes_of_its_own_are_run(change):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    if change is parametrizations.weight_norm:
        change(net[0])
    else:
        net = change(net)
    bits, column = torch.randn(6, 2), torch.randn(6)
    inputs = torch.cat([bits, column[:, None]], dim=1)
    for _ in range(2):
        blocked_mlp(net, bits, column).sum().backward()
        found = [p.grad.clone() for p in net.parameters()]
        net.zero_grad()
        net(inputs).sum().backward()
        for ours, plain in zip(found, (p.grad for p in net.parameters()), strict=True):
            torch.testing.assert_close(ours, plain)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1)
        torch.testing.assert_close(blocked_mlp(net, bits, column), net(inputs).squeeze(1))
        net.zero_grad()


def test_layers_that_do_not_fit_each_other_are_refused():
    for n_in in (3, 5):
        net = nn.Sequential(nn.Linear(3, 4), nn.Linear(n_in, 1))
        with pytest.raises(ValueError, match="net must have layers and biases that fit each other"):
            blocked_mlp(net, torch.zeros(5, 2), torch.zeros(5))


def test_a_bias_of_another_shape_is_refused():
    net = nn.Sequential(nn.Linear(3, 1000), nn.Linear(1000, 1))
    net[0].bias = nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match="net must have layers and biases that fit each other"):
        blocked_mlp(net, torch.zeros(5, 2), torch.zeros(5))


def test_more_outputs_and_unfit_inputs_are_refused():
    with pytest.raises(ValueError, match="net must end in a Linear layer with one output"):
        blocked_mlp(nn.Sequential(nn.Linear(2, 2)), torch.zeros(1, 1), torch.zeros(1))
    net = nn.Sequential(nn.Linear(3, 1))
    with pytest.raises(ValueError, match=r"bits must have shape \(M, 2\).*, got \(0, 2\)"):
        blocked_mlp(net, torch.zeros(0, 2), torch.zeros(0))
    with pytest.raises(ValueError, match=r"bits must have shape \(M, 2\).*, got \(1, 3\)"):
        blocked_mlp(net, torch.zeros(1, 3), torch.zeros(1))
    with pytest.raises(ValueError, match=r"column must have shape \(4,\), got \(3,\)"):
        blocked_mlp(net, torch.zeros(4, 2), torch.zeros(3))
    with pytest.raises(ValueError, match="bits must not require a gradient"):
        blocked_mlp(net, torch.zeros(4, 2, requires_grad=True), torch.zeros(4))
