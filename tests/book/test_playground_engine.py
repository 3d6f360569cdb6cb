"""The playground's engine under Node beside PyTorch: same start, same order of images."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from playground_in_node import SCRIPTS, in_node
from torch import nn
from torch.nn import functional as F

from qtlite import QNN, QuantumTrain
from qtlite.circuit import ry_linear_cnot, ry_only
from qtlite.experiments.ansaetze import ry_ring_cnot
from qtlite.experiments.data.loading import load_dataset, to_float
from qtlite.experiments.data.portable_random import PortableRandom
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.report.playground import digits_script
from qtlite.inject import split_weights, weight_shapes
from qtlite.normalisation import normalise_weights, weight_scales

N_QUBITS, N_WEIGHTS, BATCH = 13, 6690, 128
BITS = {"minus_plus": (-1.0, 1.0), "zero_one": (0.0, 1.0)}
FEATURES = {
    "raw": lambda p: p,
    "scaled": lambda p: 2**N_QUBITS * p,
    "root": lambda p: (2**N_QUBITS * p + 1e-6).sqrt(),
}
CONTROLS = ("frozen_circuit", "hypernetwork", "random_subspace")


BLOCKS = {"linear": ry_linear_cnot, "ring": ry_ring_cnot, "none": ry_only}


def one_step(state, n_images=32):
    """Weights, loss and gradients of an untrained model of the page."""
    return in_node(
        """
        const training = new model.Training(given.state, data);
        const batch = training.batch().slice(0, given.n);
        const weights = training.model.generate();
        const { trainImages, trainLabels } = data;
        const loss = training.network.loss(
          weights, trainImages, trainLabels, batch, training.byWeight);
        const gradient = training.model.backward(training.byWeight);
        const { parameters, angles, counts, seen } = training.model;
        return { batch, weights, loss, gradient, parameters, angles, counts, seen,
                 byWeight: training.byWeight };
        """,
        {"state": state, "n": n_images},
    )


def digits():
    """Network inputs and labels of the training digits, float64."""
    dataset = load_dataset("digits")
    return (dataset.train_images.double() / 255 - 0.3051) / 0.3233, dataset.train_labels


def numbers_of(state, found, parameters):
    """The generated numbers in PyTorch, for parameters in the page's order."""
    counts = found["counts"]
    if state["source"] == "random_subspace":
        draw = PortableRandom(state["seed"])
        start = torch.as_tensor(draw.normal(N_WEIGHTS))
        directions = draw.normal(N_WEIGHTS * counts["total"]).reshape(N_WEIGHTS, -1)
        return start + torch.as_tensor(directions) / counts["total"] ** 0.5 @ parameters
    rows = torch.arange(N_WEIGHTS)[:, None] >> torch.arange(N_QUBITS - 1, -1, -1) & 1
    values = torch.tensor(BITS[state.get("bits", "minus_plus")], dtype=torch.float64)[rows]
    if state["source"] != "hypernetwork":
        is_trained = state["source"] == "circuit"
        angles = parameters[: counts["angles"]] if is_trained else torch.tensor(found["angles"])
        qnn = QNN(N_QUBITS, state["blocks"], block=BLOCKS[state["entanglement"]]).double()
        p = torch.func.functional_call(qnn, {"angles": angles.double().view(-1, N_QUBITS)}, ())
        values = torch.cat([values, FEATURES[state["feature"]](p)[:N_WEIGHTS, None]], dim=1)
    place = counts["angles"]
    for layer, (n_in, n_out) in enumerate(pairwise(counts["widths"])):
        weight, bias = parameters[place : place + (n_in + 1) * n_out].split([n_in * n_out, n_out])
        values = values @ weight.view(n_out, n_in).T + bias
        values = values.tanh() if layer + 2 < len(counts["widths"]) else values
        place += (n_in + 1) * n_out
    return values[:, 0]


