"""What is inside networks: weights, filters, images and feature maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from qtlite.experiments.report.style import (
    CIRCUIT,
    DASHES,
    MAPPING,
    SIGNED,
    STYLE,
    add_legend,
    as_array,
    new_figure,
)


def generated_and_baseline(measured: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw all weights of a generated network and of its baseline.

    Above, each network's weights against their index, as the band between the lowest and the
    highest of neighbouring ones; below, their densities over the same bins.

    Args:
        measured: panel's title to the results of the study "weights".

    Example:
        >>> network = {"lowest": [-1, 0], "highest": [0, 1], "counts": [2, 2]}
        >>> results = {"n_weights": 4, "edges": [-1, 0, 1], "qt": network, "classical": network}
        >>> len(generated_and_baseline({"MNIST": results}).axes)
        2
    """
    figure, axes = new_figure(3.1 * len(measured), 4.6, n_rows=2, n_columns=len(measured))
    drawn = (("classical", "baseline", MAPPING, DASHES[1]), ("qt", "generated", CIRCUIT, DASHES[0]))
    for column, (title, results) in enumerate(measured.items()):
        above, below = axes[column], axes[len(measured) + column]
        edges = np.array(results["edges"])
        for model, label, colour, dash in drawn:
            found = results[model]
            index = np.linspace(0, results["n_weights"], len(found["lowest"]))
            above.fill_between(
                index, found["lowest"], found["highest"], color=colour, alpha=0.75, lw=0
            )
            density = np.array(found["counts"]) / results["n_weights"] / np.diff(edges)
            label = None if column else label  # one entry of the legend
            below.stairs(density, edges, color=colour, label=label, ls=dash, lw=1.6)
        above.set(title=title, xlabel="index of the weight")
        below.set(xlabel="weight", yscale="log")
    axes[0].set_ylabel("weight")
    axes[len(measured)].set_ylabel("density")
    add_legend(figure, len(drawn))
    return figure


def heatmaps(matrices: Mapping[str, Sequence[Sequence[float]]], *, bar_label: str) -> Figure:
    """Draw matrices in one signed colour scale, white at 0: side by side, wide ones stacked.

    Args:
        matrices: title to values, shape (rows, columns).
        bar_label: what the colour stands for, with unit.

    Example:
        >>> len(heatmaps({"one": [[0.0, 1.0]]}, bar_label="weight").axes)  # with the colour bar
        2
    """
    values = {title: as_array(matrix) for title, matrix in matrices.items()}
    limit = max(float(np.abs(matrix).max()) for matrix in values.values())
    if all(matrix.shape[1] > 2 * matrix.shape[0] for matrix in values.values()):  # wide
        figure, all_axes = new_figure(6.2, 1.9 * len(values), n_rows=len(values))
    else:
        figure, all_axes = new_figure(7.0, 2.6, n_columns=len(values))
    for axes, (title, matrix) in zip(all_axes, values.items(), strict=True):
        mesh = axes.pcolormesh(matrix, cmap=SIGNED, vmin=-limit, vmax=limit)
        axes.set(title=title, aspect="equal", xticks=[], yticks=[])
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=list(all_axes), label=bar_label, shrink=0.8)
    bar.solids.set(rasterized=False, edgecolor="face")  # a vector like the rest
    return figure


def image_row(images: Sequence[Any], titles: Sequence[str]) -> Figure:
    """Draw grey images beside each other, each under its title.

    Args:
        images: shape (n, 1, height, width) or (n, height, width).
        titles: n of them.

    Example:
        >>> figure = image_row(np.zeros((2, 1, 4, 4)), ["a", "b"])
        >>> [axes.get_title() for axes in figure.axes]
        ['a', 'b']
    """
    figure, all_axes = new_figure(7.0, 7.0 / len(images) + 0.35, n_columns=len(images))
    for axes, image, title in zip(all_axes, images, titles, strict=True):
        axes.imshow(as_array(image).squeeze(), cmap="gray_r", interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    return figure


def inside_network(
    image: Any, maps: Sequence[Any], probabilities: Sequence[float], classes: Sequence[str]
) -> Figure:
    """Draw an image, the feature maps that a network makes of it, and its answer.

    Args:
        image: shape (height, width) or (1, height, width).
        maps: one array for each layer, shape (channels, height, width).
        probabilities: of the classes.
        classes: their names.

    Example:
        >>> figure = inside_network(np.ones((4, 4)), [np.ones((3, 2, 2))], [0.2, 0.8], "ab")
        >>> len(figure.axes)  # image, bars, three maps
        5
    """
    heights = [2.6, 0.85 * len(maps)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, sum(heights)), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=heights)
        left, right = top.subplots(1, 2, width_ratios=[1, 2.2])
        left.imshow(as_array(image).squeeze(), cmap="gray", interpolation="nearest")
        left.set_axis_off()
        best = int(np.argmax(as_array(probabilities)))
        colours = [MAPPING if i == best else CIRCUIT for i in range(len(classes))]
        right.bar(list(classes), as_array(probabilities), color=colours)
        right.set(ylabel="probability", ylim=(0, 1))
        grid = bottom.subplots(len(maps), max(map(len, maps)), squeeze=False)
        for row, layer in zip(grid, maps, strict=True):
            for axes in row[len(layer) :]:
                axes.set_axis_off()
            largest = as_array(layer).max() or 1.0
            for axes, channel in zip(row, layer, strict=False):
                axes.set(xticks=[], yticks=[])
                axes.imshow(as_array(channel), cmap="gray", vmin=0, vmax=largest)
    return figure
