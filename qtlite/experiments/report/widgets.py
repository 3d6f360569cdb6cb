"""Controls for a live notebook (ipywidgets); on the static page, figures that need no kernel.

A chapter calls one function. In a notebook that somebody runs it gives controls. While the book
is built (``book/build.py`` sets ``QTLITE_STATIC``), or where ipywidgets is missing, it gives the
figure of ``live_figures``: a widget without a kernel is dead.
"""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure

from qtlite.circuit import ry_linear_cnot, ry_only
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import Dataset, load_dataset, to_float
from qtlite.experiments.models.build import build_model, classical
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.report import live_figures, plots
from qtlite.experiments.train.fitting import fit_by_epochs
from qtlite.experiments.train.loop import evaluate

if TYPE_CHECKING:
    import ipywidgets

STATIC_VARIABLE = "QTLITE_STATIC"
SHOTS = {"exact": None, "10": 10, "100": 100, "1,000": 1000, "10,000": 10000}


def is_live() -> bool:
    """Tell whether controls would work: a kernel will be there, and ipywidgets is.

    Example:
        >>> os.environ[STATIC_VARIABLE] = "1"
        >>> is_live()
        False
        >>> del os.environ[STATIC_VARIABLE]
    """
    return not os.environ.get(STATIC_VARIABLE) and find_spec("ipywidgets") is not None


def circuit() -> ipywidgets.VBox | live_figures.LiveFigure:
    """Angles, qubits, blocks, CNOTs and shots to probabilities to generated weights."""
    return circuit_controls() if is_live() else live_figures.circuit()


def counts() -> ipywidgets.VBox | live_figures.LiveFigure:
    """Trained parameters for a network of any size."""
    return count_controls() if is_live() else live_figures.counts()


def training() -> ipywidgets.VBox | Figure:
    """Train on digits and watch the loss; the static page has the finished curve."""
    if is_live():
        return training_controls()
    histories = {}
    for n_blocks in (4, 16, 64):
        *_, history = train_by_epochs(recipe_config("qtlite", n_blocks=n_blocks, epochs=8))
        histories[f"{n_blocks} blocks"] = history
    return plots.loss_curves(histories)


def circuit_controls() -> ipywidgets.VBox:
    """The controls behind ``circuit``: a change in any of them draws anew.

    Example:
        >>> box = circuit_controls()
        >>> [control.description for control in box.children[0].children]
        ['qubits', 'blocks', 'CNOTs', 'shots']
    """
    import ipywidgets

    n_qubits = ipywidgets.IntSlider(3, 1, live_figures.N_QUBITS, description="qubits")
    n_blocks = ipywidgets.IntSlider(2, 1, live_figures.N_BLOCKS, description="blocks")
    entangled = ipywidgets.Checkbox(True, description="CNOTs")
    shots = ipywidgets.Dropdown(options=list(SHOTS.items()), description="shots")
    data = live_figures.circuit().data
    step = np.pi / live_figures.STEPS_IN_PI
    start = np.array(data["steps"]) * step
    sliders = [
        [
            ipywidgets.FloatSlider(
                float(angle),
                min=-np.pi,
                max=np.pi,
                step=step,
                description=f"{block}, q{qubit}",
            )
            for qubit, angle in enumerate(row)
        ]
        for block, row in enumerate(start, 1)
    ]
    nets = live_figures.mapping_nets()
    grid, picture = ipywidgets.HBox(), ipywidgets.HTML()

    def draw(change: Any = None) -> None:
        shown = [row[: n_qubits.value] for row in sliders[: n_blocks.value]]
        angles = torch.tensor([[slider.value for slider in row] for row in shown])
        block = ry_linear_cnot if entangled.value else ry_only
        net = nets[n_qubits.value - 1]
        grid.children = [ipywidgets.VBox(row) for row in shown]
        picture.value = _image(live_figures.circuit_still(angles, net, block, shots.value))

    _on_change([n_qubits, n_blocks, entangled, shots, *chain(*sliders)], draw)
    draw()
    head = ipywidgets.HBox([n_qubits, n_blocks, entangled, shots])
    return ipywidgets.VBox([head, grid, picture])


