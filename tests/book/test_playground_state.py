"""The playground's choices under Node: addresses, names, Python lines that run, files, theory."""

import hashlib
import json
import subprocess

import numpy as np
import pytest
import torch
from playground_in_node import SCRIPTS, in_node
from scipy import stats

from qtlite.experiments.recipes import recipe_config
from qtlite.export import load_json
from qtlite.mapping import FEATURES

WITH = f"const state = require({json.dumps(str(SCRIPTS / 'state.js'))});"


def test_addresses_round_trip():
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


@pytest.mark.parametrize(
    "wrong",
    ["blocks=0", "blocks=33", "blocks=2.5", "seed=-1", "seed=", "rate=2", "rate=x", "shots=5",
     "feature=constructor", "source=Circuit", "bits="],
)  # fmt: skip
def test_values_out_of_range_are_refused_by_name(wrong):
    state, default = in_node(WITH + "return [state.fromQuery(given), model.DEFAULTS];", f"?{wrong}")
    assert state == {"state": default, "refused": [wrong]}


def test_names_tell_runs_apart():
    names = in_node(
        WITH + "return given.map((s) => state.nameOf({ ...model.DEFAULTS, ...s }));",
        [
            {},
            {"blocks": 4, "entanglement": "none", "seed": 2},
            {"source": "hypernetwork", "entanglement": "none", "feature": "raw"},
            {"feature": "raw", "bits": "zero_one", "normalisation": "none", "shots": 1000},
        ],
    )
    assert names == [
        "trained circuit, L = 16",
        "trained circuit, L = 4, no CNOTs, seed 2",
        "hypernetwork, L = 16",
        "trained circuit, L = 16, sees p, bits 0 and 1, not normalised, 1,000 shots",
    ]


def test_learning_rates_are_the_recipes():
    states = [
        ({"blocks": 16}, {"model": "qt"}),
        ({"blocks": 5}, {"model": "qt", "n_blocks": 5}),
        ({"entanglement": "none", "blocks": 7}, {"model": "qt", "n_blocks": 7}),
        *(
            ({"source": name}, {"model": name})
            for name in ("frozen_circuit", "hypernetwork", "random_subspace")
        ),
    ]
    found = in_node(
        "return given.map((s) => model.recipeRate({ ...model.DEFAULTS, ...s }));",
        [state for state, _ in states],
    )
    assert found == [recipe_config("qtlite", **changes).learning_rate for _, changes in states]


@pytest.mark.parametrize(
    "state",
    [
        {},
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


def test_files_are_qtlites(tmp_path):
    """With the checksum, which the browser computes, put in as it does."""
    content, weights = in_node(
        f"""
        const file = require({json.dumps(str(SCRIPTS / "file.js"))});
        const training = new model.Training({{ seed: 1 }}, data);
        const weights = Float32Array.from(training.model.generate());
        const content = file.write({{
          weights, name: "trained circuit, L = 16", nTrained: 457, accuracy: 0.5, nEpochs: 0,
          tensors: model.TENSORS, mean: model.PIXEL_MEAN, std: model.PIXEL_STD,
        }});
        return [content, weights];
        """
    )
    seal = subprocess.run(
        ["node", "-e", f"require({json.dumps(str(SCRIPTS / 'file.js'))}).seal("
         "require('fs').readFileSync(0, 'utf8')).then((text) => process.stdout.write(text))"],
        input=content, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert hashlib.sha256(content.encode()).hexdigest() in seal
    path = tmp_path / "playground.json"
    path.write_text(seal)
    network, about = load_json(path)
    flat = torch.cat([tensor.flatten() for tensor in network.state_dict().values()])
    np.testing.assert_array_equal(flat.numpy(), np.float32(weights))
    assert (about["model"], about["n_trainable"], about["n_weights"]) == (
        "Playground: trained circuit, L = 16",
        "457",
        "6690",
    )