def close(found, expected, tolerance=1e-4):
    """Each number within ``tolerance`` of the largest, which is not 0."""
    expected = expected.detach().numpy()
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def check_against_pytorch(state):
    found = one_step(state)
    images, labels = digits()
    parameters = torch.tensor(found["parameters"], dtype=torch.float64, requires_grad=True)
    target = paper_cnn("digits").double()
    shapes, scales = weight_shapes(target), weight_scales(target, weight_shapes(target))
    numbers = numbers_of(state, found, parameters)
    weights = normalise_weights(split_weights(numbers, shapes), scales, state["normalisation"])
    flat = torch.cat([tensor.flatten() for tensor in weights.values()])
    flat.retain_grad()
    logits = torch.func.functional_call(target, split_weights(flat, shapes), images[found["batch"]])
    loss = F.cross_entropy(logits, labels[found["batch"]])
    loss.backward()
    close(found["weights"], flat)
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-4)
    close(found["byWeight"], flat.grad)
    close(found["gradient"], parameters.grad)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("entanglement", BLOCKS)
def test_weights_loss_and_gradients_are_pytorchs(entanglement, feature):
    case = list(BLOCKS).index(entanglement) + 3 * list(FEATURES).index(feature)
    check_against_pytorch(
        {
            "source": "circuit",
            "blocks": (1, 4, 16)[case % 3],
            "entanglement": entanglement,
            "feature": feature,
            "bits": list(BITS)[case % 2],
            "normalisation": ("row", "tensor", "none")[case // 3],
            "seed": case,
        }
    )


@pytest.mark.parametrize("source", CONTROLS)
def test_weights_loss_and_gradients_of_controls_are_pytorchs(source):
    check_against_pytorch(
        {
            "source": source,
            "blocks": 16,
            "entanglement": "linear",
            "feature": "scaled",
            "normalisation": "row",
            "seed": 5,
        }
    )


def started(found, dtype):
    """A ``QuantumTrain`` with the page's start."""
    model = QuantumTrain(paper_cnn("digits").to(dtype), n_blocks=16)
    flat = torch.tensor(found["parameters"], dtype=torch.float64)
    place = 0
    with torch.no_grad():
        for parameter in model.parameters():  # angles, then the mapping net's layers
            parameter.copy_(flat[place : place + parameter.numel()].view_as(parameter))
            place += parameter.numel()
    assert place == len(flat) == model.n_trainable
    return model


def train_in_pytorch(model, seed, n_steps=None):
    """``qtlite train`` with the page's order of images; the losses."""
    images, labels = digits()
    images = images.to(next(model.parameters()))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.015)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.015, total_steps=240)
    losses = []
    for epoch in range(20):
        order = PortableRandom(1_000_003 * (seed + 1) + epoch).permutation(len(labels))
        for batch in torch.as_tensor(order).split(BATCH):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            if len(losses) == n_steps:
                return losses
    return losses


