import pytest
import torch
from torch import nn

from qtlite import QNN, QuantumTrain, quantum_train
from qtlite.circuit import ry_only
from qtlite.compiling import can_compile
from qtlite.generated import GeneratedNetwork
from qtlite.inject import split_weights
from qtlite.mapping import mapping_inputs
from qtlite.normalisation import normalise_weights

pytestmark = pytest.mark.skipif(not can_compile(), reason="Numba is not there")


def backwards(circuit, angles):
    """Not what the rotations take as it is: S = 2 steps with angles of other qubits, doubled."""
    n = circuit.circuit_param["nqubits"]
    for qubit in range(n):
        circuit.ry(qubit, theta=2 * angles[n - 1 - qubit])
    for qubit in range(n - 1):
        circuit.cnot(qubit, qubit + 1)
    circuit.x(0)
    for qubit in range(n):
        circuit.ry(qubit, theta=angles[n + qubit])


def build(**options):
    target = nn.Sequential(nn.Linear(9, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))
    generator = torch.Generator().manual_seed(0)
    return QuantumTrain(target, options.pop("n_blocks", 3), generator=generator, **options)


def values_and_gradients(model, weights):
    """Tensors, and gradients of a sum of them, each number with a factor of its own."""
    total = 0
    for tensor in weights.values():
        total = total + (torch.linspace(-1, 2, tensor.numel()) * tensor.flatten()).sum()
    parts = (*model.qnn.parameters(), *model.mapping.parameters())
    trained = [part for part in parts if part.requires_grad]
    return [*weights.values(), *torch.autograd.grad(total, trained)]


@pytest.mark.parametrize("feature", ["raw", "scaled"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "first", "hidden": (5,)},
        {"block": ry_only},
        {"block": backwards, "angles_per_block": 14},
        {"names": ["0.weight"]},
        {"n_blocks": 40},
    ],
)
def test_the_numbers_of_the_three_functions(options, feature, monkeypatch):
    model = build(feature=feature, **options)
    one = values_and_gradients(model, model.weights())
    monkeypatch.setattr(quantum_train, "Generate", None)  # would be an error
    three = values_and_gradients(model, GeneratedNetwork.weights(model))
    assert all(map(torch.equal, one, three))


@pytest.mark.parametrize("feature", ["raw", "scaled"])
def test_values_and_gradients_are_those_of_plain_torch_in_float64(feature):
    model = build(feature=feature)
    ours = values_and_gradients(model, model.weights())
    model.double()
    p = QNN(model.n_qubits, 3, simulator="tensorcircuit").double()
    p.angles = model.qnn.angles
    inputs = mapping_inputs(p(), model.n_weights, feature=feature, bit_values=model.bit_values)
    flat = model.mapping(inputs).squeeze(-1)
    exact = normalise_weights(split_weights(flat, model._shapes), model._scales, "row")
    for found, true in zip(ours, values_and_gradients(model, exact), strict=True):
        assert (found - true).abs().max() <= 1e-4 * true.abs().max()


def test_what_is_frozen_gets_no_gradient():
    model = build()
    expected = values_and_gradients(model, model.weights())
    model.qnn.requires_grad_(False)
    found = values_and_gradients(model, model.weights())
    n_weights = len(model.weights())
    assert torch.equal(found[n_weights], expected[n_weights + 1])  # the angles come first
    assert len(found) == len(expected) - 1
    model.qnn.requires_grad_(True)
    model.mapping.requires_grad_(False)
    found = values_and_gradients(model, model.weights())
    assert torch.equal(found[n_weights], expected[n_weights])


class Halved(QuantumTrain):
    def generate(self):
        return super().generate() / 2


def hook(*arguments):
    """Does nothing, but wants to be called."""
    hook.calls += 1


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.qnn.register_forward_hook(hook),
        lambda model: model.qnn.register_forward_pre_hook(hook),
        lambda model: model.mapping.layers[0].register_forward_hook(hook),
        lambda model: setattr(model.qnn, "forward", lambda: (hook(), torch.ones(128))[1]),
        lambda model: setattr(model.mapping.layers[1], "forward", lambda x: (hook(), x)[1]),
        lambda model: setattr(model, "qnn", nn.Sequential(model.qnn)) or hook(),
        lambda model: setattr(model, "__class__", Halved) or hook(),
        lambda model: model.double() and hook(),
    ],
)
def test_what_was_changed_is_called(change, monkeypatch):
    model = build()
    hook.calls = 0
    change(model)
    if isinstance(model.qnn, nn.Sequential):
        model.qnn.forward = model.qnn[0].forward
    monkeypatch.setattr(quantum_train, "Generate", None)  # would be an error
    model.weights()
    assert hook.calls >= 1


@pytest.mark.parametrize(
    "options",
    [
        {"feature": "root"},
        {"center_feature": True},
        {"center_output": True},
        {"normalisation": "none"},
        {"normalisation": "tensor"},
        {"simulator": "tensorcircuit"},
    ],
)
def test_other_options_take_the_three_functions(options, monkeypatch):
    monkeypatch.setattr(quantum_train, "Generate", None)  # would be an error
    build(**options).weights()


def test_a_circuit_of_another_size_is_refused():
    model = build()
    model.qnn = QNN(model.n_qubits + 1, 2)
    with pytest.raises(ValueError, match=r"qnn must return shape \(128,\), got \(256,\)"):
        model.weights()


@pytest.mark.parametrize("which", ["angles", "weights"])
def test_what_was_changed_before_the_backward_pass_is_noticed(which):
    model = build()
    weights = model.weights()
    loss = sum(tensor.sum() for tensor in weights.values())
    {"angles": model.qnn.angles, "weights": weights["0.weight"]}[which].detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_two_models_before_one_backward_and_twice_the_same_graph():
    models = [build(n_blocks=n) for n in (2, 3)]
    alone = [values_and_gradients(model, model.weights()) for model in models]
    both = [model.weights() for model in models]
    for model, weights, expected in zip(models, both, alone, strict=True):
        assert all(map(torch.equal, values_and_gradients(model, weights), expected))
    weights = models[0].weights()
    total = sum(tensor.square().sum() for tensor in weights.values())
    first, second = (
        torch.autograd.grad(total, models[0].qnn.angles, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, second)


def test_gradients_that_are_negated_in_name_or_have_a_graph():
    model = build()
    weights = model.weights()
    weight, parameters = weights["0.weight"], list(model.parameters())
    expected = torch.autograd.grad((-weight).sum(), parameters, retain_graph=True)
    negated = torch.complex(torch.zeros_like(weight), torch.ones_like(weight)).conj().imag
    assert negated.is_neg()
    found = torch.autograd.grad(weight, parameters, negated, retain_graph=True)
    assert all(map(torch.equal, found, expected))
    found = torch.autograd.grad((-weight).sum(), parameters, create_graph=True)
    assert all(map(torch.equal, found, expected))
