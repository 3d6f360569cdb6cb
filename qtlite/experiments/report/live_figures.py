"""Figures that recompute on the static page: data and a still image here, drawing in live.js.

``book/_static/live.js`` replaces the still image where JavaScript runs. Everywhere else (a
notebook, a printed page, a reader without scripts) the still image is what is seen.
"""

import base64
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from qtlite.circuit import Block, ry_linear_cnot
from qtlite.experiments.models.controls import mapping_size
from qtlite.experiments.paper import TABLE_NAMES, TABLES
from qtlite.experiments.recipes import RECIPES, WEIGHT_DECAY
from qtlite.experiments.records.query import accuracy_percent, select
from qtlite.experiments.report import figures
from qtlite.experiments.report.comparisons import with_weight_decay
from qtlite.experiments.report.style import INK, save_svg
from qtlite.mapping import MappingNet, qubits_needed, scaled
from qtlite.qnn import QNN

N_QUBITS, N_BLOCKS = 4, 3  # the largest circuit that the figure offers
STEPS_IN_PI = 24  # steps of its sliders: pi/2 and pi are among them


@dataclass(frozen=True)
class LiveFigure:
    """A figure of ``live.js``: a notebook shows it as HTML.

    Args:
        name: of the function of ``live.js`` that draws it.
        data: argument of that function; plain JSON types.
        still: the image that is shown where no script runs.
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
        """Return the figure as part of a page."""
        data = json.dumps(self.data, separators=(",", ":")).replace("</", "<\\/")
        file = io.StringIO()
        save_svg(self.still, file)
        encoded = base64.b64encode(file.getvalue().encode()).decode()
        return (
            f'<div class="live" data-figure="{self.name}">'
            f'<script type="application/json">{data}</script><img alt="{html.escape(self.alt)}" '
            f'class="live-still" src="data:image/svg+xml;base64,{encoded}"></div>'
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": self.alt}


def mapping_nets() -> list[MappingNet]:
    """Return untrained mapping nets (4-20-4, tanh throughout) for 1 to 4 qubits.

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
    """Return the figure from angles, blocks, CNOTs and shots to probabilities and weights.

    Example:
        >>> sorted(circuit().data)
        ['n_blocks', 'n_qubits', 'nets', 'steps', 'steps_in_pi']
    """
    n_qubits, n_blocks = 3, 2
    size, limit = (N_BLOCKS, N_QUBITS), STEPS_IN_PI
    steps = np.random.default_rng(1).integers(-limit, limit, size, endpoint=True)
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
    angles: torch.Tensor, net: MappingNet, block: Block = ry_linear_cnot, n_shots: int | None = None
) -> Figure:
    """Draw probabilities and generated weights for one setting of the angles.

    Args:
        angles: phi, shape (L, N), radians.
        net: for N + 1 inputs.
        block: appends one block to the circuit.
        n_shots: number of measurements; exact probabilities if left out.

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
        return figures.state_bars({"probability": p, "generated weight": net(scaled(p))})


def counts() -> LiveFigure:
    """Return the figure of trained parameters against the size of the network.

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
    labels = {"x_label": "weights of the network, $M$", "y_label": "trained parameters"}
    curves["baseline: all $M$"] = sizes
    still = figures.lines(sizes, curves, **labels, log_x=True, log_y=True)
    marks = [(row["n_weights"], row["n_trainable"]) for row in paper]
    still.axes[0].plot(*zip(*marks, strict=True), "s", color=INK, ms=4)
    return LiveFigure(
        "counts",
        data,
        still,
        "Trained parameters over the weights of the network, both axes logarithmic: equal for the "
        "baseline, nearly level for Quantum-Train. The paper's rows lie on or above the curve of "
        "their mapping net, since most have more than 16 blocks.",
    )


def n_trained(n_weights: float, n_blocks: int, hidden: Sequence[int] = (4, 20, 4)) -> int:
    """Count angles and mapping net's parameters for M weights and L blocks.

    Example:
        >>> n_trained(6690, 16), n_trained(285226, 19, (40, 200, 40))
        (457, 17482)
    """
    n_qubits = qubits_needed(int(np.ceil(n_weights)))
    return n_qubits * n_blocks + mapping_size(n_qubits + 1, hidden)


def accuracy(
    runs: pd.DataFrame, dataset: str, recipes: Iterable[str] = tuple(RECIPES)
) -> LiveFigure:
    """Return the figure of test accuracy against blocks: the paper's, and each recipe's records.

    Args:
        runs: from ``read_runs``; only those of the dataset that follow their recipe are drawn.
        dataset: "mnist", "fashion_mnist" or "cifar10".
        recipes: those to draw.

    Raises:
        ValueError: if the dataset has no table.

    Example:
        >>> from qtlite.experiments.records.query import as_frame
        >>> accuracy(as_frame([]), "mnist").data["recipes"]
        []
    """
    if dataset not in TABLES:
        raise ValueError(f"dataset must be one of {tuple(TABLES)}, got {dataset!r}")
    found = select(runs, dataset=dataset, evaluated_on="test")
    paper = [row for row in TABLES[dataset] if row.model == "qt"]
    baselines = [{"name": "paper's baseline", "accuracy": TABLES[dataset][0].test_accuracy}]
    ours = select(found, model="classical", recipe="qtlite")
    if len(ours):
        baselines.append({"name": "our baseline", "accuracy": accuracy_percent(ours)[0]})
    drawn = []
    for recipe in recipes:
        decayed = with_weight_decay(runs, dataset, recipe)
        if len(decayed):
            name = f"our baseline, weight decay {WEIGHT_DECAY[recipe][dataset]:g}, {recipe}"
            baselines.append({"name": name, "accuracy": accuracy_percent(decayed)[0]})
        ours = select(found, model="qt", recipe=recipe)
        ours = ours[ours.n_blocks.isin([row.n_blocks for row in paper])]
        if len(ours):
            points = [_point(depth) for _, depth in ours.groupby("n_blocks")]
            drawn.append({"name": recipe, "points": points})
    of_paper = [
        {"n_blocks": r.n_blocks, "accuracy": r.test_accuracy, "n_trainable": r.n_trainable}
        for r in paper
    ]
    data = {"paper": of_paper, "classical": baselines, "recipes": drawn}
    return LiveFigure(
        "accuracy",
        data,
        figures.accuracy_by_blocks(data),
        "Test accuracy in percent over the number of blocks: the paper's rows, this book's "
        "records, and the baselines as level lines.",
    )


def _layers(net: MappingNet) -> list[dict[str, Any]]:
    """Return the weights of the linear layers, rounded to what a page needs."""
    return [
        {name: p.double().round(decimals=5).tolist() for name, p in layer.named_parameters()}
        for layer in net.layers
        if isinstance(layer, torch.nn.Linear)
    ]


def _point(runs: pd.DataFrame) -> dict[str, Any]:
    """Return what the figure shows of the runs of one depth."""
    mean, deviation, _ = accuracy_percent(runs)
    seeds = zip(runs.seed, 100 * runs.test_accuracy, strict=True)
    return {
        "n_blocks": int(runs.n_blocks.iloc[0]),
        "n_trainable": int(runs.n_trainable.iloc[0]),
        "mean": mean,
        "sd": deviation,
        "seeds": sorted([int(seed), float(accuracy)] for seed, accuracy in seeds),
    }
