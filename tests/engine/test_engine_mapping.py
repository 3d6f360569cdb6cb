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
from qtlite.engine import threads
from qtlite.engine.mapping import map_column
from qtlite.mapping import MappingNet, mapping_inputs


def plain(net, column):
    return net.layers(mapping_inputs(column, net.n_qubits, net.bit_values)).squeeze(1)


def blocked(net, column):
    """The engine where it can, else the net, as ``MappingNet.forward`` does."""
    return net(column)


def results(function, net, column, weights):
    """Outputs, and gradients of their weighted sum with respect to column and parameters."""
    column = column.detach().requires_grad_()
    outputs = function(net, column)
    gradients = torch.autograd.grad((weights * outputs).sum(), [column, *net.parameters()])
    return [outputs.detach(), *gradients]


def assert_same(ours, theirs, tolerance):
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max()


@pytest.fixture
def large(monkeypatch):
    """As for a net whose tables are too large to be stored, worth a thread each."""
    monkeypatch.setattr(module, "MAX_STORED", 0)
    monkeypatch.setattr(module, "PARALLEL_WORK", 0)


@pytest.mark.parametrize("activation", ["none", "first", "all"])
@pytest.mark.parametrize("hidden", [(4, 20, 4), (70,), (5, 3), ()])
@pytest.mark.parametrize("stored", [True, False])
def test_values_and_gradients_are_those_of_the_plain_net_in_float64(
    hidden, activation, stored, request
):
    if not stored:
        request.getfixturevalue("large")
    for n_rows in (1, 448, 1000):
        torch.manual_seed(0)
        net = MappingNet(13, hidden, activation=activation, bit_values=(-0.7, 1.3))
        column, weights = torch.randn(2, n_rows)
        ours = results(blocked, net, column, weights)
        exact = results(plain, net.double(), column.double(), weights.double())
        assert_same(ours, exact, 1e-5)


def test_float32_where_float64_is_the_default():
    net, column = MappingNet(4, (5,)), torch.randn(9)
    expected = results(blocked, net, column, torch.ones(9))
    torch.set_default_dtype(torch.float64)
    try:
        found = results(blocked, net, column, torch.ones(9))
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, expected))
    assert all(one.dtype == torch.float32 for one in found)


@pytest.mark.parametrize("which", ["column", "weight"])
def test_what_was_changed_before_the_backward_pass_is_noticed(which):
    net, column = MappingNet(4, (5,)), torch.randn(9)
    outputs = blocked(net, column)
    with torch.no_grad():
        {"column": column, "weight": net.layers[0].weight}[which].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def test_without_numba_it_is_the_plain_net(monkeypatch):
    net, column = MappingNet(4, (5,)), torch.randn(9)
    compiled = blocked(net, column)
    monkeypatch.setattr(module, "can_compile", lambda: False)
    monkeypatch.setattr(module, "_CompiledMLP", None)  # would be an error
    torch.testing.assert_close(blocked(net, column), compiled)


def test_cifars_mapping_net_gives_the_gradients_of_the_plain_net_in_float64():
    torch.manual_seed(0)
    n_weights = 285_226
    net = MappingNet(19, (40, 200, 40))
    column, weights = torch.rand(n_weights), torch.randn(n_weights)
    ours = results(blocked, net, column, weights)
    exact = results(plain, net.double(), column.double(), weights.double())
    assert_same(ours, exact, 1e-5)


def test_a_tanh_at_the_end(large):
    net = nn.Sequential(nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 1), nn.Tanh())
    column, parameters = torch.randn(2000), list(net.parameters())
    ours = torch.autograd.grad(map_column(net, (0, 1), column).sum(), parameters)
    expected = net(mapping_inputs(column, 11, (0, 1))).sum()
    assert_same(ours, torch.autograd.grad(expected, parameters), 1e-5)


