"""The playground under Node beside PyTorch: same start, same order of images; its choices."""

import json
from itertools import islice

import numpy as np
import pytest
import torch
from playground_in_node import SCRIPTS, in_node
from refusals import refused
from scipy import stats
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from qtlite import QNN, MappingNet, QuantumTrain
from qtlite.circuit import ry_linear_cnot, ry_only
from qtlite.experiments.ansaetze import ry_ring_cnot
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.data.portable_random import PortableRandom
from qtlite.experiments.models.controls import build_control
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.recipes import recipe_config
from qtlite.mapping import FEATURES

BITS = {"minus_plus": (-1, 1), "zero_one": (0, 1)}
BLOCKS = {"linear": ry_linear_cnot, "ring": ry_ring_cnot, "none": ry_only}
CONTROLS = ("frozen_circuit", "hypernetwork", "random_subspace")
WITH = f"const state = require({json.dumps(str(SCRIPTS / 'state.js'))});"
CHOICES = {"source": "circuit", "blocks": 16, "entanglement": "linear", "feature": "scaled"}
CHOICES |= {"bits": "minus_plus", "normalisation": "row", "seed": 0}


def digits():
    """Network inputs and labels of the training digits, float64."""
    dataset = load_dataset("digits")
    return (dataset.train_images.double() / 255 - 0.3051) / 0.3233, dataset.train_labels


@torch.no_grad()
def started(state, found):
    """The page's model in qtlite, with the page's start, in double precision."""
    target, counts = paper_cnn("digits"), found["counts"]
    options = {"normalisation": state["normalisation"]}
    if state["source"] in ("circuit", "frozen_circuit"):
        qnn = QNN(13, state["blocks"], block=BLOCKS[state["entanglement"]])
        net = MappingNet(13, counts["widths"][1:-1], bit_values=BITS[state["bits"]])
        feature = FEATURES[state["feature"]]
        model = QuantumTrain(target, qnn=qnn, mapping=net, feature=feature, **options)
    else:
        model = build_control(state["source"], target, state["blocks"], **options)
    model.double()
    if state["source"] == "frozen_circuit":
        qnn.requires_grad_(False).angles.copy_(
            torch.tensor(found["angles"], dtype=torch.float64).view(-1, 13)
        )
    if state["source"] == "random_subspace":
        draw = PortableRandom(state["seed"])
        model._start.copy_(torch.as_tensor(draw.normal(6690)))
        directions = draw.normal(6690 * counts["total"]).reshape(6690, -1)
        model._directions.copy_(torch.as_tensor(directions) / counts["total"] ** 0.5)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(found["parameters"]) == counts["total"] == model.n_trainable
    vector_to_parameters(torch.tensor(found["parameters"], dtype=torch.float64), trained)
    return model


def close(found, expected, tolerance=1e-4):
    """Each number within ``tolerance`` of the largest, which is not 0."""
    expected = expected.detach().numpy()
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(
    "choices",
    [
        {"blocks": 1, "feature": "raw", "normalisation": "none", "bits": "zero_one"},
        {"blocks": 4, "feature": "root", "normalisation": "tensor", "entanglement": "ring"},
        {"blocks": 16, "feature": "scaled", "normalisation": "row", "entanglement": "none"},
        *({"source": source} for source in CONTROLS),
    ],
)
def test_weights_loss_and_gradients_are_pytorchs(choices):
    """Weights, loss and gradients of an untrained model of the page."""
    state = CHOICES | {"seed": 5} | choices
    found = in_node(
        """
        const training = new model.Training(given, data);
        const batch = training.batch().slice(0, 32);
        const weights = training.model.generate();
        const { trainImages, trainLabels } = data;
        const loss = training.network.loss(
          weights, trainImages, trainLabels, batch, training.byWeight);
        const gradient = training.model.backward(training.byWeight);
        const { parameters, angles, counts } = training.model;
        return { batch, weights, loss, gradient, parameters, angles, counts };
        """,
        state,
    )
    model, (images, labels) = started(state, found), digits()
    loss = F.cross_entropy(model(images[found["batch"]]), labels[found["batch"]])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    close(found["weights"], parameters_to_vector(model.weights().values()))
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-4)
    close(found["gradient"], parameters_to_vector(torch.autograd.grad(loss, trained)))


