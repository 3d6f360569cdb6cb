"""Injection is compared with PyTorch's two ways to put weights into a module.

``load_state_dict``, which copies values, and ``torch.func.functional_call``, which keeps gradients.
"""

import copy
import pickle

import pytest
import torch
from refusals import refused
from torch import nn
from torch.nn.utils import prune

from qtlite.inject import Injection, split_weights, weight_shapes
from qtlite.quantum_train import GeneratedNetwork


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


class Recurrent(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


TARGETS = {
    "conv": (
        lambda: nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, stride=2, groups=2), nn.ReLU()),
        (2, 4, 7, 7),
    ),
    "lstm": (lambda: Recurrent(3, 5, 2, batch_first=True, bidirectional=True), (2, 6, 3)),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), (2, 5, 8)),
    "tied": (Tied, (3, 4)),
    "shared": (Shared, (3, 4)),
    "norm": (lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)), (8, 4)),
}


@pytest.fixture(params=TARGETS)
def target_and_input(request):
    torch.manual_seed(0)
    make, shape = TARGETS[request.param]
    return make(), torch.randn(shape)


def random_weights(module):
    shapes = weight_shapes(module)
    return split_weights(0.3 * torch.randn(sum(shape.numel() for shape in shapes.values())), shapes)


def loaded(module, weights):
    """An independent copy with the weights put in by name."""
    module = copy.deepcopy(module)
    module.load_state_dict(dict(weights), strict=False)
    return module


@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_buffers_are_those_of_load_state_dict(target_and_input, training):
    target, x = target_and_input
    weights = random_weights(target)
    reference = loaded(target, weights).train(training)
    inject = Injection(target, weights)
    inject.module.train(training)
    # PyTorch's attention takes another path where nothing needs a gradient: not equal bit for bit
    with inject(weights) as hollow:
        torch.testing.assert_close(hollow(x), reference(x))
    buffers = dict(reference.named_buffers())
    torch.testing.assert_close(dict(inject.module.state_dict()), buffers, rtol=0, atol=0)
    inject.module.double()
    again = pickle.loads(pickle.dumps(copy.deepcopy(inject)))
    with again({name: w.double() for name, w in weights.items()}) as hollow:
        torch.testing.assert_close(hollow(x.double()), reference.double()(x.double()))
    assert again.module is not inject.module


def test_outputs_and_gradients_are_functional_calls(target_and_input):
    target, x = target_and_input
    weights = {name: w.requires_grad_() for name, w in random_weights(target).items()}
    target.eval()
    with Injection(target, weights)(weights) as hollow:
        ours = hollow(x)
    # theirs gets a copy: in a module with a layer under two names it leaves the weights behind
    theirs = torch.func.functional_call(copy.deepcopy(target), weights, (x,))
    results = [
        (outputs, *torch.autograd.grad(outputs.sum(), list(weights.values())))
        for outputs in (ours, theirs)
    ]
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_the_target_sees_generated_tensors_among_its_parameters():
    class Penalised(nn.Linear):
        def forward(self, x):
            assert next(self.parameters()).shape == (2, 3)
            return super().forward(x), sum(p.square().sum() for p in self.parameters())

    target = Penalised(3, 2)
    weights = {name: w.requires_grad_() for name, w in random_weights(target).items()}
    with Injection(target, weights)(weights) as hollow:
        _, penalty = hollow(torch.ones(1, 3))
    penalty.backward()
    for weight in weights.values():
        torch.testing.assert_close(weight.grad, 2 * weight.detach())


class Listed(nn.Module):
    """Keeps parameters in a plain list, which another module shares, and in a plain dict, too."""

    def __init__(self):
        super().__init__()
        self.layer, self.other = nn.Linear(3, 3), nn.Identity()
        self.listed = self.other.listed = [self.layer.weight]
        self.named = {"bias": self.layer.bias}

    def forward(self, x):
        return torch.addmm(self.named["bias"], x, self.listed[0].T) @ self.other.listed[0]


def test_parameters_in_plain_lists_and_dicts_are_not_stale():
    target, x = Listed(), torch.randn(2, 3)
    weights = random_weights(target)
    weight, bias = weights["layer.weight"], weights["layer.bias"]
    with Injection(target, weights)(weights) as hollow:
        torch.testing.assert_close(hollow(x), (x @ weight.T + bias) @ weight)
    refused("target must be used through its model", hollow, x, error=(AttributeError, ValueError))
    old = target.layer.weight
    for nested in ([[old]], {0: [old]}, [{0: old}]):
        target.listed = nested
        with Injection(target, weights)(weights) as hollow:
            assert torch.equal(hollow.listed[0][0], weight)
    for frozen in ((old,), [(old,)]):
        target.listed = frozen
        refused("keep parameters in a ParameterList, got 'listed'", Injection, target, weights)


