"""Curves: one measured number against another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
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
    log_y: bool = False,
    markers: bool = False,
) -> Figure:
    """Draw curves over a common axis; entries that are not a number leave a gap.

    Args:
        x: shape (n,).
        curves: label to values of shape (n,), or (runs, n) for one thin curve a run in the same
            colour. A single label gets no legend.
        x_label, y_label: with units.
        log_y: whether the vertical axis is logarithmic.
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
    axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if log_y else "linear")
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


def parameter_counts(
    sizes: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    marks: Sequence[tuple[float, float]],
) -> Figure:
    """Draw trained parameters against the size of the network, both axes logarithmic.

    Args:
        sizes: M, shape (n,).
        curves: label to trained parameters, shape (n,).
        marks: (M, trained parameters) of the paper's rows.

    Example:
        >>> parameter_counts([10, 100], {"a": [5, 6]}, [(20, 5)]).axes[0].get_xscale()
        'log'
    """
    figure, (axes,) = new_figure(6.2, 3.4)
    axes.plot(sizes, sizes, color=GREY, ls="--", label="baseline: all $M$")
    for (label, values), colour, dash in zip(curves.items(), CURVES, DASHES, strict=False):
        axes.plot(sizes, values, color=colour, ls=dash, label=label)
    axes.plot(*zip(*marks, strict=True), "s", color=INK, ms=4.5, ls="", label="the paper's rows")
    axes.set(xlabel="weights of the network, $M$", ylabel="trained parameters")
    axes.set(xscale="log", yscale="log")
    add_legend(figure, 2)
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