def train_in_pytorch(model, seed, n_steps=240):
    """``qtlite train`` with the page's order of images; the losses."""
    images, labels = digits()
    images, losses = images.to(next(model.parameters())), []
    optimiser = torch.optim.Adam(model.parameters(), lr=0.015)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.015, total_steps=240)
    seeds = (1_000_003 * (seed + 1) + epoch for epoch in range(20))
    orders = (PortableRandom(each).permutation(len(labels)) for each in seeds)
    batches = (batch for order in orders for batch in torch.as_tensor(order).split(128))
    for batch in islice(batches, n_steps):
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def test_first_losses_are_pytorchs():
    """In double precision: in single, PyTorch itself is 0.002 off after 20 steps."""
    found = in_node(
        """
        const training = new model.Training({}, data);
        const parameters = Array.from(training.model.parameters);
        const { counts } = training.model;
        return { parameters, counts, losses: Array.from({ length: 20 }, () => training.next()) };
        """
    )
    losses = train_in_pytorch(started(CHOICES, found), seed=0, n_steps=20)
    assert losses[-1] < losses[0] - 0.3
    np.testing.assert_allclose(found["losses"], losses, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_mean_accuracy_of_five_runs_is_pytorchs():
    runs = in_node(
        """
        return [0, 1, 2, 3, 4].map((seed) => {
          const training = new model.Training({ seed }, data);
          const parameters = Array.from(training.model.parameters);
          const { counts } = training.model;
          while (!training.isDone) training.next();
          return { parameters, counts, accuracy: training.evaluate().accuracy };
        });
        """
    )
    dataset, expected = load_dataset("digits"), []
    images = (dataset.test_images.float() / 255 - 0.3051) / 0.3233
    for seed, found in enumerate(runs):
        model = started(CHOICES, found).float()
        train_in_pytorch(model, seed)
        with torch.no_grad():
            right = model(images).argmax(dim=1) == dataset.test_labels
        expected.append(right.double().mean().item())
    mean = np.mean([run["accuracy"] for run in runs])
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
    refused(r"seed must be between 0 and 2\*\*53 - 1, got -1", PortableRandom, -1)


def test_the_schedule_is_pytorchs():
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
    dataset = load_dataset("digits")
    images = np.array(in_node("return data.images;"), dtype=np.uint8).reshape(-1, 1, 28, 28)
    expected = torch.cat([dataset.train_images, dataset.test_images]).numpy()
    # some pixels lie halfway between integers: CPUs whose PyTorch has no fused sums round otherwise
    difference = np.abs(images.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).sum() < 100
    labels = in_node("return [data.trainLabels, data.testLabels];")
    assert labels == [dataset.train_labels.tolist(), dataset.test_labels.tolist()]


def test_every_source_trains_as_many_parameters():
    states = [{"source": s, "blocks": n} for n in (1, 5, 16, 32) for s in ("circuit", *CONTROLS)]
    found = in_node("return given.map((state) => model.counts(state));", states)
    for counts, state in zip(found, states, strict=True):
        expected = 249 + 13 * state["blocks"]
        assert counts["total"] == counts["angles"] + counts["mapping"] == expected


# the page's choices: addresses, Python lines that run, theory


def test_addresses_round_trip_and_values_out_of_range_are_refused_by_name():
    found = in_node(
        WITH
        + """
        const full = { source: "frozen_circuit", blocks: 3, entanglement: "ring", feature: "root",
          bits: "zero_one", normalisation: "tensor", rate: 0.02, shots: 1000, seed: 9 };
        const query = state.toQuery(full);
        return [full, query, state.fromQuery(query), state.toQuery(model.DEFAULTS)];
        """
    )
    full, query, back, default = found
    assert query.startswith("?source=frozen_circuit&blocks=3")
    assert back == {"state": full, "refused": []}
    assert default == ""
    wrong = [
        "blocks=0",
        "blocks=33",
        "blocks=2.5",
        "seed=-1",
        "seed=",
        "rate=2",
        "rate=x",
        "shots=5",
    ]
    wrong += ["feature=constructor", "source=Circuit", "bits="]
    found = in_node(WITH + "return given.map((one) => state.fromQuery('?' + one).refused);", wrong)
    assert found == [[one] for one in wrong]


def test_learning_rates_are_the_recipes():
    states = [{"blocks": 16}, {"blocks": 5}, {"entanglement": "none", "blocks": 7}]
    states += [{"source": name} for name in CONTROLS]
    found = in_node(
        "return given.map((s) => model.recipeRate({ ...model.DEFAULTS, ...s }));", states
    )
    rates = [
        recipe_config("qtlite", model=s.get("source", "qt"), n_blocks=s.get("blocks", 16))
        for s in states
    ]
    assert found == [config.learning_rate for config in rates]


@pytest.mark.parametrize(
    "state",
    [
        {"blocks": 2, "entanglement": "ring", "feature": "root", "seed": 3},
        {"entanglement": "none", "bits": "zero_one", "normalisation": "none", "rate": 0.001},
        {"blocks": 1, "shots": 1000},
        {"source": "frozen_circuit", "blocks": 2, "normalisation": "tensor"},
        {"source": "hypernetwork"},
        {"source": "random_subspace", "blocks": 2},
    ],
)
def test_python_lines_train_the_same_model(state, capsys):
    lines, total = in_node(
        WITH
        + """
        const full = { ...model.DEFAULTS, ...given };
        return [state.toPython(full), model.counts(full).total];
        """,
        state,
    )
    assert max(map(len, lines.splitlines())) <= 100
    names = {}
    exec(lines.replace("epochs=20", "epochs=1"), names)
    assert capsys.readouterr().out.startswith(f"{total} trained numbers, accuracy 0.")
    assert names["model"].n_trainable == total
    assert names["model"].normalise.scheme == state.get("normalisation", "row")
    if state.get("source", "circuit") in ("circuit", "frozen_circuit"):
        assert names["model"].feature is FEATURES[state.get("feature", "scaled")]


def test_porter_thomas_is_the_square_of_a_normal_number():
    shares = [1e-4, 0.01, 0.1, 0.5, 0.9, 0.99]
    found = in_node(
        f"const charts = require({json.dumps(str(SCRIPTS / 'charts.js'))});"
        "return given.map(charts.porterThomas);",
        shares,
    )
    np.testing.assert_allclose(found, stats.chi2(1).isf(shares), rtol=2e-3, atol=1e-6)