def test_a_weight_between_calls_cannot_be_used():
    layer, x = Injection(nn.Linear(3, 2), ["weight", "bias"]).module, torch.ones(1, 3)
    text = "target must be used through its model"
    refused(text, layer, x)
    refused(text, lambda: x @ layer.weight)
    refused(text, nn.functional.linear, x, torch.ones(2, 3), layer.bias)
    for name in ("T", "data", "anything"):
        refused(f"{text}.*{name}", getattr, layer.weight, name, error=AttributeError)


def test_the_module_is_hollow_again_after_an_error_and_after_a_call_in_a_call():
    inject = Injection(nn.Linear(3, 2), ["weight", "bias"])
    weights = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    with pytest.raises(RuntimeError), inject({**weights, "weight": torch.ones(2, 4)}) as layer:
        layer(torch.ones(1, 3))
    assert not list(layer.parameters())
    with pytest.raises(KeyError, match="bias"), inject({"weight": torch.ones(2, 3)}):
        pass
    assert not list(layer.parameters())
    with inject(weights), inject({**weights, "bias": torch.ones(2)}):
        assert layer(torch.ones(1, 3)).tolist() == [[4, 4]]
    assert not list(layer.parameters())


class Stored(GeneratedNetwork):
    """A network whose numbers are stored, not generated: its weights are these numbers."""

    def __init__(self, target, weights):
        super().__init__(target, names=weights, normalisation="none")
        self.numbers = torch.cat([tensor.flatten() for tensor in weights.values()])

    def generate(self):
        return self.numbers


def test_plain_copy_gives_identical_outputs_and_keeps_its_structure(target_and_input):
    target, x = target_and_input
    before = copy.deepcopy(target.state_dict())
    model = Stored(target, random_weights(target))
    model(x)  # BatchNorm has seen a batch
    model.eval()
    plain = model.to_classical()
    torch.testing.assert_close(plain(x), model(x))
    assert list(plain.state_dict()) == list(target.state_dict())
    assert [n for n, _ in plain.named_parameters()] == [n for n, _ in target.named_parameters()]
    assert not plain.training
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())
    assert not list(model.target.parameters())


def test_tied_weight_counts_once():
    assert weight_shapes(Tied()) == {"embed.weight": (6, 4), "out.bias": (6,)}
    plain = Stored(Tied(), {"embed.weight": torch.ones(6, 4)}).to_classical()
    assert plain.embed.weight is plain.out.weight


def test_named_subset_leaves_the_rest_trainable():
    model = Stored(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), {"0.weight": torch.ones(4, 3)})
    assert model.n_weights == 12
    trained = [name for name, _ in model.named_parameters()]
    assert trained == ["target.0.bias", "target.1.weight", "target.1.bias"]
    assert "target.0.weight" not in model.state_dict()
    model(torch.ones(1, 3)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    with torch.no_grad():
        model.target[1].bias.fill_(7)
    plain = model.to_classical()
    assert plain[1].bias.tolist() == [7, 7]
    assert plain[0].weight.sum() == 12


def with_integers(layer):
    layer.weight = nn.Parameter(torch.ones(2, 3, dtype=torch.int64), requires_grad=False)
    return layer


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore:.torch.jit.trace. is deprecated"
)
def test_parameters_that_cannot_be_generated():
    layer = nn.Linear(3, 2)
    types = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).double())
    for target, text in (
        (nn.LazyLinear(3), r"got weight \(no values\): .*run a lazy one once"),
        (nn.Linear(3, 2, device="meta"), r"got weight \(no values\)"),
        (with_integers(nn.Linear(3, 2)), r"got weight \(torch.int64, torch.strided"),
        (nn.Linear(3, 2, dtype=torch.complex64), r"got weight \(torch.complex64"),
        (types, "one kind of parameters, got .*float32.*float64.*convert"),
        (nn.Embedding(9, 2, sparse=True), "dense gradients, got Embedding.*set sparse=False"),
        (torch.jit.trace(layer, torch.ones(1, 3)), "not scripted"),
        (nn.Linear, "must be an nn.Module, not scripted, got <class"),
        (nn.ReLU(), r"names must list some of the target's \[\], got None"),
    ):
        refused(text, weight_shapes, target)
    refused(r"names must list some .*, got \['wieght'\]", weight_shapes, layer, ["wieght"])
    refused("names must list some .* got 'weight'", weight_shapes, layer, "weight")
    shapes = weight_shapes(layer)
    refused(r"flat must have shape \(8,\), got \(9,\)", split_weights, torch.zeros(9), shapes)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_old_kinds_of_weight_norm_and_pruning():
    for change in (
        lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
        torch.nn.utils.weight_norm,
    ):
        layer = change(nn.Linear(3, 2))
        layer(torch.ones(1, 3))
        text = "target must be deep-copied, got .*parametrizations"
        refused(text, Injection, layer, weight_shapes(layer))
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    weights, x = random_weights(layer), torch.randn(4, 3)
    with Injection(layer, weights)(weights) as hollow:
        torch.testing.assert_close(hollow(x), loaded(layer, weights)(x))