def test_first_losses_are_pytorchs():
    """In double precision: in single, PyTorch itself is 0.002 off after 20 steps."""
    found = in_node(
        """
        const training = new model.Training({}, data);
        const parameters = Array.from(training.model.parameters);
        return { parameters, losses: Array.from({ length: 20 }, () => training.next()) };
        """
    )
    expected = train_in_pytorch(started(found, torch.float64), seed=0, n_steps=20)
    assert expected[-1] < expected[0] - 0.3
    np.testing.assert_allclose(found["losses"], expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_mean_accuracy_of_five_runs_is_pytorchs():
    found = in_node(
        """
        return [0, 1, 2, 3, 4].map((seed) => {
          const training = new model.Training({ seed }, data);
          const parameters = Array.from(training.model.parameters);
          while (!training.isDone) training.next();
          return { parameters, accuracy: training.evaluate().accuracy };
        });
        """
    )
    dataset = load_dataset("digits")
    images = to_float(dataset.test_images, 0.3051, 0.3233)
    expected = []
    for seed, run in enumerate(found):
        model = started(run, torch.float32)
        train_in_pytorch(model, seed)
        with torch.no_grad():
            right = model(images).argmax(dim=1) == dataset.test_labels
        expected.append(right.double().mean().item())
    mean = np.mean([run["accuracy"] for run in found])
    print([[run["accuracy"] for run in found], expected])  # shown with -rP
    assert mean >= 0.9
    assert mean == pytest.approx(np.mean(expected), abs=0.015)


def test_random_numbers_are_the_same_bit_for_bit():
    found = in_node(
        """
        return [0, 7, 2 ** 53 - 1].map((seed) => {
          const draw = new random.PortableRandom(seed);
          draw.next();
          const hex = (half) => half.toString(16).padStart(8, "0");
          const bits = hex(draw.high) + hex(draw.low);
          return [bits, draw.uniform(), draw.normal(), draw.permutation(1000)];
        });
        """
    )
    for seed, (bits, uniform, normal, permutation) in zip((0, 7, 2**53 - 1), found, strict=True):
        draw = PortableRandom(seed)
        assert int(bits, 16) == draw.bits(1)[0]
        assert (uniform, normal) == (draw.uniform(1)[0], draw.normal(1)[0])
        assert permutation == draw.permutation(1000).tolist()


def test_random_numbers_are_distributed_as_they_should_be():
    draw = PortableRandom(3)
    uniform, normal = draw.uniform(100_000), draw.normal(100_000)
    assert 0 <= uniform.min() < 1e-4
    assert 1 - 1e-4 < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.005
    assert abs(normal.mean()) < 0.015
    assert abs(normal.std() - 1) < 0.015
    assert abs(np.mean(np.abs(normal) < 1) - 0.6827) < 0.01  # of a normal distribution


def test_seed_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"seed must be between 0 and 2\*\*53 - 1, got -1"):
        PortableRandom(-1)


def test_learning_rates_are_pytorchs():
    found = in_node(
        "return given.map((step) => model.oneCycle(step, 240, 0.015));", list(range(240))
    )
    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.015)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.015, total_steps=240)
    for step in found:
        group = optimiser.param_groups[0]
        assert step["rate"] == pytest.approx(group["lr"], rel=1e-9)
        assert step["beta"] == pytest.approx(group["betas"][0], rel=1e-9)
        optimiser.step()
        schedule.step()


def test_frequencies_follow_the_probabilities():
    p = torch.distributions.Dirichlet(torch.ones(8)).sample().double()
    p[3] = 0
    p /= p.sum()
    found = in_node(
        f"""
        const engine = require({json.dumps(str(SCRIPTS / "engine.js"))});
        return engine.sample(given, 200000, new random.PortableRandom(1), new Float64Array(8));
        """,
        p.tolist(),
    )
    assert sum(found) == pytest.approx(1)
    assert found[3] == 0
    assert np.abs(np.array(found) - p.numpy()).max() < 0.006  # five standard errors


def test_digits_are_the_datasets():
    assert (SCRIPTS / "digits.js").read_text(encoding="utf-8") == digits_script()
    dataset = load_dataset("digits")
    images = np.array(in_node("return data.images;"), dtype=np.uint8).reshape(-1, 1, 28, 28)
    expected = torch.cat([dataset.train_images, dataset.test_images]).numpy()
    # some pixels lie halfway between integers: CPUs whose PyTorch has no fused sums round otherwise
    difference = np.abs(images.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).sum() < 100
    labels = in_node("return [data.trainLabels, data.testLabels];")
    assert labels == [dataset.train_labels.tolist(), dataset.test_labels.tolist()]


@pytest.mark.parametrize("blocks", [1, 5, 16, 32])
def test_every_source_trains_as_many_parameters(blocks):
    sources = ("circuit", *CONTROLS)
    found = in_node(
        "return given.map((state) => model.counts(state));",
        [{"source": source, "blocks": blocks} for source in sources],
    )
    expected = QuantumTrain(paper_cnn("digits"), n_blocks=blocks).n_trainable
    for counts in found:
        assert counts["total"] == counts["angles"] + counts["mapping"] == expected
