"""What users of hypernetworks report as silently wrong, each held against an independent value."""

import copy
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from qtlite import QNN, MappingNet, QuantumTrain, plain
from qtlite.experiments.ansaetze import u3_ring_cu3


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


def numeric_hessian(model, step=1e-5):
    """Central differences of first derivatives."""
    angles, rows = model.qnn.angles.detach(), []
    for i in range(angles.numel()):
        gradients = []
        for sign in (1, -1):
            moved = angles.clone()
            moved.view(-1)[i] += sign * step
            moved.requires_grad_()
            gradients.append(torch.autograd.grad(loss_of(model, moved), moved)[0].flatten())
        rows.append((gradients[0] - gradients[1]) / (2 * step))
    return torch.stack(rows)


@pytest.mark.parametrize("way", [nullcontext, plain])
@pytest.mark.parametrize("how", ["autograd", "func", "reverse", "forward"])
@pytest.mark.parametrize("normalisation", ["row", "tensor"])
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by PyTorch itself
def test_second_derivatives_in_the_angles(way, how, normalisation):
    model = small(normalisation=normalisation)
    angles, size = model.qnn.angles.detach(), model.qnn.angles.numel()

    def loss(angles):
        return loss_of(model, angles)

    with way():
        if how == "autograd":
            found = torch.autograd.functional.hessian(loss, angles)
        elif how == "func":
            found = torch.func.jacrev(torch.func.grad(loss))(angles)
        elif how == "forward":
            found = torch.func.hessian(loss)(angles)  # forward derivatives of backward ones
        else:
            found = torch.func.jacrev(torch.func.jacrev(loss))(angles)
    exact = numeric_hessian(model)
    torch.testing.assert_close(found.reshape(size, size), exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalisation", ["row", "tensor"])
def test_a_third_derivative(normalisation):
    model = small(normalisation=normalisation)
    angles = model.qnn.angles.detach()
    step = torch.zeros_like(angles)
    step[0, 0] = 1e-4

    def sum_of_hessian(angles):
        (first,) = torch.autograd.grad(loss_of(model, angles), angles, create_graph=True)
        return torch.autograd.grad(first.sum(), angles, create_graph=True)[0].sum()

    above, below = (sum_of_hessian((angles + s).requires_grad_()) for s in (step, -step))
    angles = angles.requires_grad_()
    (third,) = torch.autograd.grad(sum_of_hessian(angles), angles)
    assert third[0, 0].item() == pytest.approx((above - below).item() / 2e-4, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_penalty(dtype):
    """The slope of |d loss / d angles|^2 along a direction, in every parameter."""
    model, x = small().to(dtype), X.to(dtype)

    def penalty(model, x):
        (slope,) = torch.autograd.grad(model(x).square().sum(), model.qnn.angles, create_graph=True)
        return slope.square().sum()

    names = [name for name, _ in model.named_parameters()]
    found = torch.autograd.grad(penalty(model, x), list(model.parameters()))
    exact, step = copy.deepcopy(model).double(), 1e-5
    for name, gradient in zip(names, found, strict=True):
        direction = torch.randn(gradient.shape, generator=seeded(2), dtype=torch.float64)
        values = []
        for sign in (1, -1):
            moved = copy.deepcopy(exact)
            moved.get_parameter(name).data.add_(direction, alpha=sign * step)
            values.append(penalty(moved, X).item())
        expected = (values[0] - values[1]) / (2 * step)
        along = (gradient.double() * direction).sum().item()
        assert along == pytest.approx(expected, rel=1e-2 if dtype == torch.float32 else 1e-5), name


def test_a_second_order_step_in_a_step():
    """Model-agnostic meta-learning: the loss after a step, differentiated through the step."""
    model = small()

    def after_a_step(angles):
        (slope,) = torch.autograd.grad(loss_of(model, angles), angles, create_graph=True)
        return loss_of(model, angles - 0.1 * slope)

    angles = model.qnn.angles.detach().requires_grad_()
    (found,) = torch.autograd.grad(after_a_step(angles), angles)
    with torch.enable_grad(), plain():
        (expected,) = torch.autograd.grad(after_a_step(angles), angles)
    torch.testing.assert_close(found, expected)
    hessian, first = numeric_hessian(model), torch.func.grad(lambda a: loss_of(model, a))
    moved = angles.detach() - 0.1 * first(angles.detach())
    chain = (torch.eye(len(hessian), dtype=torch.float64) - 0.1 * hessian) @ first(moved).flatten()
    torch.testing.assert_close(found.flatten(), chain, atol=1e-5, rtol=1e-5)


def test_first_derivatives_by_torch_func_and_vmap():
    model = small()
    batch = model.qnn.angles.detach() + torch.arange(3.0, dtype=torch.float64)[:, None, None]
    expected = []
    for angles in batch:
        angles = angles.clone().requires_grad_()
        expected.append(torch.autograd.grad(loss_of(model, angles), angles)[0])
    found = torch.stack([torch.func.grad(lambda a: loss_of(model, a))(a) for a in batch])
    torch.testing.assert_close(found, torch.stack(expected))
    try:
        vectorised = torch.func.vmap(torch.func.grad(lambda a: loss_of(model, a)))(batch)
    except (RuntimeError, TypeError, ValueError):
        return  # a simulator that vmap cannot trace may refuse
    torch.testing.assert_close(vectorised, torch.stack(expected))


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.layers, self.reentrant = nn.Sequential(nn.Linear(9, 3), nn.Tanh()), reentrant

    def forward(self, x):
        return checkpoint(self.layers, x, use_reentrant=self.reentrant)

    def encode(self, x):
        return self.layers(x)


def test_checkpointed_activations_are_right_or_refused():
    model = small(Checkpointed(reentrant=False))
    reference = small(nn.Sequential(nn.Linear(9, 3), nn.Tanh()))
    reference.load_state_dict(model.state_dict())
    reference(X).square().sum().backward()
    loss = model(X).square().sum()
    with pytest.raises(ValueError, match=r"through checkpointed activations inside"):
        loss.backward()
    with model.generated() as target:
        target(X).square().sum().backward()
    torch.testing.assert_close(model.qnn.angles.grad, reference.qnn.angles.grad)


def test_a_checkpoint_around_the_whole_model():
    model = small()
    found = torch.autograd.grad(checkpoint(model, X, use_reentrant=False).sum(), model.qnn.angles)
    expected = torch.autograd.grad(model(X).sum(), model.qnn.angles)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_activations_checkpointed_by_the_old_kind_are_refused():
    model = small(Checkpointed(reentrant=True))
    x = X.clone().requires_grad_()
    with pytest.raises(ValueError, match="through checkpointed activations inside"):
        model(x).square().sum().backward()

    class Twice(Checkpointed):
        def forward(self, x):
            return checkpoint(self.layers, super().forward(x).repeat(1, 3), use_reentrant=True)

    model = small(Twice(reentrant=True))
    with (
        pytest.raises(RuntimeError, match="backward through the graph a second time"),
        model.generated() as target,
    ):
        target(x).square().sum().backward()


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(9, 3), *[nn.Linear(3, 3) for _ in range(9)])

    def forward(self, x):
        return self.layers(x).tanh()


@pytest.mark.parametrize("way", [nullcontext, plain])
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile hides it by itself
def test_torch_compile_compiles_the_target_once(way):
    """No warning, no graph of the engine's or of TensorCircuit's, and the exported outputs."""
    model = small(Encoder())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(model, backend="eager")
    with way():
        for _ in range(3):
            outputs = compiled(X)
            torch.testing.assert_close(outputs, model.to_classical()(X))
            model.qnn.angles.grad = None
            outputs.square().sum().backward()
            found = model.qnn.angles.grad.clone()
            expected = torch.autograd.grad(model(X).square().sum(), model.qnn.angles)[0]
            torch.testing.assert_close(found, expected)
            model.qnn.angles.data -= 0.1 * found
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("way", [nullcontext, plain])
def test_autocast_rounds_no_generated_weight(way):
    model = small().float()
    expected = model.weights()
    with way(), torch.autocast("cpu", torch.bfloat16):
        found, exported = model.weights(), model.to_classical()
        outputs = model(X.float())
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(
            exported.get_parameter(name), weight.detach(), check_stride=False
        )
    assert outputs.dtype == torch.bfloat16  # the target is free to round


def test_two_modules_that_share_a_plain_list():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.other = nn.Linear(9, 3, bias=False), nn.Identity()
            self.weights = self.other.weights = [self.layer.weight]

        def forward(self, x):
            linear = nn.functional.linear
            return linear(linear(x, self.weights[0]), self.other.weights[0].T)

    model = small(Shared())
    torch.testing.assert_close(model(X), model.to_classical()(X))
    with pytest.raises((AttributeError, ValueError), match="through its model"):
        model.target(X)


def test_another_method_of_the_target():
    model = small(Checkpointed(reentrant=False))
    with pytest.raises(ValueError, match="or .with model.generated.. as target"):
        model.target.encode(X)
    with model.generated() as target:
        ours = target.encode(X)
    assert torch.equal(ours, model.to_classical().encode(X))


def test_a_state_dict_is_all_that_a_fresh_model_needs():
    def target():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2), Gain())

    class Gain(nn.Module):
        """One number that starts at 3: a gain, not a bias."""

        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor([3.0]))

        def forward(self, x):
            return self.gain * x

    trained, x = target(), torch.ones(2, 4)
    with torch.no_grad():
        trained[1].weight.normal_(1.5, 0.3), trained[1].bias.fill_(0.2)
        trained[3].gain.fill_(5.0)
    model, fresh = QuantumTrain(trained, 2), QuantumTrain(target(), 2)
    assert abs(model.weights()["3.gain"].item() - 5) < 3  # around its own start, not around 0
    fresh.load_state_dict(model.state_dict(), strict=True)
    torch.testing.assert_close(fresh(x), model(x), atol=0, rtol=0)
    with plain():
        torch.testing.assert_close(fresh(x), model(x), atol=0, rtol=0)
    moved = copy.deepcopy(trained)
    with torch.no_grad():  # values that are documented not to matter
        moved[0].weight.normal_(), moved[2].weight.normal_(), moved[2].bias.normal_()
    again = QuantumTrain(moved, 2)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(x), model(x), atol=0, rtol=0)
    old = {name: v for name, v in model.state_dict().items() if "_extra_state" not in name}
    with pytest.raises(RuntimeError, match="Missing key.*normalise._extra_state"):
        fresh.load_state_dict(old)  # a file of an earlier version does not say its centres
    bad = {**model.state_dict(), "normalise._extra_state": torch.tensor([0.0])}
    with pytest.raises(ValueError, match="centres must be finite and one for each tensor, got 1"):
        fresh.load_state_dict(bad)


