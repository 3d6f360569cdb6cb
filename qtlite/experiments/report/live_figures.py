"""Figures that recompute on the static page: data and a still image here, drawing in live.js.

``book/_static/live.js`` replaces the still image where JavaScript runs. Everywhere else (a
notebook, a printed page, a reader without scripts) the still image is what is seen.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from qtlite.circuit import Block, ry_linear_cnot
from qtlite.experiments.paper import TABLE_NAMES, TABLES
from qtlite.experiments.recipes import RECIPES, WEIGHT_DECAY
from qtlite.experiments.report import plots
from qtlite.experiments.report.tables import accuracy_percent, select, with_weight_decay
from qtlite.mapping import MappingNet, mapping_size, qubits_needed, scaled
from qtlite.qnn import QNN

N_QUBITS, N_BLOCKS = 4, 3  # the most that the circuit's figure offers
STEPS_IN_PI = 24  # its sliders' steps, so that pi/2 and pi are among them


@dataclass(frozen=True)
class LiveFigure:
    """What a notebook shows for a figure of ``live.js``: shows itself as HTML.

    Args:
        name: which of the functions of ``live.js`` draws it.
        data: what that function is given; plain JSON types.
        still: the image for where no script runs.
        alt: the image in words.

    Example:
        >>> figure = LiveFigure("counts", {"n_blocks": 16}, Figure(), "Curves.")
        >>> figure.html().startswith('<div class="live" data-figure="counts">')
        True
    """

    name: str
    data: Mapping[str, Any]
    still: Figure
    alt: str

    def html(self) -> str:
        """The figure as part of a page."""
        file = io.StringIO()
        plots.save_svg(self.still, file)
        image = base64.b64encode(file.getvalue().encode()).decode()
        data = json.dumps(self.data, separators=(",", ":")).replace("</", "<\\/")
        return (
            f'<div class="live" data-figure="{self.name}">'
            f'<script type="application/json">{data}</script>'
            f'<img class="live-still" alt="{html.escape(self.alt)}" '
            f'src="data:image/svg+xml;base64,{image}"></div>'
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": self.alt}


def mapping_nets() -> list[MappingNet]:
    """The untrained mapping nets (4-20-4, tanh throughout) of the circuit's figure, 1 qubit to 4.

    Example:
        >>> [net.layers[0].in_features for net in mapping_nets()]
        [2, 3, 4, 5]
    """
    nets = []
    for n_qubits in range(1, N_QUBITS + 1):
        generator = torch.Generator().manual_seed(n_qubits)
        net = MappingNet(n_qubits, generator=generator)
        p = QNN(n_qubits, N_BLOCKS, generator=generator)().detach()
        net.standardise_output(scaled(p))
        nets.append(net)
    return nets


def circuit() -> LiveFigure:
    """Angles, qubits, blocks, CNOTs and shots to probabilities to generated weights.

    Example:
        >>> sorted(circuit().data)
        ['n_blocks', 'n_qubits', 'nets', 'steps', 'steps_in_pi']
    """
    n_qubits, n_blocks = 3, 2
    steps = np.random.default_rng(1).integers(
        -STEPS_IN_PI, STEPS_IN_PI + 1, size=(N_BLOCKS, N_QUBITS)
    )
    nets = mapping_nets()
    data = {
        "n_qubits": n_qubits,
        "n_blocks": n_blocks,
        "steps_in_pi": STEPS_IN_PI,
        "steps": steps.tolist(),
        "nets": [_layers(net) for net in nets],
    }
    angles = torch.as_tensor(steps[:n_blocks, :n_qubits] * np.pi / STEPS_IN_PI).float()
    still = circuit_still(angles, nets[n_qubits - 1])
    return LiveFigure(
        "circuit",
        data,
        still,
        "Bars over the basis states of three qubits: eight probabilities, and the eight weights of "
        "both signs that the mapping net makes of them.",
    )


def circuit_still(
    angles: torch.Tensor,
    net: MappingNet,
    block: Block = ry_linear_cnot,
    n_shots: int | None = None,
) -> Figure:
    """Draw probabilities and generated weights for one setting of the angles.

    Args:
        angles: phi, shape (L, N), radians.
        net: for N + 1 inputs.
        block: appends one block to the circuit.
        n_shots: count this many measurements; exact probabilities if left out.

    Example:
        >>> figure = circuit_still(torch.zeros(1, 2), mapping_nets()[1])
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['probability', 'generated weight']
    """
    n_blocks, n_qubits = angles.shape
    qnn = QNN(n_qubits, n_blocks, block=block)
    qnn.load_state_dict({"angles": angles})
    with torch.no_grad():
        p = qnn()
        if n_shots is not None:
            counts = np.random.default_rng(0).multinomial(n_shots, p.double() / p.double().sum())
            p = torch.as_tensor(counts / n_shots, dtype=p.dtype)
        return plots.state_bars({"probability": p, "generated weight": net(scaled(p))})


def counts() -> LiveFigure:
    """Trained parameters against the size of the network, the paper's rows marked.

    Example:
        >>> counts().data["paper"][0]["name"]
        'Table I, QT-16'
    """
    paper = []
    for dataset in ("mnist", "cifar10"):
        n_weights = TABLES[dataset][0].n_trainable  # the classical network's
        paper += [
            {
                "name": f"{TABLE_NAMES[dataset]}, QT-{row.n_blocks}",
                "n_weights": n_weights,
                "n_trainable": row.n_trainable,
                "accuracy": row.test_accuracy,
            }
            for row in TABLES[dataset]
            if row.model == "qt"
        ]
    hidden = [(4, 20, 4), (40, 200, 40)]
    data = {"n_weights": 6690, "n_blocks": 16, "hidden": hidden, "paper": paper}
    sizes = np.logspace(1, 12, 111)
    curves = {
        f"{'-'.join(map(str, widths))}, 16 blocks": [n_trained(m, 16, widths) for m in sizes]
        for widths in hidden
    }
    marks = [(row["n_weights"], row["n_trainable"]) for row in paper]
    return LiveFigure(
        "counts",
        data,
        plots.parameter_counts(sizes, curves, marks),
        "Trained parameters over the weights of the network, both axes logarithmic: as usual they "
        "are equal; with Quantum-Train the curve is nearly level. The paper's rows lie on it.",
    )


def n_trained(n_weights: float, n_blocks: int, hidden: Sequence[int] = (4, 20, 4)) -> int:
    """Angles and mapping net's parameters for M weights and L blocks of the paper's circuit.

    Example:
        >>> n_trained(6690, 16), n_trained(285226, 19, (40, 200, 40))
        (457, 17482)
    """
    n_qubits = qubits_needed(int(np.ceil(n_weights)))
    return n_qubits * n_blocks + mapping_size(n_qubits + 1, hidden)


def accuracy(
    records: Iterable[Mapping[str, Any]], dataset: str, recipes: Iterable[str] = tuple(RECIPES)
) -> LiveFigure:
    """Test accuracy against the number of blocks: the paper's, and each recipe's records.

    Args:
        records: any; those that do not follow their recipe, or of other data, are left out.
        dataset: "mnist", "fashion_mnist" or "cifar10".
        recipes: those to draw.

    Raises:
        ValueError: if the dataset has no table.

    Example:
        >>> accuracy([], "mnist").data["recipes"]
        []
    """
    if dataset not in TABLES:
        raise ValueError(f"dataset must be one of {tuple(TABLES)}, got {dataset!r}")
    records = list(records)
    found = select(records, dataset=dataset, evaluated_on="test")
    paper = [row for row in TABLES[dataset] if row.model == "qt"]
    usual = [{"name": "paper, as usual", "accuracy": TABLES[dataset][0].test_accuracy}]
    if ours := select(found, model="classical", recipe="qtlite"):
        usual.append({"name": "ours, as usual", "accuracy": accuracy_percent(ours)[0]})
    drawn = []
    for recipe in recipes:
        if decayed := with_weight_decay(records, dataset, recipe):
            name = f"ours, as usual, weight decay {WEIGHT_DECAY[recipe][dataset]:g}, {recipe}"
            usual.append({"name": name, "accuracy": accuracy_percent(decayed)[0]})
        points = [
            _point(select(found, model="qt", recipe=recipe, n_blocks=row.n_blocks)) for row in paper
        ]
        if any(points):
            drawn.append({"name": recipe, "points": [point for point in points if point]})
    data = {
        "paper": [
            {
                "n_blocks": row.n_blocks,
                "accuracy": row.test_accuracy,
                "n_trainable": row.n_trainable,
            }
            for row in paper
        ],
        "classical": usual,
        "recipes": drawn,
    }
    return LiveFigure(
        "accuracy",
        data,
        plots.accuracy_by_blocks(data),
        "Test accuracy in percent over the number of blocks: the paper's rows and this book's "
        "records, with the networks that were trained as usual as level lines.",
    )


def _layers(net: MappingNet) -> list[dict[str, Any]]:
    """Weights of the linear layers, rounded to what a page needs."""
    return [
        {
            name: tensor.double().round(decimals=5).tolist()
            for name, tensor in layer.named_parameters()
        }
        for layer in net.layers
        if isinstance(layer, torch.nn.Linear)
    ]


def _point(records: list[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not records:
        return None
    mean, deviation, _ = accuracy_percent(records)
    return {
        "n_blocks": records[0]["n_blocks"],
        "n_trainable": records[0]["n_trainable"],
        "mean": mean,
        "sd": deviation,
        "seeds": sorted([record["seed"], 100 * record["test_accuracy"]] for record in records),
    }