def test_two_threads_give_the_same_each_time_and_what_one_gives(large, request):
    net, column, weights = MappingNet(12, (8, 8)), *torch.randn(2, 3000)
    alone = results(blocked, net, column, weights)
    request.getfixturevalue("two_threads")
    first, second = (results(blocked, net, column, weights) for _ in range(2))
    assert all(map(torch.equal, first, second))
    assert_same(first, alone, 1e-5)
    with torch.inference_mode():
        assert torch.equal(blocked(net, column), first[0])


def test_numbers_of_threads_are_left_as_they_were(large, two_threads):
    net = MappingNet(13, (4,))
    blocked(net, torch.randn(5000)).sum().backward()
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


def test_one_thread_starts_no_other(large, one_thread, monkeypatch):
    monkeypatch.setattr(threads, "ThreadPoolExecutor", None)
    blocked(MappingNet(13, (4,)), torch.randn(5000)).sum().backward()


@pytest.mark.parametrize("n_rows", [6, 2000])
def test_two_calls_before_one_backward_do_not_share_tables(n_rows, large):
    net = MappingNet(11, (4,))
    first, second, parameters = torch.randn(n_rows), torch.randn(n_rows), list(net.parameters())
    gradients = []
    for function in (blocked, plain):
        sums = function(net, first).sum() + 2 * function(net, second).sum()
        gradients.append(torch.autograd.grad(sums, parameters, retain_graph=True))
        again = torch.autograd.grad(sums, parameters)
        assert all(map(torch.equal, again, gradients[-1]))
    assert_same(*gradients, 1e-5)


def with_bias_of(size):
    net = nn.Sequential(nn.Linear(3, 1000), nn.Linear(1000, 1))
    net[0].bias = nn.Parameter(torch.zeros(size))
    return net


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(3, 1), nn.ReLU()),
        nn.Sequential(nn.Tanh(), nn.Linear(3, 1)),
        nn.Sequential(nn.Linear(3, 1, bias=False)),
        nn.Sequential(nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 1)),
        with_bias_of(1),
        nn.Sequential(nn.Linear(3, 1)).double(),
    ],
)
def test_other_nets_are_left_to_pytorch(net):
    assert map_column(net, (0, 1), torch.zeros(4)) is None


@pytest.mark.parametrize("shape", [(5,), (0,), (2, 2)])
def test_other_columns_are_left_to_pytorch(shape):
    assert map_column(nn.Sequential(nn.Linear(3, 1)), (0, 1), torch.zeros(shape)) is None


def fast_tanh(values):
    """Of each value, in a net whose bits have no weight."""
    net = nn.Sequential(nn.Linear(18, 1), nn.Tanh())
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(18)[-1:]), net[0].bias.fill_(0)
        return map_column(net, (0, 1), values)


def test_fast_tanh_is_tanh():
    values = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([1e-30, 1e30, -1e30])])
    exact = np.tanh(values.double().numpy())
    assert np.abs(fast_tanh(values).double().numpy() - exact).max() < 3e-7


def test_fast_tanh_passes_nan_and_infinities():
    fast = fast_tanh(torch.tensor([float("nan"), float("inf"), float("-inf")]))
    assert fast[0].isnan()
    assert fast[1:].tolist() == [1, -1]


@pytest.mark.slow
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
    assert "3 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("where", ["column", "net"])
def test_what_is_not_finite_is_not_hidden(where):
    net, column = MappingNet(4, (5,)), torch.randn(9)
    with torch.no_grad():
        {"column": column, "net": net.layers[0].weight}[where].fill_(float("nan"))
    outputs = blocked(net, column)
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
    net = MappingNet(2, (4,))
    change(net.layers[0] if change is parametrizations.weight_norm else net.layers)
    column = torch.randn(3)
    for _ in range(2):
        blocked(net, column).sum().backward()
        found = [p.grad.clone() for p in net.parameters()]
        net.zero_grad()
        plain(net, column).sum().backward()
        for ours, theirs in zip(found, (p.grad for p in net.parameters()), strict=True):
            torch.testing.assert_close(ours, theirs)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1)
        torch.testing.assert_close(blocked(net, column), plain(net, column))
        net.zero_grad()
