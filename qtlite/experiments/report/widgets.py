"""Controls for a live notebook (ipywidgets); on the static page, figures that need no kernel.

A chapter calls one function. In a notebook that somebody runs it returns controls. While the book
is built (``book/build.py`` sets ``QTLITE_STATIC``), or without ipywidgets, it returns a figure: a
widget without a kernel does nothing.
"""

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.figure import Figure

from qtlite.circuit import ry_linear_cnot, ry_only
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.report import figures, live_figures
from qtlite.experiments.report.pages import STATIC_VARIABLE as STATIC_VARIABLE
from qtlite.experiments.report.pages import is_static
from qtlite.experiments.train.loop import train

if TYPE_CHECKING:
    import ipywidgets

SHOTS = {"exact": None, "10": 10, "100": 100, "1,000": 1000, "10,000": 10000}


def is_live() -> bool:
    """True if controls would work: outside the static book, with ipywidgets.

    Example:
        >>> is_live() and is_static()
        False
    """
    return not is_static() and find_spec("ipywidgets") is not None


def circuit() -> "ipywidgets.interactive | live_figures.LiveFigure":
    """From angles, qubits, blocks, CNOTs and shots to probabilities and generated weights."""
    return circuit_controls() if is_live() else live_figures.circuit()


def counts() -> "ipywidgets.interactive | live_figures.LiveFigure":
    """Trained parameters for a network of any size."""
    return count_controls() if is_live() else live_figures.counts()


def training() -> "ipywidgets.interactive | Figure":
    """Train on digits and watch the loss; the static page has the finished curves."""
    if is_live():
        return training_controls()
    histories, digits = {}, load_dataset("digits")
    for n_blocks in (4, 16, 64):
        run = train(recipe_config("qtlite", n_blocks=n_blocks, epochs=8), digits, progress=False)
        histories[f"{n_blocks} blocks"] = run.record["history"]
    return figures.loss_curves(histories)


def circuit_controls() -> "ipywidgets.interactive":
    """The controls behind ``circuit``: a change of any of them redraws the figure."""
    from ipywidgets import FloatSlider, IntSlider, interactive

    nets, step = live_figures.mapping_nets(), np.pi / live_figures.STEPS_IN_PI
    shape = live_figures.N_BLOCKS, live_figures.N_QUBITS
    angles = {
        f"block {block}, qubit {qubit}": FloatSlider(angle * step, min=-np.pi, max=np.pi, step=step)
        for block, row in enumerate(live_figures.circuit().data["steps"], 1)
        for qubit, angle in enumerate(row)
    }

    def draw(
        qubits: int, blocks: int, entangled: bool, shots: int | None, **given: float
    ) -> Figure:
        table = torch.tensor(list(given.values())).view(shape)[:blocks, :qubits]
        block = ry_linear_cnot if entangled else ry_only
        return live_figures.circuit_still(table, nets[qubits - 1], block, shots)

    return interactive(
        draw,
        {"auto_display": True},
        qubits=IntSlider(3, 1, live_figures.N_QUBITS),
        blocks=IntSlider(2, 1, live_figures.N_BLOCKS),
        entangled=True,
        shots=SHOTS,
        **angles,
    )


def count_controls() -> "ipywidgets.interactive":
    """The controls behind ``counts``."""
    from IPython.display import Markdown
    from ipywidgets import BoundedIntText, interactive

    def count(weights: int, blocks: int, hidden: tuple[int, ...]) -> Markdown:
        n_trained = live_figures.n_trained(weights, blocks, hidden)
        share = f"{100 * n_trained / weights:.2g} %"
        return Markdown(f"{weights:,} weights: {n_trained:,} trained parameters, {share}")

    return interactive(
        count,
        {"auto_display": True},
        weights=BoundedIntText(6690, 1, 10**12),
        blocks=BoundedIntText(16, 1, 10**6),
        hidden={"4-20-4": (4, 20, 4), "40-200-40": (40, 200, 40)},
    )


def training_controls(config: TrainConfig | None = None) -> "ipywidgets.interactive":
    """The controls behind ``training``; the curve grows with every epoch.

    Args:
        config: first values of the controls; the ``qtlite`` recipe on digits if left out.
    """
    from IPython.display import clear_output, display
    from ipywidgets import FloatLogSlider, IntSlider, interactive

    config = config or recipe_config("qtlite")

    def show(history: list[dict[str, float]]) -> None:
        clear_output(wait=True)
        display(figures.loss_curves({"this run": history}))
        last = history[-1]
        print(f"epoch {last['epoch']}: loss {last['train_loss']:.3f} nat", end=", ")
        print(f"test accuracy {last['test_accuracy']:.3f}")

    def run(**choices: float) -> None:
        train(replace(config, **choices), load_dataset("digits"), progress=False, on_epoch=show)

    return interactive(
        run,
        {"manual": True, "manual_name": "Train"},
        n_blocks=IntSlider(config.n_blocks, 1, 128),
        learning_rate=FloatLogSlider(config.learning_rate, min=-4, max=-1),
        epochs=IntSlider(config.epochs, 1, 60),
    )
