import subprocess
import sys

import pytest
import torch
from torch import nn

from qtlite import QNN, QuantumTrain, quantum_train
from qtlite.circuit import ry_only
from qtlite.engine.compiled import plan as walk_plan
from qtlite.engine.compiled.compiling import can_compile
from qtlite.engine.mapping import read_net
from qtlite.generated import GeneratedNetwork
from qtlite.inject import split_weights
from qtlite.mapping import MappingNet, mapping_inputs
from qtlite.normalisation import normalise_weights
from qtlite.one_function import is_small

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


def in_one(model):
    """The model's weights, which must come from one function."""
    weights = model.weights()
    assert all(w.grad_fn.name() == "_GenerateWeightsBackward" for w in weights.values())
    return weights


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
def test_the_numbers_of_the_three_functions(options, feature):
    model = build(feature=feature, **options)
    one = values_and_gradients(model, in_one(model))
    three = values_and_gradients(model, GeneratedNetwork.weights(model))
    assert all(map(torch.equal, one, three))


@pytest.mark.parametrize("feature", ["raw", "scaled"])
def test_values_and_gradients_are_those_of_plain_torch_in_float64(feature):
    model = build(feature=feature)
    ours = values_and_gradients(model, in_one(model))
    model.double()
    p = QNN(model.n_qubits, 3, simulator="tensorcircuit").double()
    p.angles = model.qnn.angles
    inputs = mapping_inputs(p(), model.n_weights, feature=feature, bit_values=model.bit_values)
    flat = model.mapping(inputs).squeeze(-1)
    exact = normalise_weights(split_weights(flat, model._shapes), model._scales, "row")
    for found, true in zip(ours, values_and_gradients(model, exact), strict=True):
        assert (found - true).abs().max() <= 1e-4 * true.abs().max()


def test_what_is_frozen_gets_no_gradient_and_costs_no_walk(monkeypatch):
    from qtlite import one_function_loops as loops

    backward, overlaps = loops.backward, []

    def watched(*arguments):
        found = backward(*arguments)
        overlaps.append(found[1])
        return found

    monkeypatch.setattr(loops, "backward", watched)
    model = build()
    expected = values_and_gradients(model, in_one(model))
    model.qnn.requires_grad_(False)
    found = values_and_gradients(model, in_one(model))
    assert [bool(each.any()) for each in overlaps] == [True, False]
    n_weights = len(model.weights())
    assert torch.equal(found[n_weights], expected[n_weights + 1])  # the angles come first
    assert len(found) == len(expected) - 1
    model.qnn.requires_grad_(True)
    model.mapping.requires_grad_(False)
    found = values_and_gradients(model, in_one(model))
    assert torch.equal(found[n_weights], expected[n_weights])


def with_signs(circuit, angles):
    n = circuit.circuit_param["nqubits"]
    for qubit in range(n):
        circuit.ry(qubit, theta=angles[qubit])
    circuit.z(0)
    for qubit in range(n - 1):
        circuit.cz(qubit, qubit + 1)
        circuit.cnot(qubit, qubit + 1)


class WithNothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.nothing, self.layer = nn.Parameter(torch.empty(0, 3)), nn.Linear(3, 2)
        self.no_numbers = nn.Parameter(torch.empty(2, 0))


@pytest.mark.parametrize("angle", [0.3, 3.14])  # near half a turn, steps are done in two
@pytest.mark.parametrize(
    "target", [nn.Linear(1, 1), nn.Linear(2, 1), nn.Linear(6, 2), nn.Linear(40, 9), WithNothing()]
)
def test_few_qubits_signs_and_half_turns(target, angle):
    model = QuantumTrain(target, 3, block=with_signs)
    with torch.no_grad():
        model.qnn.angles.mul_(0.01).add_(angle)
    one = values_and_gradients(model, in_one(model))
    three = values_and_gradients(model, GeneratedNetwork.weights(model))
    assert all(map(torch.equal, one, three))


class Halved(QuantumTrain):
    def generate(self):
        return super().generate() / 2


class Reversed(QuantumTrain):
    def _column(self):
        return super()._column().flip(0)


def with_other_angles(model):
    other = QNN(model.n_qubits, 2)
    model.qnn.forward = other.forward


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.qnn.register_forward_hook(lambda *_: torch.ones(128) / 128),
        lambda model: model.mapping.layers[0].register_forward_hook(lambda *out: out[-1] / 2),
        lambda model: setattr(model.qnn, "forward", lambda: torch.ones(128) / 128),
        with_other_angles,
        lambda model: setattr(model.mapping.layers[1], "forward", torch.relu),
        lambda model: setattr(model, "qnn", QNN(7, 2, simulator="tensorcircuit")),
        lambda model: setattr(model, "__class__", Halved),
        lambda model: setattr(model, "__class__", Reversed),
        lambda model: setattr(model, "generate", lambda: torch.arange(model.n_weights) / 10),
    ],
)
def test_what_was_changed_is_heeded(change):
    model = build()
    before = in_one(model)["3.weight"]
    change(model)
    found, expected = model.weights(), GeneratedNetwork.weights(model)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    if not isinstance(model, Halved):  # standardised rows do not tell
        assert not torch.equal(found["3.weight"], before)
    functions = (weights["3.weight"].grad_fn for weights in (found, expected))
    assert len({function and function.name() for function in functions}) == 1


