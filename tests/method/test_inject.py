"""Injection is compared with PyTorch's two ways to put weights into a module.

``load_state_dict``, which copies values, and ``torch.func.functional_call``, which keeps gradients.
"""

import copy

import pytest
import torch
from torch import nn

from qtlite.inject import (
    call_with_weights,
    count_weights,
    split_weights,
    weight_shapes,
    with_weights,
    without_weights,
)


class Tied(nn.Module):
    """Input and output of one matrix, as in language models."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 6, bias=False)
        self.out = nn.Linear(4, 6)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(torch.tanh(self.embed(x) @ self.embed.weight))


class Shared(nn.Module):
    """One layer at two depths, whose name is that of the first, the deeper one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Tanh(), nn.Linear(4, 4))
        self.last = self.first[1]

    def forward(self, x):
        return self.last(self.first(x))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.lstm(x)[0]


TARGETS = {
    "conv": (
        lambda: nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, stride=2, groups=2), nn.ReLU()),
        (2, 4, 7, 7),
    ),
    "lstm": (Sequence, (2, 6, 3)),
    "attention": (Attention, (2, 5, 8)),
    "encoder": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        (2, 5, 8),
    ),
    "tied": (Tied, (3, 4)),
    "shared": (Shared, (3, 4)),
    "batchnorm": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)),
        (8, 4),
    ),
}


@pytest.fixture(params=TARGETS)
def target_and_input(request):
    torch.manual_seed(0)
    make, shape = TARGETS[request.param]
    return make(), torch.randn(shape)


def random_weights(module):
    shapes = weight_shapes(module)
    return split_weights(0.3 * torch.randn(count_weights(shapes)), shapes)


def loaded(module, weights):
    """An independent copy with the weights put in by name."""
    module = copy.deepcopy(module)
    module.load_state_dict(dict(weights), strict=False)
    return module


@pytest.mark.parametrize("training", [True, False])
def test_injected_forward_equals_load_state_dict(target_and_input, training):
    target, x = target_and_input
    weights = random_weights(target)
    reference = loaded(target, weights).train(training)
    hollow = without_weights(target, weights).train(training)
    # PyTorch's attention takes another path where nothing needs a gradient: not equal bit for bit
    torch.testing.assert_close(call_with_weights(hollow, weights, x), reference(x))
    for (name, ours), (_, theirs) in zip(
        hollow.state_dict().items(), dict(reference.named_buffers()).items(), strict=True
    ):
        assert torch.equal(ours, theirs), f"buffer {name}"


def test_gradients_reach_the_weights_as_in_an_ordinary_network(target_and_input):
    target, x = target_and_input
    weights = {name: w.requires_grad_() for name, w in random_weights(target).items()}
    reference = loaded(target, weights)
    reference(x).square().sum().backward()
    loss = call_with_weights(without_weights(target, weights), weights, x).square().sum()
    gradients = torch.autograd.grad(loss, list(weights.values()))
    for (name, parameter), gradient in zip(reference.named_parameters(), gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-5), name


def test_injection_is_functional_call(target_and_input):
    target, x = target_and_input
    weights = {name: w.requires_grad_() for name, w in random_weights(target).items()}
    own = {**dict(target.named_parameters()), **dict(target.named_buffers())}
    target.eval()
    # theirs gets a copy: in a module with a layer under two names it leaves the weights behind
    theirs = torch.func.functional_call(copy.deepcopy(target), weights, (x,))
    results = [
        (outputs, *torch.autograd.grad(outputs.sum(), list(weights.values())))
        for outputs in (call_with_weights(target, weights, x), theirs)
    ]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    after = {**dict(target.named_parameters()), **dict(target.named_buffers())}
    assert all(after[name] is tensor for name, tensor in own.items())


def test_a_tied_weight_may_be_given_under_any_of_its_names():
    target, x = Tied(), torch.randn(3, 4)
    matrix = torch.randn(6, 4)
    outputs = [
        call_with_weights(target, {name: matrix}, x) for name in ("embed.weight", "out.weight")
    ]
    assert torch.equal(*outputs)
    with pytest.raises(ValueError, match="weights must have names .*, each of another one"):
        call_with_weights(target, {"embed.weight": matrix, "out.weight": matrix}, x)


def test_the_module_has_its_own_tensors_back_after_an_error():
    layer = nn.Linear(3, 2)
    own = dict(layer.named_parameters())
    with pytest.raises(RuntimeError):
        call_with_weights(layer, {"weight": torch.ones(2, 4)}, torch.ones(1, 3))
    assert all(own[name] is parameter for name, parameter in layer.named_parameters())


def test_plain_copy_gives_identical_outputs_and_keeps_its_structure(target_and_input):
    target, x = target_and_input
    weights = random_weights(target)
    hollow = without_weights(target, weights)
    call_with_weights(hollow, weights, x)  # BatchNorm has seen a batch
    hollow.eval()
    plain = with_weights(target, hollow, weights)
    torch.testing.assert_close(plain(x), call_with_weights(hollow, weights, x))
    assert list(plain.state_dict()) == list(target.state_dict())
    assert [n for n, _ in plain.named_parameters()] == [n for n, _ in target.named_parameters()]
    assert not plain.training


def test_target_is_left_as_it_was(target_and_input):
    target, x = target_and_input
    before = copy.deepcopy(target.state_dict())
    weights = random_weights(target)
    hollow = without_weights(target, weights)
    call_with_weights(hollow, weights, x)
    with_weights(target, hollow, weights)
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())
    assert not list(hollow.parameters())


def test_tied_weight_counts_once():
    assert weight_shapes(Tied()) == {"embed.weight": (6, 4), "out.bias": (6,)}
    plain = with_weights(Tied(), Tied(), {"embed.weight": torch.ones(6, 4)})
    assert plain.embed.weight is plain.out.weight


def test_named_subset_leaves_the_rest_trainable():
    target = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    hollow = without_weights(target, ["0.weight"])
    assert [name for name, _ in hollow.named_parameters()] == ["0.bias", "1.weight", "1.bias"]
    assert "0.weight" not in hollow.state_dict()
    with torch.no_grad():
        hollow[1].bias.fill_(7)
    plain = with_weights(target, hollow, {"0.weight": torch.ones(4, 3)})
    assert plain[1].bias.tolist() == [7, 7]
    assert plain[0].weight.sum() == 12


def test_a_string_is_no_list_of_names():
    with pytest.raises(ValueError, match="names must be a list .* got the string 'weight'"):
        weight_shapes(nn.Linear(2, 2), "weight")


def test_bad_names_and_shapes():
    layer = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"names must be parameters .*, got \['wieght'\]"):
        weight_shapes(layer, ["wieght"])
    with pytest.raises(ValueError, match="target must have parameters .*, got none in ReLU"):
        weight_shapes(nn.ReLU())
    with pytest.raises(ValueError, match=r"weights must .* \['weight', 'bias'\], got \['wieght'\]"):
        call_with_weights(layer, {"wieght": torch.zeros(2, 3)}, torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"flat must have shape \(8,\), got \(9,\)"):
        split_weights(torch.zeros(9), weight_shapes(layer))
