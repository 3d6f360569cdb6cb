"""What users of hypernetworks report as silently wrong, each held against an independent value."""

import copy
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from refusals import refused
from torch import nn
from torch.utils.checkpoint import checkpoint

from qtlite import QNN, MappingNet, QuantumTrain, plain
from qtlite.experiments.ansaetze import u3_ring_cu3

WAYS = pytest.mark.parametrize("way", [nullcontext, plain])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(target=None, **options):
    torch.manual_seed(0)
    target = target or nn.Sequential(nn.Linear(9, 3), nn.Tanh(), nn.Linear(3, 2))
    return QuantumTrain(target, 2, generator=seeded(), **options).double()


X = torch.randn(4, 9, generator=seeded(1), dtype=torch.float64)


def loss_of(model, angles):
    values = {**dict(model.named_parameters()), "qnn.angles": angles}
    return torch.func.functional_call(model, values, (X,)).square().sum()


@WAYS
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by PyTorch itself
def test_second_and_third_derivatives_in_the_angles(way):
    model = small(nn.Linear(9, 1))
    angles = model.qnn.angles.detach().requires_grad_()

    def loss(angles):
        return loss_of(model, angles)

    def slope(angles):
        return torch.autograd.grad(loss(angles), angles, create_graph=True)[0]

    with way():
        assert torch.autograd.gradcheck(slope, angles)
        assert torch.autograd.gradgradcheck(slope, angles)
        expected = torch.autograd.functional.hessian(loss, angles)
        reverse = torch.func.jacrev(torch.func.jacrev(loss))(angles.detach())
        forward = torch.func.hessian(loss)(angles.detach())
    torch.testing.assert_close((reverse, forward), (expected, expected))


def check_twice(module, *inputs):
    """Second derivatives, mixed ones too, in a module's parameters and inputs."""
    names = [name for name, _ in module.named_parameters()]

    def outputs(*values):
        parameters = dict(zip(names, values, strict=False))
        found = torch.func.functional_call(module, parameters, values[len(names) :])
        return tuple(found.values()) if isinstance(found, dict) else found

    assert torch.autograd.gradgradcheck(outputs, (*module.parameters(), *inputs))


def test_gradgradcheck_of_each_box():
    numbers = torch.randn(20, generator=seeded(), dtype=torch.float64, requires_grad=True)
    check_twice(QNN(3, 2).double())
    check_twice(QNN(2, 1, block=u3_ring_cu3, angles_per_block=12).double())
    check_twice(MappingNet(3, (3,)).double(), numbers[:7].detach().requires_grad_())
    check_twice(QuantumTrain(nn.Linear(9, 2), 1).double().normalise, numbers)


def test_a_gradient_penalty_in_float32():
    model, found = small(), []
    for way, dtype in ((nullcontext, torch.float32), (plain, torch.float64)):
        model.to(dtype)
        with way():
            loss = model(X.to(dtype)).square().sum()
            (slope,) = torch.autograd.grad(loss, model.qnn.angles, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), list(model.parameters())))
    for single, exact in zip(*found, strict=True):
        assert (single - exact).abs().max() < 1e-3 * exact.abs().max()


def test_first_derivatives_by_torch_func_and_vmap():
    model = small()
    first = torch.func.grad(lambda angles: loss_of(model, angles))
    batch = model.qnn.angles.detach() + torch.arange(3.0, dtype=torch.float64)[:, None, None]
    leaf = batch.clone().requires_grad_()
    (expected,) = torch.autograd.grad(sum(loss_of(model, angles) for angles in leaf), leaf)
    torch.testing.assert_close(torch.stack(list(map(first, batch))), expected)
    try:
        vectorised = torch.func.vmap(first)(batch)
    except (RuntimeError, TypeError, ValueError):
        return  # a simulator that vmap cannot trace may refuse
    torch.testing.assert_close(vectorised, expected)


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.layers, self.reentrant = nn.Sequential(nn.Linear(9, 3), nn.Tanh()), reentrant

    def forward(self, x):
        return checkpoint(self.layers, x, use_reentrant=self.reentrant)

    def encode(self, x):
        return self.layers(x)


def test_checkpointed_activations_and_other_methods_are_right_or_refused():
    x, text = X.clone().requires_grad_(), "through checkpointed activations inside"
    old, model = small(Checkpointed(reentrant=True)), small(Checkpointed(reentrant=False))
    for each in (old, model):
        refused(text, each(x).square().sum().backward)
    refused("or .with model.generated.. as target", model.target.encode, X)
    slopes = []
    for method in ("forward", "encode"):
        with model.generated() as target:
            loss = getattr(target, method)(X).square().sum()
            slopes.append(torch.autograd.grad(loss, model.qnn.angles))
    torch.testing.assert_close(*slopes)
    assert torch.equal(model(X), model.to_classical().encode(X))


