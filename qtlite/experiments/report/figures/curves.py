"""Curves, one number against another; bars over the basis states; histograms of samples."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from qtlite.experiments.report.style import (
    CIRCUIT,
    CURVES,
    DASHES,
    GREY,
    INK,
    MAPPING,
    MARKERS,
    NETWORK,
    add_legend,
    as_array,
    new_figure,
)


def lines(
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    markers: bool = False,
) -> Figure:
    """Draw curves over a common axis; entries that are not a number leave a gap.

    Args:
        x: shape (n,).
        curves: label to values of shape (n,), or (runs, n) for one thin curve a run in the same
            colour. A single label gets no legend.
        x_label, y_label: with units.
        log_x, log_y: whether the axis is logarithmic.
        markers: whether to mark each point.

    Example:
        >>> figure = lines([0, 1], {"a": [1, 2]}, x_label="time / s", y_label="height / m")
        >>> figure.axes[0].get_xlabel()
        'time / s'
    """
    figure, (axes,) = new_figure(6.2, 3.1)
    for label, values, colour, dash in zip(curves, curves.values(), CURVES, DASHES, strict=False):
        runs = np.atleast_2d(as_array(values))
        labels = [label, *[None] * (len(runs) - 1)]  # one entry of the legend
        width = 1.8 if len(runs) == 1 else 0.9
        style = {"color": colour, "ls": dash, "lw": width, "marker": "o" if markers else None}
        axes.plot(as_array(x), runs.T, label=labels, ms=4, **style)
    scales = {"xscale": "log" if log_x else "linear", "yscale": "log" if log_y else "linear"}
    axes.set(xlabel=x_label, ylabel=y_label, **scales)
    if markers:
        axes.set_xticks(x)
    add_legend(figure, len(curves))
    return figure


def measured_points(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float] | None]],
    *,
    x_label: str,
    y_label: str,
    x_base: int | None = None,
    log_y: bool = False,
    references: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    verticals: Mapping[str, float] | None = None,
) -> Figure:
    """Draw measured points with error bars, each curve over its own axis values.

    Args:
        curves: label to x, y and the error bars' half-lengths (None for none), shape (n,) each.
        x_label, y_label: with units.
        x_base: of a logarithmic horizontal axis; linear if left out.
        log_y: whether the vertical axis is logarithmic.
        references: label to x and y of a thin grey line: what theory says.
        verticals: text to x of a dotted vertical line.

    Example:
        >>> curves = {"a": ([1, 2, 4], [0.1, 0.2, 0.3], [0.01, 0.01, 0.01])}
        >>> figure = measured_points(curves, x_label="shots", y_label="accuracy", x_base=2)
        >>> figure.axes[0].get_xscale()
        'log'
    """
    figure, (axes,) = new_figure(6.4, 3.5)
    references, verticals = references or {}, verticals or {}
    styles = cycle(zip(CURVES, DASHES, MARKERS, strict=True))
    for (label, (x, y, error)), (colour, dash, marker) in zip(curves.items(), styles, strict=False):
        style = {"color": colour, "ls": dash, "marker": marker, "ms": 4, "lw": 1.4}
        axes.errorbar(x, y, error, label=label, capsize=2, elinewidth=1, **style)
    dashes = cycle(((0, (1, 2)), (0, (6, 2)), "-.", (0, (3, 1, 1, 1, 1, 1))))
    for (label, (x, y)), dash in zip(references.items(), dashes, strict=False):
        axes.plot(x, y, label=label, color=GREY, lw=1.2, ls=dash, zorder=1)
    if x_base is not None:
        axes.set_xscale("log", base=x_base)
    for text, x in verticals.items():
        axes.axvline(x, color=GREY, lw=1, ls=":")
        place = {"xy": (x, 0.03), "xycoords": ("data", "axes fraction"), "rotation": 90}
        offset = {"xytext": (-3, 0), "textcoords": "offset points", "ha": "right", "va": "bottom"}
        axes.annotate(text, **place, **offset, color=GREY, fontsize=9)
    axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if log_y else "linear")
    add_legend(figure, len(curves) + len(references))
    return figure


def loss_curves(
    histories: Mapping[str, Sequence[Mapping[str, float]]], *, lowest_accuracy: float = 0
) -> Figure:
    """Draw training loss and test accuracy of several runs, epoch by epoch.

    The dotted lines are what guessing gives: ln 10 nats, and one image in ten.

    Args:
        histories: label to a record's ``history``.
        lowest_accuracy: where the axis of the accuracy begins, in [0, 1).

    Example:
        >>> epochs = [{"epoch": 1, "train_loss": 2.0, "test_accuracy": 0.3}]
        >>> [axes.get_ylabel() for axes in loss_curves({"a run": epochs}).axes]
        ['training loss / nat', 'test accuracy']
    """
    figure, (left, right) = new_figure(6.4, 3.1, n_columns=2)
    for label, history in histories.items():
        epochs = [epoch["epoch"] for epoch in history]
        left.plot(epochs, [epoch["train_loss"] for epoch in history], label=label)
        right.plot(epochs, [epoch["test_accuracy"] for epoch in history])
    guessing = {"color": GREY, "lw": 1, "ls": ":"}
    left.axhline(math.log(10), **guessing)
    right.axhline(0.1, **guessing)
    left.set(xlabel="epoch", ylabel="training loss / nat", yscale="log")
    right.set(xlabel="epoch", ylabel="test accuracy", ylim=(lowest_accuracy, 1))
    add_legend(figure, len(histories))
    return figure


def accuracy_by_blocks(data: Mapping[str, Any]) -> Figure:
    """Draw test accuracy against the number of blocks: a dot a seed, a line through the means.

    The axis is logarithmic in the errors: from 98 to 99 % is as far as from 80 to 90.

    Args:
        data: what ``live_figures.accuracy`` gathers from the records.

    Example:
        >>> row = {"n_blocks": 16, "accuracy": 81.08, "n_trainable": 457}
        >>> figure = accuracy_by_blocks({"paper": [row], "classical": [], "recipes": []})
        >>> figure.axes[0].get_ylabel()
        'test accuracy / %'
    """
    figure, (axes,) = new_figure(6.2, 3.4)
    axes.set_yscale(
        "function",
        functions=(lambda a: -np.log10(np.maximum(100 - a, 0.01)), lambda y: 100 - 10 ** (-y)),
    )
    paper = [(row["n_blocks"], row["accuracy"]) for row in data["paper"]]
    axes.plot(*zip(*paper, strict=True), color=MAPPING, ls="--", marker="s", ms=4.5, label="paper")
    for recipe, colour in zip(data["recipes"], cycle((CIRCUIT, NETWORK, INK, GREY)), strict=False):
        points = recipe["points"]
        means = [(point["n_blocks"], point["mean"]) for point in points]
        axes.plot(*zip(*means, strict=True), color=colour, ls="-", label=f"recipe {recipe['name']}")
        seeds = [(point["n_blocks"], found) for point in points for _, found in point["seeds"]]
        axes.plot(*zip(*seeds, strict=True), "o", color=colour, ms=3.5, ls="")
    for line, colour in zip(data["classical"], cycle((INK, GREY, CIRCUIT, NETWORK)), strict=False):
        axes.axhline(line["accuracy"], color=colour, lw=1, ls=":", label=line["name"])
    axes.set(xlabel="blocks of the circuit, $L$", ylabel="test accuracy / %")
    low, high = axes.get_ylim()
    ticks = [t for t in (10, 30, 50, 60, 70, 80, 90, 95, 98, 99, 99.5) if low <= t <= high]
    axes.set_yticks(ticks, list(map(str, ticks)))
    add_legend(figure, 2)
    return figure


def compared_models(
    panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], *, x_label: str
) -> Figure:
    """Draw a line for each model: the mean over its seeds, bars from the lowest to the highest.

    Args:
        panels: title to series' label to model to one value a seed. The first series of the first
            panel decides the order, smallest mean at the top; every value is positive.
        x_label: of the logarithmic axis, with units.

    Example:
        >>> series = {"457": {"qt": [2.2, 2.3], "hashed": [3.5]}, "1,822": {"qt": [1.2]}}
        >>> figure = compared_models({"MNIST": series}, x_label="test error / %")
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['qt', 'hashed']
    """
    first = next(iter(next(iter(panels.values())).values()))
    models = sorted(first, key=lambda model: np.mean(first[model]))
    figure, all_axes = new_figure(7.2, 0.8 + 0.3 * len(models), n_columns=len(panels))
    for axes, (title, series) in zip(all_axes, panels.items(), strict=True):
        for (label, values), colour, marker in zip(series.items(), CURVES, MARKERS, strict=False):
            found = [model for model in models if model in values]
            means = np.array([np.mean(values[model]) for model in found])
            ends = np.array([(min(values[model]), max(values[model])) for model in found])
            bars = {"xerr": np.abs(ends.T - means), "capsize": 2, "elinewidth": 1}
            rows = [models.index(model) for model in found]
            axes.errorbar(means, rows, fmt=marker, color=colour, label=label, ms=5, **bars)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        few = high / low > 15  # more labels would overlap
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(title=title, xlabel=x_label, ylim=(len(models) - 0.5, -0.5))
        axes.set_yticks(range(len(models)), models if axes is all_axes[0] else [""] * len(models))
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


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
