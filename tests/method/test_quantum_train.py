import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from refusals import refused
from torch import nn

from qtlite import QNN, MappingNet, QuantumTrain, plain
from qtlite.circuit import ry_only
from qtlite.experiments.models.build import build_model
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.paper import TABLES
from qtlite.experiments.recipes import recipe_config
from qtlite.inject import split_weights, weight_shapes
from qtlite.mapping import FEATURES
from qtlite.normalisation import normalise_weights, weight_scales

# the other circuits of a table differ only in the number of blocks
ROWS = [(dataset, row) for dataset, rows in TABLES.items() for row in rows[:2]]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("dataset", "row"), ROWS, ids=lambda x: getattr(x, "n_blocks", x))
def test_trainable_parameters_of_rows_of_the_papers_tables(dataset, row):
    changes = {"model": row.model} | ({"n_blocks": row.n_blocks} if row.n_blocks else {})
    model = build_model(recipe_config("qtlite", dataset, **changes))
    assert sum(p.numel() for p in model.parameters()) == row.n_trainable
    if row.model == "qt":
        assert model.n_trainable == row.n_trainable
        assert model.n_weights == (285226 if dataset == "cifar10" else 6690)
        assert model.n_qubits == (19 if dataset == "cifar10" else 13)


@pytest.mark.parametrize(
    ("normalisation", "feature", "way"),
    [
        ("none", "raw", nullcontext),
        ("tensor", "root", nullcontext),
        ("row", "scaled", nullcontext),
        ("row", "scaled", plain),
    ],
)
def test_gradients_through_everything_against_finite_differences(normalisation, feature, way):
    torch.manual_seed(0)
    target = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.ReLU(), nn.Linear(2, 2))
    options = {"normalisation": normalisation, "feature": feature}
    model = QuantumTrain(target, 2, mapping=MappingNet(5, (4, 3)), **options).double()
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    names, values = zip(*model.named_parameters(), strict=True)

    def logits(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x,))

    with way():
        assert torch.autograd.gradcheck(logits, values, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_plain_and_fast_weights_and_gradients_agree(dtype, tolerance):
    model = QuantumTrain(paper_cnn("mnist").to(dtype), 3, generator=seeded(0))
    results = []
    for way in (nullcontext, plain):
        with way():
            weights = torch.cat([w.flatten() for w in model.weights().values()])
        direction = torch.randn(6690, dtype=dtype, generator=seeded(1))
        gradients = torch.autograd.grad(weights @ direction, list(model.parameters()))
        results.append([weights.detach(), *gradients])
    for fast, slow in zip(*results, strict=True):
        assert (fast - slow).abs().max() <= tolerance * slow.abs().max()


def test_only_angles_and_mapping_are_trained_and_stored():
    model = QuantumTrain(nn.Linear(9, 5), 2)
    owners = {name.partition(".")[0] for name, _ in model.named_parameters()}
    assert owners == {"qnn", "mapping"}
    stored = {name for name in model.state_dict() if not name.startswith(("qnn.", "mapping."))}
    assert stored == {"normalise._extra_state"}
    model.qnn.requires_grad_(False)
    assert model.n_trainable == sum(p.numel() for p in model.mapping.parameters())


def test_parts_assembled_by_hand_give_the_same_bit_for_bit():
    target = nn.Sequential(nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3))
    whole = QuantumTrain(target, 4, generator=seeded(3))
    generator = seeded(3)
    qnn, net = QNN(7, 4, generator=generator), MappingNet(7, generator=generator)
    column = FEATURES["scaled"](qnn())[:68]  # of the first basis states
    net.standardise_output(column.detach())
    shapes = weight_shapes(target)
    weights = normalise_weights(split_weights(net(column), shapes), weight_scales(target, shapes))
    assert list(weights) == list(whole.weights())
    generator = seeded(3)
    qnn, net = QNN(7, 4, generator=generator), MappingNet(7, generator=generator)
    parts = QuantumTrain(target, qnn=qnn, mapping=net).weights()
    for name, tensor in whole.weights().items():
        assert torch.equal(parts[name], tensor)
        torch.testing.assert_close(weights[name], tensor, atol=1e-6, rtol=0)


def test_a_step_passes_the_boxes_of_figure_1_in_their_order():
    model, seen = QuantumTrain(paper_cnn("mnist"), 16), []
    for name in ("qnn", "mapping", "normalise", "target"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))
    model(torch.zeros(1, 1, 28, 28)).sum().backward()
    assert seen == ["qnn", "mapping", "normalise", "target"]


