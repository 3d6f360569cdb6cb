import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from refusals import refused
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


def assert_same(ours, theirs, tolerance=1e-5):
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def assert_exact(net, n_rows):
    """Values and gradients are those of the plain net in double precision."""
    column, weights = torch.randn(2, n_rows, generator=torch.Generator().manual_seed(n_rows))
    ours = results(blocked, net.float(), column, weights)
    assert_same(ours, results(plain, net.double(), column.double(), weights.double()))


@pytest.fixture
def large(monkeypatch):
    """As for a net whose tables are too large to be stored, worth a thread each."""
    monkeypatch.setattr(module, "MAX_STORED", 0)
    monkeypatch.setattr(module, "PARALLEL_WORK", 0)


@pytest.mark.parametrize("activation", ["none", "first", "all"])
@pytest.mark.parametrize("hidden", [(4, 20, 4), (70,), (5, 3), ()])
@pytest.mark.parametrize("stored", [True, False])
def test_values_and_gradients_are_those_of_the_plain_net(hidden, activation, stored, request):
    if not stored:
        request.getfixturevalue("large")
    torch.manual_seed(0)
    net = MappingNet(13, hidden, activation=activation, bit_values=(-0.7, 1.3))
    for n_rows in (1, 448, 1000):
        assert_exact(net, n_rows)


def test_cifars_mapping_net_keeps_its_precision():
    torch.manual_seed(0)
    assert_exact(MappingNet(19, (40, 200, 40)), 285_226)


def test_float32_where_float64_is_the_default():
    net, column = MappingNet(4, (5,)), torch.randn(9)
    expected = results(blocked, net, column, torch.ones(9))
    torch.set_default_dtype(torch.float64)
    try:
        found = results(blocked, net, column, torch.ones(9))
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("which", ["column", "weight"])
def test_what_was_changed_before_the_backward_pass_is_noticed(which):
    net, column = MappingNet(4, (5,)), torch.randn(9)
    outputs = blocked(net, column).sum()
    with torch.no_grad():
        {"column": column, "weight": net.layers[0].weight}[which].add_(1)
    refused("modified by an inplace operation", outputs.backward, error=RuntimeError)


def test_a_tanh_at_the_end(large):
    net = nn.Sequential(nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 1), nn.Tanh())
    column, parameters = torch.randn(2000), list(net.parameters())
    ours = torch.autograd.grad(map_column(net, (0, 1), column).sum(), parameters)
    expected = net(mapping_inputs(column, 11, (0, 1))).sum()
    assert_same(ours, torch.autograd.grad(expected, parameters))


def test_two_threads_give_the_same_each_time_and_what_one_gives(large, one_thread, request):
    net, column, weights = MappingNet(12, (8, 8)), *torch.randn(2, 3000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "ThreadPoolExecutor", None)  # one thread starts no other
        alone = results(blocked, net, column, weights)
    request.getfixturevalue("two_threads")
    first, second = (results(blocked, net, column, weights) for _ in range(2))
    assert all(map(torch.equal, first, second))
    assert_same(first, alone)
    with torch.inference_mode():
        assert torch.equal(blocked(net, column), first[0])
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


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
    assert_same(*gradients)


def with_bias_of(size):
    net = nn.Sequential(nn.Linear(3, 1000), nn.Linear(1000, 1))
    net[0].bias = nn.Parameter(torch.zeros(size))
    return net


def test_other_nets_and_columns_are_left_to_pytorch(monkeypatch):
    net = nn.Sequential(nn.Linear(3, 1))
    for other in (
        nn.Sequential(nn.Linear(3, 1), nn.ReLU()),
        nn.Sequential(nn.Tanh(), nn.Linear(3, 1)),
        nn.Sequential(nn.Linear(3, 1, bias=False)),
        nn.Sequential(nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 1)),
        with_bias_of(1),
        nn.Sequential(nn.Linear(3, 1)).double(),
    ):
        assert map_column(other, (0, 1), torch.zeros(4)) is None
    for shape in (5, 0, (2, 2)):
        assert map_column(net, (0, 1), torch.zeros(shape)) is None
    assert map_column(net, (0, 1), torch.zeros(4)) is not None
    monkeypatch.setattr(module, "can_compile", lambda: False)
    assert map_column(net, (0, 1), torch.zeros(4)) is None


def test_fast_tanh_is_tanh():
    net = nn.Sequential(nn.Linear(18, 1), nn.Tanh())  # of a column, bits have no weight
    values = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([1e-30, 1e30, -1e30])])
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(18)[-1:]), net[0].bias.fill_(0)
        found = map_column(net, (0, 1), values).double().numpy()
        extreme = map_column(net, (0, 1), torch.tensor([torch.nan, torch.inf, -torch.inf]))
    assert np.abs(found - np.tanh(values.double().numpy())).max() < 3e-7
    assert extreme[0].isnan()
    assert extreme[1:].tolist() == [1, -1]


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
    assert "2 passed" in done.stdout, done.stdout


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


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: prune.l1_unstructured(layers[0], "weight", amount=0.5),
        lambda layers: parametrizations.weight_norm(layers[0]),
        lambda layers: layers.__setitem__(0, Doubled(3, 4)),
    ],
)
def test_hooks_and_forward_passes_of_its_own_are_run(change):
    net, column = MappingNet(2, (4,)), torch.randn(3)
    change(net.layers)
    for _ in range(2):
        ways = [results(function, net, column, torch.ones(3)) for function in (blocked, plain)]
        torch.testing.assert_close(*ways)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1)
