import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

from qtlite import QNN, QuantumTrain
from qtlite.circuit import build_circuit, ry_linear_cnot, ry_only
from qtlite.experiments.paper import TABLES
from qtlite.experiments.recipes import RECIPES, WEIGHT_DECAY, recipe_config
from qtlite.experiments.records.query import as_frame
from qtlite.experiments.report import figures, live_figures
from qtlite.mapping import MappingNet, scaled

SCRIPTS = Path(__file__).parents[2] / "book" / "_static"


def in_javascript(expression, given):
    """The value under node of a function of ``method`` for each of ``given``."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node on PATH: apt-get install nodejs")
    program = (
        f"const method = require({json.dumps(str(SCRIPTS / 'method.js'))});"
        "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"process.stdout.write(JSON.stringify(given.map((a) => {expression})));"
    )
    command = [node, "-e", program]
    return json.loads(subprocess.check_output(command, input=json.dumps(given), text=True))


@pytest.mark.parametrize("block", [ry_linear_cnot, ry_only])
def test_probabilities_in_javascript_are_tensorcircuits(block):
    given, expected = [], []
    for n_qubits, n_blocks in ((1, 1), (2, 3), (3, 2), (4, 3)):
        angles = 6 * np.random.default_rng(n_qubits).random((n_blocks, n_qubits)) - 3
        given.append([n_qubits, angles.tolist(), block is ry_linear_cnot])
        expected.append(build_circuit(n_qubits, angles, block).probability())
    for found, p in zip(in_javascript("method.probabilities(...a)", given), expected, strict=True):
        np.testing.assert_allclose(found, p, atol=1e-6)


def test_weights_in_javascript_are_the_mapping_nets():
    given, expected = [], []
    layers = live_figures.circuit().data["nets"]
    for n_qubits, net in enumerate(live_figures.mapping_nets(), 1):
        p = QNN(n_qubits, 2, generator=torch.Generator().manual_seed(5))().detach()
        given.append([p.tolist(), layers[n_qubits - 1]])
        expected.append(net(scaled(p)).detach())
    for found, weights in zip(in_javascript("method.weights(...a)", given), expected, strict=True):
        assert weights.std() > 0.1
        np.testing.assert_allclose(found, weights, atol=1e-3)  # the page has five decimals


def test_counts_in_javascript_are_those_of_a_model_and_the_papers():
    given, expected = [], []
    for n_weights in (1, 2, 3, 8, 9, 55):
        model = QuantumTrain(torch.nn.Linear(n_weights, 1, bias=False), n_blocks=3)
        given.append((n_weights, 3, (4, 20, 4)))
        expected.append((model.n_qubits, model.n_trainable))
    for dataset, n_qubits, hidden in (("mnist", 13, (4, 20, 4)), ("cifar10", 19, (40, 200, 40))):
        baseline, *rows = TABLES[dataset]
        given += [(baseline.n_trainable, row.n_blocks, hidden) for row in rows]
        expected += [(n_qubits, row.n_trainable) for row in rows]
    found = in_javascript("method.counts(...a)", given)
    assert [(counts["nQubits"], counts["total"]) for counts in found] == expected
    assert [live_figures.n_trained(*a) for a in given] == [n_trained for _, n_trained in expected]


def test_samples_follow_the_probabilities():
    p = [0.5, 0.0, 0.3, 0.2]
    (shares,) = np.array(in_javascript("method.sample(a, 20000)", [p]))
    assert shares.sum() == pytest.approx(1)
    assert shares[1] == 0
    assert np.abs(shares - p).max() < 0.02  # five standard errors and more
    still = live_figures.circuit_still(torch.full((1, 2), 1.0), MappingNet(2), n_shots=10)
    counts = [10 * bar.get_height() for bar in still.axes[0].patches]
    assert sum(counts) == pytest.approx(10, abs=1e-5)
    assert counts == pytest.approx([round(n) for n in counts], abs=1e-5)


def a_record(seed, accuracy, recipe="qtlite", dataset="mnist", model="qt", n_blocks=16, **changes):
    config = recipe_config(recipe, dataset, n_blocks=n_blocks, model=model, seed=seed, **changes)
    return {
        "id": f"{model}-{seed}-{len(changes)}",
        "config": config.to_dict(),
        "n_blocks": n_blocks if model == "qt" else None,
        "n_trainable": 457,
        "evaluated_on": "test",
        "test_accuracy": accuracy,
    }


def test_accuracy_gathers_seeds_and_leaves_departures_out():
    records = [
        a_record(1, 0.97),
        a_record(0, 0.96),
        a_record(0, 0.5, epochs=1),
        a_record(0, 0.99, model="classical"),
    ]
    data = live_figures.accuracy(as_frame(records), "mnist").data
    (recipe,) = data["recipes"]
    (point,) = recipe["points"]
    assert point["mean"] == pytest.approx(96.5)
    assert point["sd"] == pytest.approx(0.5**0.5)
    assert point["seeds"] == [[0, 96.0], [1, 97.0]]
    assert [line["accuracy"] for line in data["classical"]] == [98.45, 99.0]
    assert len(data["paper"]) == 8
    text = "dataset must be one of .* got 'digits'"
    refused(text, live_figures.accuracy, as_frame(records), "digits")


def test_every_recipe_and_every_level_line_is_drawn():
    records = [a_record(0, 0.96, recipe, "cifar10", n_blocks=19) for recipe in RECIPES]
    changes = [{"recipe": r, "weight_decay": d["cifar10"]} for r, d in WEIGHT_DECAY.items()]
    for each in ({}, *changes):
        records.append(a_record(0, 0.7, dataset="cifar10", model="classical", **each))
    data = live_figures.accuracy(as_frame(records), "cifar10").data
    assert [recipe["name"] for recipe in data["recipes"]] == list(RECIPES)
    lines = {line["name"] for line in data["classical"]}
    assert len(lines) == 4
    labels = [line.get_label() for line in figures.accuracy_by_blocks(data).axes[0].get_lines()]
    assert {f"recipe {name}" for name in RECIPES} | lines <= set(labels)


def test_html_holds_data_and_still_image():
    still = figures.lines([0, 1], {"a": [0, 1]}, x_label="x", y_label="y")
    figure = live_figures.LiveFigure("counts", {"text": "</script>"}, still, 'say "a"')
    page = figure._repr_mimebundle_()["text/html"]
    assert page.count("</script>") == 1
    assert "say &quot;a&quot;" in page
    assert "data:image/svg+xml;base64," in page
