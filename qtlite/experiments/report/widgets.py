"""Controls for a live notebook (ipywidgets); on the static page, figures that need no kernel.

A chapter calls one function. In a notebook that somebody runs it returns controls. While the book
is built (``book/build.py`` sets ``QTLITE_STATIC``), or without ipywidgets, it returns a figure: a
widget without a kernel does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from qtlite.experiments.data.loading import load_dataset, to_float
from qtlite.experiments.models.build import build_model, classical
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.report import figures, live_figures
from qtlite.experiments.report.pages import STATIC_VARIABLE as STATIC_VARIABLE
from qtlite.experiments.report.pages import is_static
from qtlite.experiments.report.style import image_tag
from qtlite.experiments.train.fitting import fit_by_epochs
from qtlite.experiments.train.loop import evaluate

if TYPE_CHECKING:
    import ipywidgets

SHOTS = {"exact": None, "10": 10, "100": 100, "1,000": 1000, "10,000": 10000}
WIDE = {"description_width": "initial"}


def is_live() -> bool:
    """True if controls would work: outside the static book, with ipywidgets.

    Example:
        >>> is_live() and is_static()
        False
    """
    return not is_static() and find_spec("ipywidgets") is not None


def circuit() -> ipywidgets.VBox | live_figures.LiveFigure:
    """From angles, qubits, blocks, CNOTs and shots to probabilities and generated weights."""
    return circuit_controls() if is_live() else live_figures.circuit()


def counts() -> ipywidgets.VBox | live_figures.LiveFigure:
    """Trained parameters for a network of any size."""
    return count_controls() if is_live() else live_figures.counts()


def training() -> ipywidgets.VBox | Figure:
    """Train on digits and watch the loss; the static page has the finished curves."""
    if is_live():
        return training_controls()
    histories = {}
    for n_blocks in (4, 16, 64):
        *_, history = train_by_epochs(recipe_config("qtlite", n_blocks=n_blocks, epochs=8))
        histories[f"{n_blocks} blocks"] = history
    return figures.loss_curves(histories)


def circuit_controls() -> ipywidgets.VBox:
    """The controls behind ``circuit``: a change of any of them redraws the figure.

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
    step = np.pi / live_figures.STEPS_IN_PI
    start = np.array(live_figures.circuit().data["steps"]) * step
    turn = {"min": -np.pi, "max": np.pi, "step": step}
    sliders = [
        [
            ipywidgets.FloatSlider(float(angle), description=f"{block}, q{qubit}", **turn)
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

    _call_on_change(draw, [n_qubits, n_blocks, entangled, shots, *chain(*sliders)])
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

    n_weights = ipywidgets.BoundedIntText(6690, 1, 10**12, description="weights M", style=WIDE)
    n_blocks = ipywidgets.BoundedIntText(16, 1, 10**6, description="blocks L", style=WIDE)
    widths = [("4-20-4", (4, 20, 4)), ("40-200-40", (40, 200, 40))]
    hidden = ipywidgets.Dropdown(options=widths, description="mapping net", style=WIDE)
    answer = ipywidgets.Label()

    def count(change: Any = None) -> None:
        n_trained = live_figures.n_trained(n_weights.value, n_blocks.value, hidden.value)
        answer.value = (
            f"{n_weights.value:,} weights: {n_trained:,} trained parameters, "
            f"{100 * n_trained / n_weights.value:.2g} %"
        )

    _call_on_change(count, [n_weights, n_blocks, hidden])
    return ipywidgets.VBox([ipywidgets.HBox([n_weights, n_blocks, hidden]), answer])


def training_controls(config: TrainConfig | None = None) -> ipywidgets.VBox:
    """The controls behind ``training``; the curve grows with every epoch.

    Args:
        config: first values of the controls; the ``qtlite`` recipe on digits if left out.

    Example:
        >>> box = training_controls()
        >>> [control.description for control in box.children[0].children]
        ['blocks', 'learning rate', 'epochs', 'Train']
    """
    import ipywidgets

    config = config or recipe_config("qtlite")
    n_blocks = ipywidgets.IntSlider(config.n_blocks, 1, 128, description="blocks", style=WIDE)
    exponents = {"min": -4, "max": -1}
    rate = ipywidgets.FloatLogSlider(
        config.learning_rate, description="learning rate", style=WIDE, **exponents
    )
    epochs = ipywidgets.IntSlider(config.epochs, 1, 60, description="epochs", style=WIDE)
    button = ipywidgets.Button(description="Train", button_style="primary")
    picture, state = ipywidgets.HTML(), ipywidgets.Label()

    def run(pressed: Any) -> None:
        settings = {"n_blocks": n_blocks.value, "epochs": epochs.value}
        chosen = replace(config, learning_rate=rate.value, **settings)
        button.disabled = True
        try:
            for history in train_by_epochs(chosen):
                last = history[-1]
                state.value = (
                    f"epoch {last['epoch']} of {chosen.epochs}: loss {last['train_loss']:.3f} nat, "
                    f"test accuracy {last['test_accuracy']:.3f}"
                )
                picture.value = _image(figures.loss_curves({"this run": history}))
        finally:
            button.disabled = False

    button.on_click(run)
    head = ipywidgets.HBox([n_blocks, rate, epochs, button])
    return ipywidgets.VBox([head, state, picture])


def train_by_epochs(config: TrainConfig) -> Iterator[list[dict[str, float]]]:
    """Train on digits with Adam and the one-cycle schedule; yield the history after every epoch.

    This is for watching: recorded runs are made by ``train``. Of the config's choices optimiser,
    schedule, validation and augmentation are ignored.

    Example:
        >>> config = recipe_config("qtlite", n_train=128, epochs=2)
        >>> [len(history) for history in train_by_epochs(config)]
        [1, 2]
    """
    digits, model = load_dataset("digits"), build_model(config)
    training = fit_by_epochs(
        model,
        digits.train_images[: config.n_train],
        digits.train_labels[: config.n_train],
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        batch_size=config.batch_size,
        seed=config.seed,
        prepare=lambda batch: to_float(batch, config.pixel_mean, config.pixel_std),
    )
    history: list[dict[str, float]] = []
    for epoch, losses in enumerate(training, 1):
        _, accuracy = evaluate(classical(model), digits.test_images, digits.test_labels, config)
        history.append({"epoch": epoch, "train_loss": mean(losses), "test_accuracy": accuracy})
        yield list(history)


def _call_on_change(function: Callable[..., None], controls: list[Any]) -> None:
    """Call a function now and whenever a control's value changes."""
    for control in controls:
        control.observe(function, names="value")
    function()


def _image(figure: Figure) -> str:
    """Return a figure as an HTML image that is no wider than the page."""
    return image_tag(figure, attributes='style="max-width: 100%"')