def test_threads_share_one_model():
    model = small().float()
    inputs = torch.randn(300, 1, 9, generator=seeded(3))
    with torch.no_grad():
        expected = model(inputs.flatten(0, 1))
        with ThreadPoolExecutor(2) as pool:
            found = torch.cat(list(pool.map(lambda x: _in_thread(model, x), inputs)))
    torch.testing.assert_close(found, expected)
    assert not list(model.target.parameters())


def _in_thread(model, x):
    with torch.no_grad():
        return model(x)


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


def test_copies_have_gradients_of_their_own():
    model = small()
    again = copy.deepcopy(model)
    again(X).sum().backward()
    assert model.qnn.angles.grad is None
    assert torch.equal(model(X), again(X))


def test_complex_blocks_have_second_derivatives_too():
    qnn = QNN(2, 1, block=u3_ring_cu3, angles_per_block=12).double()

    def first(angles):
        return torch.func.functional_call(qnn, {"angles": angles}, ())[0]

    angles = qnn.angles.detach().requires_grad_()
    assert torch.autograd.gradgradcheck(first, angles)


@pytest.mark.parametrize("dtype", [torch.float64])
def test_gradgradcheck_of_each_box(dtype):
    qnn, net = QNN(3, 2).to(dtype), MappingNet(3, (3,)).to(dtype)
    column = torch.rand(7, dtype=dtype, requires_grad=True)

    def probabilities(angles):
        return torch.func.functional_call(qnn, {"angles": angles}, ())

    assert torch.autograd.gradgradcheck(probabilities, qnn.angles.detach().requires_grad_())
    assert torch.autograd.gradgradcheck(lambda c: net(c), column)
    layers = QuantumTrain(nn.Linear(9, 2).to(dtype), 1).normalise
    numbers = torch.randn(20, dtype=dtype, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda n: tuple(layers(n).values()), numbers)