def test_a_patched_class_is_heeded(monkeypatch):
    model = build()
    monkeypatch.setattr(QNN, "forward", lambda qnn: torch.ones(128) / 128)
    expected = GeneratedNetwork.weights(model)
    assert all(torch.equal(w, expected[name]) for name, w in model.weights().items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m: setattr(m, "mapping", MappingNet(12)), ValueError, "bits must have shape"),
        (lambda m: setattr(m, "mapping", MappingNet(2)), ValueError, "bits must have shape"),
        (lambda m: setattr(m, "_bits", m._bits[:50]), ValueError, "must have"),
        (lambda m: m._bits.requires_grad_(), ValueError, "bits must not require a gradient"),
        (lambda m: m.mapping.double(), RuntimeError, "same dtype"),
        (lambda m: m.mapping.layers[2].double(), RuntimeError, "same dtype"),
        (lambda m: setattr(m, "qnn", QNN(8, 2)), ValueError, r"qnn must return shape \(128,\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    model = build()
    change(model)
    with pytest.raises(error, match=message):
        model.weights()


@pytest.mark.parametrize(("n_weights", "small"), [(292 * 448, True), (292 * 448 + 1, False)])
def test_the_largest_small_target(n_weights, small):
    model = QuantumTrain(nn.Linear(n_weights - 1, 1), 2, hidden=())  # 17 qubits
    one, three = model.weights(), GeneratedNetwork.weights(model)
    assert (one["weight"].grad_fn.name() == "_GenerateWeightsBackward") == small
    found, expected = (values_and_gradients(model, weights) for weights in (one, three))
    assert all(map(torch.equal, found, expected))


def test_a_divided_state_is_not_small(monkeypatch):
    net, _ = read_net(MappingNet(14).layers)
    assert is_small(net, 2**13)
    monkeypatch.setattr(walk_plan, "WHOLE", 2**8)  # vectors
    assert is_small(net, 2**12)
    assert not is_small(net, 2**12 + 1)


@pytest.mark.parametrize(("threads", "small"), [("one_thread", True), ("two_threads", False)])
def test_work_for_two_threads_is_not_small(threads, small, request):
    request.getfixturevalue(threads)
    net, _ = read_net(MappingNet(13, (64, 64)).layers)
    assert is_small(net, 8 * 448) == small


def test_no_angles_at_all():
    model = build()
    model.qnn.angles = nn.Parameter(torch.empty(0, 7))
    expected = GeneratedNetwork.weights(model)
    assert all(torch.equal(w, expected[name]) for name, w in model.weights().items())


def test_a_default_device_is_not_asked():
    model = build()
    expected = values_and_gradients(model, in_one(model))
    with torch.device("meta"):
        weights = in_one(model)
    assert all(map(torch.equal, values_and_gradients(model, weights), expected))


def test_without_numba(tmp_path):
    program = (
        "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None\n"
        "import torch; from qtlite import QuantumTrain\n"
        "QuantumTrain(torch.nn.Linear(9, 7), 2)(torch.ones(1, 9)).sum().backward()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


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
    monkeypatch.setattr(quantum_train, "generate_weights", None)  # would be an error
    build(**options).weights()


@pytest.mark.parametrize("which", ["angles", "weights", "mapping"])
def test_what_was_changed_before_the_backward_pass_is_noticed(which):
    model = build()
    weights = in_one(model)
    loss = sum(tensor.sum() for tensor in weights.values())
    changed = {
        "angles": model.qnn.angles,
        "weights": weights["0.weight"],
        "mapping": model.mapping.layers[0].weight,
    }
    changed[which].detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_two_models_before_one_backward_and_twice_the_same_graph():
    models = [build(n_blocks=n) for n in (2, 3)]
    alone = [values_and_gradients(model, in_one(model)) for model in models]
    both = [in_one(model) for model in models]
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
    weights = in_one(model)
    weight, parameters = weights["0.weight"], list(model.parameters())
    expected = torch.autograd.grad((-weight).sum(), parameters, retain_graph=True)
    negated = torch.complex(torch.zeros_like(weight), torch.ones_like(weight)).conj().imag
    assert negated.is_neg()
    found = torch.autograd.grad(weight, parameters, negated, retain_graph=True)
    assert all(map(torch.equal, found, expected))
    found = torch.autograd.grad((-weight).sum(), parameters, create_graph=True)
    assert all(map(torch.equal, found, expected))