def test_a_checkpoint_around_the_whole_model():
    model = small()
    found = torch.autograd.grad(checkpoint(model, X, use_reentrant=False).sum(), model.qnn.angles)
    expected = torch.autograd.grad(model(X).sum(), model.qnn.angles)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


class Encoder(nn.Sequential):
    def forward(self, x):
        return super().forward(x).tanh()


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile hides it by itself
def test_torch_compile_compiles_the_target_once():
    """No warning, no graph of the engine's or of TensorCircuit's, and the exported outputs."""
    model = small(Encoder(nn.Linear(9, 3), *[nn.Linear(3, 3) for _ in range(9)]))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(model, backend="eager")
    for way in (nullcontext, plain, nullcontext):
        with way():
            outputs = compiled(X)
            torch.testing.assert_close(outputs, model.to_classical()(X))
            model.qnn.angles.grad = None
            outputs.square().sum().backward()
        (expected,) = torch.autograd.grad(model(X).square().sum(), model.qnn.angles)
        torch.testing.assert_close(model.qnn.angles.grad, expected)
        model.qnn.angles.data -= 0.1 * expected
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@WAYS
def test_autocast_rounds_no_generated_weight(way):
    model = small().float()
    expected = model.weights()
    with way(), torch.autocast("cpu", torch.bfloat16):
        found, exported = model.weights(), model.to_classical()
        outputs = model(X.float())
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(dict(exported.named_parameters()), found, check_stride=False)
    assert outputs.dtype == torch.bfloat16  # the target is free to round


class Gain(nn.Module):
    """One number that starts at 3: a gain, not a bias."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([3.0]))

    def forward(self, x):
        return self.gain * x


def test_a_state_dict_is_all_that_a_fresh_model_needs():
    def target():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2), Gain())

    trained, x = target(), torch.ones(2, 4)
    with torch.no_grad():
        trained[1].weight.normal_(1.5, 0.3), trained[1].bias.fill_(0.2)
        trained[3].gain.fill_(5.0)
    model = QuantumTrain(trained, 2)
    assert abs(model.weights()["3.gain"].item() - 5) < 3  # around its own start, not around 0
    moved = copy.deepcopy(trained)
    with torch.no_grad():  # values that are documented not to matter
        moved[0].weight.normal_(), moved[2].weight.normal_(), moved[2].bias.normal_()
    for start in (target(), moved):
        fresh = QuantumTrain(start, 2)
        fresh.load_state_dict(model.state_dict(), strict=True)
        for way in (nullcontext, plain):
            with way():
                torch.testing.assert_close(fresh(x), model(x), atol=0, rtol=0)
    old = {name: v for name, v in model.state_dict().items() if "_extra_state" not in name}
    missing = "Missing key.*normalise._extra_state"  # in a file of an earlier version
    refused(missing, fresh.load_state_dict, old, error=RuntimeError)
    bad = {**model.state_dict(), "normalise._extra_state": torch.tensor([0.0])}
    refused("centres must be finite and one for each tensor, got 1", fresh.load_state_dict, bad)


def test_threads_share_one_model():
    model = small().float()
    inputs = torch.randn(300, 1, 9, generator=seeded(3))
    expected = model(inputs.flatten(0, 1))
    with ThreadPoolExecutor(2) as pool:
        found = torch.cat(list(pool.map(model, inputs)))
    torch.testing.assert_close(found, expected)
    assert not list(model.target.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_circuit_of_another_precision(dtype):
    class Elsewhere(nn.Module):
        def forward(self):
            return torch.full((32,), 1 / 32, dtype=torch.float64)

    model = QuantumTrain(nn.Linear(9, 2).to(dtype), qnn=Elsewhere())
    assert model(torch.ones(1, 9, dtype=dtype)).dtype == dtype


def test_arguments_of_any_name_reach_the_target():
    class Named(nn.Linear):
        def forward(self, module, *, weights, names):
            return super().forward(module) + weights + names

    model = QuantumTrain(Named(9, 2), 1)
    x = torch.ones(1, 9)
    expected = model.to_classical()(x, weights=1, names=2)
    assert torch.equal(model(x, weights=1, names=2), expected)
