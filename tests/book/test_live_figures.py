import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from qtlite import QNN, QuantumTrain
from qtlite.circuit import build_circuit, ry_linear_cnot, ry_only
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.paper import TABLES
from qtlite.experiments.recipes import RECIPES, WEIGHT_DECAY, recipe_config
from qtlite.experiments.records.query import as_frame
from qtlite.experiments.report import figures, live_figures
from qtlite.mapping import MappingNet, scaled

SCRIPTS = Path(__file__).parents[2] / "book" / "_static"


def in_javascript(expression, argument):
    """What an expression in ``method`` and ``given`` has for its value under node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node on PATH: apt-get install nodejs")
    program = (
        f"const method = require({json.dumps(str(SCRIPTS / 'method.js'))});"
        "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"process.stdout.write(JSON.stringify({expression}));"
    )
    answer = subprocess.run(
        [node, "-e", program],
        input=json.dumps(argument),
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(answer.stdout)


@pytest.mark.parametrize("block", [ry_linear_cnot, ry_only])
@pytest.mark.parametrize(("n_qubits", "n_blocks"), [(1, 1), (2, 3), (3, 2), (4, 3)])
def test_probabilities_in_javascript_are_tensorcircuits(block, n_qubits, n_blocks):
    generator = torch.Generator().manual_seed(n_qubits)
    angles = 6 * torch.rand(n_blocks, n_qubits, generator=generator).numpy() - 3
    given = [n_qubits, angles.tolist(), block is ry_linear_cnot]
    found = in_javascript("method.probabilities(...given)", given)
    expected = build_circuit(n_qubits, angles, block).probability()
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("n_qubits", range(1, live_figures.N_QUBITS + 1))
def test_weights_in_javascript_are_the_mapping_nets(n_qubits):
    p = QNN(n_qubits, 2, generator=torch.Generator().manual_seed(5))().detach()
    net = live_figures.mapping_nets()[n_qubits - 1]
    layers = live_figures.circuit().data["nets"][n_qubits - 1]
    found = in_javascript("method.weights(given[0], given[1])", [p.tolist(), layers])
    expected = net(scaled(p)).detach()
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-3)  # the page has five decimals


@pytest.mark.parametrize("n_weights", [1, 2, 3, 8, 9, 55])
def test_counts_in_javascript_are_those_of_a_model(n_weights):
    model = QuantumTrain(torch.nn.Linear(n_weights, 1, bias=False), n_blocks=3)
    found = in_javascript("method.counts(given, 3, [4, 20, 4])", n_weights)
    assert found["nQubits"] == model.n_qubits
    assert found["total"] == model.n_trainable == live_figures.n_trained(n_weights, 3)


@pytest.mark.parametrize(("dataset", "hidden"), [("mnist", (4, 20, 4)), ("cifar10", (40, 200, 40))])
def test_counts_are_the_papers(dataset, hidden):
    n_weights = sum(p.numel() for p in paper_cnn(dataset).parameters())
    for row in TABLES[dataset][1:]:
        assert live_figures.n_trained(n_weights, row.n_blocks, hidden) == row.n_trainable
        found = in_javascript("method.counts(...given)", [n_weights, row.n_blocks, hidden])
        assert found["total"] == row.n_trainable


def test_samples_in_javascript_follow_the_probabilities():
    p = [0.5, 0.0, 0.3, 0.2]
    shares = np.array(in_javascript("method.sample(given, 20000)", p))
    assert shares.sum() == pytest.approx(1)
    assert shares[1] == 0
    assert np.abs(shares - p).max() < 0.02  # five standard errors and more


def test_sampled_still_differs_from_the_exact_one():
    angles, net = torch.full((1, 2), 1.0), MappingNet(2)
    exact = live_figures.circuit_still(angles, net)
    sampled = live_figures.circuit_still(angles, net, n_shots=10)

    def heights(figure):
        return [bar.get_height() for bar in figure.axes[0].patches]

    assert sum(heights(sampled)) == pytest.approx(1, abs=1e-6)
    assert heights(sampled) != pytest.approx(heights(exact), abs=1e-3)
    assert [10 * h for h in heights(sampled)] == pytest.approx(
        [round(10 * h) for h in heights(sampled)], abs=1e-5
    )


def a_record(seed, accuracy, n_blocks=16, model="qt", **changes):
    config = recipe_config("qtlite", "mnist", n_blocks=n_blocks, model=model, seed=seed, **changes)
    return {
        "id": f"{model}-{seed}-{len(changes)}",
        "config": config.to_dict(),
        "dataset": "mnist",
        "model": model,
        "recipe": "qtlite",
        "n_blocks": n_blocks if model == "qt" else None,
        "n_trainable": 457,
        "seed": seed,
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


def test_every_recipe_is_drawn():
    records = [a_record(0, 0.96) | {"recipe": recipe} for recipe in RECIPES]
    for record in records:
        record["config"] = recipe_config(record["recipe"], "mnist").to_dict()
    data = live_figures.accuracy(as_frame(records), "mnist").data
    assert [recipe["name"] for recipe in data["recipes"]] == list(RECIPES)
    labels = [line.get_label() for line in figures.accuracy_by_blocks(data).axes[0].get_lines()]
    assert {f"recipe {name}" for name in RECIPES} <= set(labels)


def test_every_level_line_is_drawn():
    records = [
        {**a_record(0, accuracy, model="classical"), "config": config.to_dict()}
        | {"dataset": "cifar10", "recipe": config.recipe}
        for accuracy, config in (
            (0.7, recipe_config("qtlite", "cifar10", model="classical")),
            *(
                (0.75, recipe_config(r, "cifar10", model="classical", weight_decay=d["cifar10"]))
                for r, d in WEIGHT_DECAY.items()
            ),
        )
    ]
    data = live_figures.accuracy(as_frame(records), "cifar10").data
    names = [line["name"] for line in data["classical"]]
    assert len(set(names)) == 4
    drawn = [line.get_label() for line in figures.accuracy_by_blocks(data).axes[0].get_lines()]
    assert set(names) <= set(drawn)


def test_accuracy_needs_a_table():
    with pytest.raises(ValueError, match="dataset must be one of .* got 'digits'"):
        live_figures.accuracy(as_frame([]), "digits")


def test_html_holds_data_and_still_image():
    still = figures.lines([0, 1], {"a": [0, 1]}, x_label="x", y_label="y")
    figure = live_figures.LiveFigure("counts", {"text": "</script>"}, still, 'say "a"')
    page = figure._repr_mimebundle_()["text/html"]
    assert page.count("</script>") == 1
    assert "say &quot;a&quot;" in page
    assert "data:image/svg+xml;base64," in page