def count_controls() -> ipywidgets.VBox:
    """The controls behind ``counts``.

    Example:
        >>> box = count_controls()
        >>> box.children[1].value
        '6,690 weights: 457 trained parameters, 6.8 %'
    """
    import ipywidgets

    style = {"description_width": "initial"}
    n_weights = ipywidgets.BoundedIntText(6690, 1, 10**12, description="weights M", style=style)
    n_blocks = ipywidgets.BoundedIntText(16, 1, 10**6, description="blocks L", style=style)
    hidden = ipywidgets.Dropdown(
        options=[("4-20-4", (4, 20, 4)), ("40-200-40", (40, 200, 40))],
        description="mapping net",
        style=style,
    )
    says = ipywidgets.Label()

    def count(change: Any = None) -> None:
        n_trained = live_figures.n_trained(n_weights.value, n_blocks.value, hidden.value)
        says.value = (
            f"{n_weights.value:,} weights: {n_trained:,} trained parameters, "
            f"{100 * n_trained / n_weights.value:.2g} %"
        )

    controls = [n_weights, n_blocks, hidden]
    _on_change(controls, count)
    count()
    return ipywidgets.VBox([ipywidgets.HBox(controls), says])


def training_controls(config: TrainConfig | None = None) -> ipywidgets.VBox:
    """The controls behind ``training``; the curve grows with every epoch.

    Args:
        config: what the controls start from; the ``qtlite`` recipe on digits if left out.

    Example:
        >>> box = training_controls()
        >>> [control.description for control in box.children[0].children]
        ['blocks', 'learning rate', 'epochs', 'Train']
    """
    import ipywidgets

    config = config or recipe_config("qtlite")
    style = {"description_width": "initial"}
    n_blocks = ipywidgets.IntSlider(config.n_blocks, 1, 128, description="blocks", style=style)
    rate = ipywidgets.FloatLogSlider(
        config.learning_rate, min=-4, max=-1, description="learning rate", style=style
    )
    epochs = ipywidgets.IntSlider(config.epochs, 1, 60, description="epochs", style=style)
    button = ipywidgets.Button(description="Train", button_style="primary")
    picture, says = ipywidgets.HTML(), ipywidgets.Label()

    def run(pressed: Any) -> None:
        chosen = replace(
            config, n_blocks=n_blocks.value, learning_rate=rate.value, epochs=epochs.value
        )
        button.disabled = True
        try:
            for history in train_by_epochs(chosen):
                last = history[-1]
                says.value = (
                    f"epoch {last['epoch']} of {chosen.epochs}: loss {last['train_loss']:.3f} nat, "
                    f"test accuracy {last['test_accuracy']:.3f}"
                )
                picture.value = _image(plots.loss_curves({"this run": history}))
        finally:
            button.disabled = False

    button.on_click(run)
    head = ipywidgets.HBox([n_blocks, rate, epochs, button])
    return ipywidgets.VBox([head, says, picture])


def train_by_epochs(
    config: TrainConfig, dataset: Dataset | None = None
) -> Iterator[list[dict[str, float]]]:
    """Train with the one-cycle schedule, and hand out the history after every epoch.

    For watching: runs that count are made by ``training.train``.

    Args:
        config: of its optimisation, the learning rate alone is asked for; no images are held out
            or mirrored.
        dataset: digits if left out.

    Example:
        >>> config = recipe_config("qtlite", n_train=128, epochs=2)
        >>> [len(history) for history in train_by_epochs(config)]
        [1, 2]
    """
    dataset = dataset or load_dataset("digits")
    images, labels = dataset.train_images[: config.n_train], dataset.train_labels[: config.n_train]
    model = build_model(config)
    training = fit_by_epochs(
        model,
        images,
        labels,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        batch_size=config.batch_size,
        seed=config.seed,
        prepare=lambda batch: to_float(batch, config.pixel_mean, config.pixel_std),
    )
    history: list[dict[str, float]] = []
    start = time.perf_counter()
    for losses in training:
        _, accuracy = evaluate(classical(model), dataset.test_images, dataset.test_labels, config)
        history.append(
            {
                "epoch": len(history) + 1,
                "train_loss": mean(losses),
                "test_accuracy": accuracy,
                "seconds": time.perf_counter() - start,
            }
        )
        yield list(history)
        start = time.perf_counter()


def _on_change(controls: list[Any], function: Any) -> None:
    for control in controls:
        control.observe(function, names="value")


def _image(figure: Figure) -> str:
    """A figure as an HTML image, so that it can be replaced in place."""
    file = io.StringIO()
    plots.save_svg(figure, file)
    encoded = base64.b64encode(file.getvalue().encode()).decode()
    return f'<img style="max-width: 100%" alt="" src="data:image/svg+xml;base64,{encoded}">'
