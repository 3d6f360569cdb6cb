"""Many numbers at once: bars over the basis states, histograms of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qtlite.experiments.report.style import (
    CURVES,
    DASHES,
    add_legend,
    as_array,
    new_figure,
)


def probability_bars(probabilities: Mapping[str, Sequence[float]] | Sequence[float]) -> Figure:
    """Draw p_i of every basis state as bars; several circuits stand side by side.

    Args:
        probabilities: shape (2**N,), or label to such; dimensionless.

    Example:
        >>> figure = probability_bars([0.5, 0.0, 0.0, 0.5])
        >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
        ['00', '01', '10', '11']
    """
    groups = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
    figure, (axes,) = new_figure(6.2, 2.9)
    width, hatches = 0.8 / len(groups), ("", "///", "...", "xxx")
    for place, (label, values) in enumerate(groups.items()):
        states = np.arange(len(values)) + (place - (len(groups) - 1) / 2) * width
        style = {"color": CURVES[place], "hatch": hatches[place], "edgecolor": "white", "lw": 0.4}
        axes.bar(states, as_array(values), width, label=label, **style)
    axes.set_ylabel("probability $p_i$")
    _name_states(axes, len(values), "basis state $i$ (qubit 0 first)")
    add_legend(figure, len(groups))
    return figure


def state_bars(values: Mapping[str, Sequence[float]]) -> Figure:
    """Draw several numbers of every basis state as bars, one panel each.

    Args:
        values: label of the axis, with unit, to values of shape (2**N,).

    Example:
        >>> figure = state_bars({"probability": [0.5, 0.5], "weight": [1.0, -1.0]})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['probability', 'weight']
    """
    figure, all_axes = new_figure(7.0, 2.6, n_columns=len(values))
    for axes, (label, numbers), colour in zip(all_axes, values.items(), CURVES, strict=False):
        axes.bar(range(len(numbers)), as_array(numbers), 0.72, color=colour)
        axes.set_ylabel(label)
        _name_states(axes, len(numbers), "basis state")
    return figure


def _name_states(axes: Axes, n_states: int, label: str) -> None:
    """Write each basis state's bits below its bar, qubit 0 first."""
    n_qubits = n_states.bit_length() - 1
    names = [f"{i:0{n_qubits}b}" for i in range(n_states)]
    axes.set_xticks(range(n_states), names, rotation=90 if n_qubits > 3 else 0)
    axes.set(xlabel=label, xlim=(-0.7, n_states - 0.3))
    axes.tick_params(axis="x", length=0, labelsize=9)
    axes.grid(axis="x", visible=False)


def distribution(
    samples: Mapping[str, Sequence[float]], *, x_label: str, n_bins: int = 60, log_y: bool = False
) -> Figure:
    """Draw histograms of several samples over the same bins, each of area 1.

    Args:
        samples: label to values of any shape.
        x_label: with unit.
        n_bins: bins over the common range.
        log_y: whether the vertical axis is logarithmic.

    Example:
        >>> figure = distribution({"a": [0.0, 1.0]}, x_label="weight", n_bins=2)
        >>> figure.axes[0].get_ylabel()
        'density'
    """
    values = [as_array(sample).ravel() for sample in samples.values()]
    bins = np.histogram_bin_edges(np.concatenate(values), n_bins)
    figure, (axes,) = new_figure(6.2, 3.0)
    for label, sample, colour, dash in zip(samples, values, CURVES, DASHES, strict=False):
        density, _ = np.histogram(sample, bins, density=True)
        axes.stairs(density, bins, fill=True, alpha=0.15, color=colour)
        axes.stairs(density, bins, label=label, color=colour, ls=dash, lw=1.8)
    axes.set(xlabel=x_label, ylabel="density", yscale="log" if log_y else "linear")
    add_legend(figure, len(values))
    return figure