def test_a_hook_and_a_forward_of_ones_own_are_heard():
    class Doubled(MappingNet):
        def forward(self, column):
            return 2 * super().forward(column)

    model = QuantumTrain(nn.Linear(9, 4), 2, normalisation="none")
    before = model.weights()["weight"].detach()
    model.mapping.register_forward_hook(lambda net, inputs, output: 3 * output)
    assert torch.equal(model.weights()["weight"], 3 * before)
    model.mapping.__class__ = Doubled
    assert torch.equal(model.weights()["weight"], 6 * before)


def test_classical_network_runs_in_an_interpreter_that_never_imports_tensorcircuit(tmp_path):
    from qtlite.export import save_safetensors

    model = QuantumTrain(paper_cnn("mnist"), 2).eval()
    x = torch.randn(3, 1, 28, 28)
    torch.save(x, tmp_path / "x.pt")
    save_safetensors(model.to_classical(), tmp_path / "network.safetensors")
    script = """
import sys, torch
from qtlite.experiments.models.targets import paper_cnn
from qtlite.export import load_safetensors
network = paper_cnn("mnist").eval()
load_safetensors(network, "network.safetensors")
torch.save(network(torch.load("x.pt", weights_only=True)), "logits.pt")
assert not [name for name in sys.modules if name.startswith(("tensorcircuit", "pennylane"))]
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert torch.equal(torch.load(tmp_path / "logits.pt", weights_only=True), model(x))


@pytest.mark.parametrize("normalisation", ["none", "tensor", "row"])
def test_one_weight_is_possible(normalisation):
    model = QuantumTrain(nn.Linear(1, 1, bias=False), 1, normalisation=normalisation)
    assert model.n_qubits == 1
    assert model.weights()["weight"].isfinite().all()


def test_a_model_takes_the_targets_precision_and_may_change_it():
    model = QuantumTrain(nn.Linear(9, 2).double(), 2)
    assert model.qnn.angles.dtype == torch.float64
    for dtype in (torch.float64, torch.float32):
        x = torch.randn(3, 9, dtype=dtype)
        assert model.to(dtype)(x).dtype == dtype
        assert torch.equal(model.to_classical()(x), model(x))


class Mixed(nn.Module):
    """A layer of its own precision, and a complex buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 2).double()
        self.register_buffer("phase", torch.tensor([1 + 2j]))

    def forward(self, x):
        return self.second(self.first(x).double()) * self.phase


def test_what_is_not_generated_keeps_its_precision():
    model = QuantumTrain(Mixed(), n_blocks=1, names=["first.weight"])
    plain = model.to_classical()
    for network in (model.target, plain):
        assert network.second.weight.dtype == torch.float64
        assert network.phase.tolist() == [1 + 2j]
    x = torch.randn(5, 4)
    assert torch.equal(model(x), plain(x))


def test_each_layer_keeps_its_own_mode():
    model = QuantumTrain(nn.Sequential(nn.Linear(9, 4), nn.BatchNorm1d(4)), 2)
    model.target[1].eval()
    plain = model.to_classical()
    assert (plain.training, plain[1].training) == (True, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalisation": "layer"}, "normalisation must be one of .*, got 'layer'"),
        ({"feature": "log"}, "feature must be one of .*, got 'log'"),
        ({"feature": "log", "normalisation": "none"}, "feature must be one of .*, got 'log'"),
        ({"qnn": QNN(3, 1)}, r"qnn must return 16 finite numbers from 0, got"),
        ({"qnn": QNN(5, 1)}, r"qnn must return 16 finite numbers from 0, got"),
        ({"names": ["nope"]}, r"names must list some of .*, got \['nope'\]"),
        ({"names": []}, r"names must list some of .*, got \[\]"),
        ({"qnn": QNN(4, 1), "n_blocks": 1}, "n_blocks or a module qnn must be given, got 1, <cla"),
        ({"qnn": QNN(4, 1), "block": ry_only}, "qnn must be given, got None, <class .*QNN"),
        ({"qnn": nn.Linear(2, 2)}, "qnn must take no input, got <class .*Linear"),
        ({"n_blocks": None}, "qnn must be given, got None, <class .NoneType"),
        ({"n_blocks": 0}, "n_blocks must be a whole number from 1 to .*, got 0"),
        ({"mapping": MappingNet(3)}, "mapping must be a MappingNet of 4 qubits, got 3"),
        ({"weight_gain": float("inf")}, "weight_gain must be a number .*, got inf"),
        ({"weight_gain": 1e-300}, "weight_gain must be a number .*, got 1e-300"),
    ],
)
def test_bad_options(options, message):
    given = {} if "qnn" in options else {"n_blocks": 1}
    refused(message, QuantumTrain, nn.Linear(3, 3), **given | options)
