"""The book's figures: one style, one meaning for each colour, vector output.

Blue is the circuit, vermilion the mapping net, green the ordinary network (Okabe and Ito's colours,
told apart with every kind of colour vision; curves differ in dash as well). Figures stand on white
paper on purpose: the same file is legible on a light page, on a dark one, and in print. Every
function returns a ``matplotlib.figure.Figure`` and leaves pyplot alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import chain, cycle, pairwise
from typing import IO, TYPE_CHECKING, Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import LogLocator, NullFormatter

from qtlite.experiments.report.circuit_drawing import gate_columns

if TYPE_CHECKING:
    import tensorcircuit as tc

INK, GREY, PALE = "#1d232b", "#5f6b76", "#d9dfe5"
CIRCUIT, MAPPING, NETWORK = "#0072b2", "#d55e00", "#009e73"
CURVES = (CIRCUIT, MAPPING, NETWORK, "#cc79a7", "#e69f00", INK)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
SIGNED = "PuOr_r"  # negative purple, positive orange; safe for colour-blind readers

STYLE: dict[str, Any] = {
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelcolor": INK,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "axes.prop_cycle": cycler(color=CURVES) + cycler(linestyle=DASHES),
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the same letters on every machine
    "svg.hashsalt": "qtlite",  # the same file at every build
}


def use_house_style() -> None:
    """Set matplotlib to the book's style; in a notebook, also show figures as vectors (SVG).

    Example:
        >>> with matplotlib.rc_context():  # a page leaves this out: its style is to stay
        ...     use_house_style()
        ...     matplotlib.rcParams["axes.spines.top"]
        False
    """
    matplotlib.rcParams.update(STYLE)
    try:
        shell = get_ipython()  # there in every notebook
    except NameError:
        return
    if hasattr(shell, "kernel"):
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", bbox_inches="tight", metadata={"Date": None})


def save_svg(figure: Figure, path: str | os.PathLike | IO[str]) -> None:
    """Write a figure as SVG, the same bytes each time.

    The README's picture is made by ``save_svg(pipeline(), "book/_static/pipeline.svg")``.

    Example:
        >>> import io
        >>> file = io.StringIO()
        >>> save_svg(lines([0, 1], {"a": [0, 1]}, x_label="x", y_label="y"), file)
        >>> "<svg" in file.getvalue()
        True
    """
    with matplotlib.rc_context(STYLE):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(path, format="svg", bbox_inches="tight", metadata=metadata)


def lines(
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    markers: bool = False,
) -> Figure:
    """Draw curves over a common axis.

    Args:
        x: shape (n,).
        curves: label to values of shape (n,), or (runs, n) for one thin curve a run in the same
            colour; one label alone gets no legend.
        x_label, y_label: with units.
        log_y: whether the vertical axis is logarithmic.
        markers: whether to mark each point.

    Example:
        >>> figure = lines([0, 1], {"a": [1, 2]}, x_label="time / s", y_label="height / m")
        >>> figure.axes[0].get_xlabel()
        'time / s'
    """
    figure, (axes,) = _figure(6.2, 3.1)
    for place, (label, values) in enumerate(curves.items()):
        runs = np.atleast_2d(_array(values))
        style = {"color": CURVES[place], "ls": DASHES[place], "marker": "o" if markers else None}
        for run in runs:
            axes.plot(_array(x), run, label=label, ms=4, lw=1.8 if len(runs) == 1 else 0.9, **style)
            label = None
    axes.set(xlabel=x_label, ylabel=y_label)
    if log_y:
        axes.set_yscale("log")
    if markers:
        axes.set_xticks(x)
    _legend(figure, len(curves))
    return figure


def circuit_diagram(circuit: tc.Circuit) -> Figure:
    """Draw a circuit, qubit 0 on top, from TensorCircuit's own list of gates (no qiskit).

    Args:
        circuit: any ``tensorcircuit.Circuit``; boxes show the gate and its angles in radians.

    Example:
        >>> from qtlite.circuit import build_circuit
        >>> figure = circuit_diagram(build_circuit(2, np.zeros((1, 2))))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['$q_{0}$', '$q_{1}$', 'Ry\\n0.00', 'Ry\\n0.00']
    """
    columns = gate_columns(circuit)
    n_qubits = circuit.circuit_param["nqubits"]
    widths = [
        max(_box_width(symbol) for _, symbols in column for symbol in symbols) + 0.35
        for column in columns
    ]
    total = sum(widths) + 0.4
    figure, (axes,) = _figure(min(7.4, 0.62 * total + 0.6), 0.62 * n_qubits + 0.2)
    _drawing_area(axes, (-0.8, total), (-n_qubits + 0.45, 0.55))
    for qubit in range(n_qubits):
        axes.plot([-0.1, total], [-qubit, -qubit], color=GREY, lw=1, ls="-", zorder=1)
        axes.text(-0.25, -qubit, f"$q_{{{qubit}}}$", ha="right", va="center")
    left = 0.2
    for column, width in zip(columns, widths, strict=True):
        for qubits, symbols in column:
            centre = left + width / 2
            if len(qubits) > 1:
                ends = [-min(qubits), -max(qubits)]
                axes.plot([centre, centre], ends, color=CIRCUIT, lw=1.4, ls="-", zorder=2)
            for qubit, symbol in zip(qubits, symbols, strict=True):
                _draw_symbol(axes, symbol, centre, -qubit)
        left += width
    return figure


def probability_bars(
    probabilities: Mapping[str, Sequence[float]] | Sequence[float], *, labels: bool = True
) -> Figure:
    """Draw p_i of every basis state as bars; several circuits stand side by side.

    Args:
        probabilities: shape (2**N,), or label to such; dimensionless.
        labels: whether to write each state's bits (qubit 0 first) rather than its number.

    Example:
        >>> figure = probability_bars([0.5, 0.0, 0.0, 0.5])
        >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
        ['00', '01', '10', '11']
    """
    groups = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
    groups = {label: _array(values) for label, values in groups.items()}
    n_states = len(next(iter(groups.values())))
    n_qubits = n_states.bit_length() - 1
    figure, (axes,) = _figure(6.2, 2.9)
    width = 0.8 / len(groups)
    hatches = (None, "///", "...", "xxx")
    for place, (label, values) in enumerate(groups.items()):
        shift = (place - (len(groups) - 1) / 2) * width
        axes.bar(
            np.arange(n_states) + shift,
            values,
            width,
            label=label,
            color=CURVES[place],
            hatch=hatches[place % 4],
            edgecolor="white",
            lw=0.4,
        )
    axes.set(ylabel="probability $p_i$", xlim=(-0.7, n_states - 0.3))
    axes.grid(axis="x", visible=False)
    if labels:
        axes.set_xticks(range(n_states), [f"{i:0{n_qubits}b}" for i in range(n_states)])
        axes.tick_params(axis="x", rotation=90 if n_qubits > 3 else 0, length=0)
    axes.set_xlabel("basis state $i$ (qubit 0 first)" if labels else "basis state $i$")
    _legend(figure, len(groups))
    return figure


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
    values = {label: _array(sample).ravel() for label, sample in samples.items()}
    everything = np.concatenate(list(values.values()))
    bins = np.linspace(everything.min(), everything.max(), n_bins + 1)
    figure, (axes,) = _figure(6.2, 3.0)
    for place, (label, sample) in enumerate(values.items()):
        style = {"color": CURVES[place], "ls": DASHES[place], "lw": 1.8}
        axes.hist(
            sample, bins, density=True, histtype="stepfilled", alpha=0.15, color=CURVES[place]
        )
        axes.hist(sample, bins, density=True, histtype="step", label=label, **style)
    axes.set(xlabel=x_label, ylabel="density")
    if log_y:
        axes.set_yscale("log")
    _legend(figure, len(values))
    return figure


def generated_and_usual(measured: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw all weights of a generated network and of one trained as usual (Fig. 3).

    Above, each network's weights against their index, as the band between the lowest and the
    highest of neighbouring ones; below, their densities over the same bins.

    Args:
        measured: panel's title to the results of the measurement "weights".

    Example:
        >>> network = {"lowest": [-1, 0], "highest": [0, 1], "counts": [2, 2]}
        >>> results = {"n_weights": 4, "edges": [-1, 0, 1], "qt": network, "classical": network}
        >>> len(generated_and_usual({"MNIST": results}).axes)
        2
    """
    figure, axes = _figure(3.1 * len(measured), 4.6, n_rows=2, n_columns=len(measured))
    labels = {"classical": "as usual", "qt": "generated"}
    for column, (title, results) in enumerate(measured.items()):
        above, below = axes[column], axes[len(measured) + column]
        edges = np.array(results["edges"])
        for place, (model, label) in enumerate(labels.items()):
            found, colour = results[model], CURVES[1 - place]
            index = np.linspace(0, results["n_weights"], len(found["lowest"]))
            above.fill_between(
                index, found["lowest"], found["highest"], color=colour, alpha=0.75, lw=0
            )
            density = np.array(found["counts"]) / results["n_weights"] / np.diff(edges)
            style = {"ls": DASHES[1 - place], "lw": 1.6}
            below.stairs(density, edges, color=colour, label=None if column else label, **style)
        above.set(title=title, xlabel="index of the weight")
        below.set(xlabel="weight", yscale="log")
    axes[0].set_ylabel("weight")
    axes[len(measured)].set_ylabel("density")
    _legend(figure, 2)
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
    figure, (left, right) = _figure(6.4, 3.1, n_columns=2)
    for label, history in histories.items():
        epochs = [epoch["epoch"] for epoch in history]
        left.plot(epochs, [epoch["train_loss"] for epoch in history], label=label)
        right.plot(epochs, [epoch["test_accuracy"] for epoch in history])
    guessing = {"color": GREY, "lw": 1, "ls": ":"}
    left.axhline(math.log(10), **guessing)
    right.axhline(0.1, **guessing)
    left.set(xlabel="epoch", ylabel="training loss / nat", yscale="log")
    right.set(xlabel="epoch", ylabel="test accuracy", ylim=(lowest_accuracy, 1))
    _legend(figure, len(histories))
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
    values = {title: _array(matrix) for title, matrix in matrices.items()}
    limit = max(float(np.abs(matrix).max()) for matrix in values.values())
    wide = all(matrix.shape[1] > 2 * matrix.shape[0] for matrix in values.values())
    if wide:
        figure, all_axes = _figure(6.2, 1.9 * len(values), n_rows=len(values))
    else:
        figure, all_axes = _figure(7.0, 2.6, n_columns=len(values))
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
    figure, all_axes = _figure(7.0, 7.0 / len(images) + 0.35, n_columns=len(images))
    for axes, image, title in zip(all_axes, images, titles, strict=True):
        axes.imshow(_array(image).squeeze(), cmap="gray_r", interpolation="nearest")
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
    n_columns = max(len(layer) for layer in maps)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 2.6 + 0.85 * len(maps)), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=[2.6, 0.85 * len(maps)])
        left, right = top.subplots(1, 2, width_ratios=[1, 2.2])
        left.imshow(_array(image).squeeze(), cmap="gray", interpolation="nearest")
        left.set_axis_off()
        best = int(np.argmax(_array(probabilities)))
        colours = [MAPPING if i == best else CIRCUIT for i in range(len(classes))]
        right.bar(list(classes), _array(probabilities), color=colours)
        right.set_ylabel("probability")
        right.set_ylim(0, 1)
        grid = bottom.subplots(len(maps), n_columns, squeeze=False)
        for axes in grid.ravel():
            axes.set_axis_off()
        for row, layer in zip(grid, maps, strict=True):
            largest = _array(layer).max() or 1.0
            for axes, channel in zip(row, layer, strict=False):
                axes.set_axis_on()
                axes.set(xticks=[], yticks=[])
                axes.imshow(_array(channel), cmap="gray", vmin=0, vmax=largest)
    return figure


def pipeline(
    *, n_qubits: int = 13, n_blocks: int = 16, n_mapping: int = 249, n_weights: int = 6690
) -> Figure:
    """Draw the whole idea: the circuit writes the weights, the loss corrects the circuit.

    Args:
        n_qubits, n_blocks: N and L, for the captions.
        n_mapping: parameters of the mapping net.
        n_weights: M.

    Example:
        >>> texts = [text.get_text() for text in pipeline().axes[0].texts]
        >>> "6,690 weights $\\\\theta$" in texts
        True
    """
    figure, (axes,) = _figure(7.4, 5.0)
    _drawing_area(axes, (0, 74), (2.5, 51))
    _panel(axes, (1, 28, 69, 18.5), "#eaf3fa", "only while training, then thrown away", CIRCUIT)
    _panel(axes, (1, 3, 48.5, 18.5), "#e6f5f0", "what remains: an ordinary network", NETWORK)

    _caption(axes, 12.5, f"circuit: {n_qubits} qubits", f"{n_qubits * n_blocks:,} angles $\\phi$")
    _mini_circuit(axes, (4, 33.2), n_blocks)
    _caption(axes, 35, "measurement", f"{2**n_qubits:,} probabilities $p$")
    _mini_bars(axes, (28.5, 33.2))
    _caption(axes, 58, "mapping net", f"{n_mapping:,} parameters $\\gamma$")
    _mini_net(axes, (51, 33.2))

    _caption(axes, 11.5, "generated", f"{n_weights:,} weights $\\theta$", bottom=True)
    _mini_kernels(axes, (5, 8.4))
    _caption(axes, 36, "target network", "image in, ten scores out", bottom=True)
    _mini_network(axes, (25, 8.4))
    _caption(axes, 60.5, "loss", "cross-entropy / nat", bottom=True)
    _mini_loss(axes, (55, 8.4))

    for start, end in (
        ((22.5, 36.7), (27, 36.7)),
        ((44.5, 36.7), (49.5, 36.7)),
        ((19, 11.6), (23.5, 11.6)),
        ((48, 11.6), (53.5, 11.6)),
    ):
        _arrow(axes, [start, end])
    _arrow(axes, [(58, 32), (58, 24.8), (11.5, 24.8), (11.5, 20.7)])
    gradient = {"color": GREY, "ls": (0, (4, 2))}
    _arrow(axes, [(67.8, 11.6), (72.2, 11.6), (72.2, 48.2), (12.5, 48.2), (12.5, 45.4)], **gradient)
    _arrow(axes, [(58, 48.2), (58, 45.4)], **gradient)
    axes.text(
        35,
        49,
        "gradients: one backward pass through everything",
        color=GREY,
        ha="center",
        va="bottom",
        fontsize=9.5,
    )
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
    figure, all_axes = _figure(7.0, 2.6, n_columns=len(values))
    for axes, (label, numbers), colour in zip(
        all_axes, values.items(), (CIRCUIT, MAPPING, NETWORK), strict=False
    ):
        numbers = _array(numbers)
        n_qubits = len(numbers).bit_length() - 1
        axes.bar(range(len(numbers)), numbers, 0.72, color=colour)
        names = [f"{i:0{n_qubits}b}" for i in range(len(numbers))]
        axes.set_xticks(range(len(numbers)), names, rotation=90 if n_qubits > 3 else 0)
        axes.set(ylabel=label, xlabel="basis state")
        axes.grid(axis="x", visible=False)
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
    figure, (axes,) = _figure(6.2, 3.4)
    axes.plot(sizes, sizes, color=GREY, ls="--", label="as usual: all $M$")
    for (label, values), colour, dash in zip(curves.items(), CURVES, DASHES, strict=False):
        axes.plot(sizes, values, color=colour, ls=dash, label=label)
    axes.plot(*zip(*marks, strict=True), "s", color=INK, ms=4.5, ls="", label="the paper's rows")
    axes.set(xlabel="weights of the network, $M$", ylabel="trained parameters")
    axes.set(xscale="log", yscale="log")
    _legend(figure, 2)
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
    figure, (axes,) = _figure(6.2, 3.4)
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
        for point in points:
            seeds = [accuracy for _, accuracy in point["seeds"]]
            axes.plot([point["n_blocks"]] * len(seeds), seeds, "o", color=colour, ms=3.5, ls="")
    for line, colour in zip(data["classical"], cycle((INK, GREY, CIRCUIT, NETWORK)), strict=False):
        axes.axhline(line["accuracy"], color=colour, lw=1, ls=":", label=line["name"])
    axes.set(xlabel="blocks of the circuit, $L$", ylabel="test accuracy / %")
    low, high = axes.get_ylim()
    ticks = [t for t in (10, 30, 50, 60, 70, 80, 90, 95, 98, 99, 99.5) if low <= t <= high]
    axes.set_yticks(ticks, list(map(str, ticks)))
    _legend(figure, 2)
    return figure


def _figure(
    width: float, height: float, *, n_rows: int = 1, n_columns: int = 1
) -> tuple[Figure, np.ndarray]:
    """A figure in the house style outside pyplot, so that a notebook shows it once."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(n_rows, n_columns, squeeze=False).ravel()


def _legend(figure: Figure, n_labels: int) -> None:
    """Below the axes, where it covers nothing; none for a single curve."""
    if n_labels > 1:
        figure.legend(loc="outside lower center", ncols=min(n_labels, 4))


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=float)


def _drawing_area(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    axes.set(xlim=x, ylim=y, aspect="equal")
    axes.set_axis_off()


def _box_width(symbol: str) -> float:
    """Of a symbol in ``circuit_diagram``, in wire distances."""
    name, _, angles = symbol.partition("(")
    return max(0.5, 0.19 * max(len(name), len(angles) - 1))


def _draw_symbol(axes: Axes, symbol: str, x: float, y: float) -> None:
    if symbol == "●":
        axes.add_patch(Circle((x, y), 0.11, color=CIRCUIT, zorder=3))
    elif symbol == "⊕":
        axes.add_patch(Circle((x, y), 0.21, facecolor="white", edgecolor=CIRCUIT, lw=1.4, zorder=3))
        axes.plot([x - 0.21, x + 0.21], [y, y], color=CIRCUIT, lw=1.4, ls="-", zorder=4)
        axes.plot([x, x], [y - 0.21, y + 0.21], color=CIRCUIT, lw=1.4, ls="-", zorder=4)
    elif symbol == "×":
        axes.plot([x], [y], marker="x", color=CIRCUIT, ms=8, mew=1.8, zorder=4)
    else:
        name, _, angles = symbol.partition("(")
        width = _box_width(symbol)
        axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - 0.3),
                width,
                0.6,
                facecolor="#eaf3fa",
                boxstyle="round,pad=0,rounding_size=0.08",
                edgecolor=CIRCUIT,
                lw=1.2,
                zorder=3,
            )
        )
        label = f"{name}\n{angles[:-1]}" if angles else name
        axes.text(x, y, label, ha="center", va="center", fontsize=8, linespacing=1.0, zorder=5)


def _panel(axes: Axes, box: tuple[float, ...], colour: str, text: str, ink: str) -> None:
    x, y, width, height = box
    shape = FancyBboxPatch(
        (x, y),
        width,
        height,
        facecolor=colour,
        edgecolor="none",
        boxstyle="round,pad=0,rounding_size=1.5",
        zorder=0,
    )
    axes.add_patch(shape)
    axes.text(
        x + width / 2,
        y + 0.9,
        text,
        color=ink,
        ha="center",
        va="bottom",
        fontsize=9.5,
        fontweight="bold",
    )


def _caption(axes: Axes, x: float, name: str, count: str, *, bottom: bool = False) -> None:
    y = 17.1 if bottom else 42.1
    axes.text(x, y + 1.9, name, ha="center", va="center", fontsize=10.5, fontweight="bold")
    axes.text(x, y - 0.3, count, ha="center", va="center", fontsize=9.5)


def _arrow(axes: Axes, points: list[tuple[float, float]], color: str = INK, ls: Any = "-") -> None:
    """A line through the points, with a head at the last."""
    x, y = zip(*points[:-1], strict=True)
    if len(x) > 1:
        axes.plot(x, y, color=color, ls=ls, lw=1.5, zorder=1, solid_joinstyle="round")
    axes.add_patch(
        FancyArrowPatch(
            points[-2],
            points[-1],
            arrowstyle="-|>",
            mutation_scale=11,
            color=color,
            shrinkA=0,
            shrinkB=0,
            lw=1.5,
            linestyle=ls,
            zorder=1,
        )
    )


def _mini_circuit(axes: Axes, corner: tuple[float, float], n_blocks: int) -> None:
    x, y = corner
    for wire in range(4):
        height = y + 6.6 - 2.2 * wire
        axes.plot([x, x + 17], [height, height], color=GREY, lw=1, ls="-", zorder=1)
        axes.add_patch(
            Rectangle(
                (x + 1.5, height - 0.8),
                2.6,
                1.6,
                facecolor="white",
                edgecolor=CIRCUIT,
                lw=1.2,
                zorder=3,
            )
        )
    for wire in range(3):
        height, at = y + 6.6 - 2.2 * wire, x + 6.4 + 2.4 * wire
        axes.plot([at, at], [height, height - 2.2], color=CIRCUIT, lw=1.2, ls="-", zorder=2)
        axes.add_patch(Circle((at, height), 0.35, color=CIRCUIT, zorder=3))
        axes.add_patch(
            Circle((at, height - 2.2), 0.62, facecolor="white", edgecolor=CIRCUIT, lw=1.2, zorder=3)
        )
        axes.plot([at, at], [height - 2.8, height - 1.6], color=CIRCUIT, lw=1.2, ls="-", zorder=4)
        axes.plot([at - 0.6, at + 0.6], [height - 2.2] * 2, color=CIRCUIT, lw=1.2, ls="-", zorder=4)
    axes.text(
        x + 14.6,
        y + 5.5,
        f"×{n_blocks}",
        ha="center",
        va="center",
        fontsize=9.5,
        zorder=5,
        color=CIRCUIT,
        bbox={"facecolor": "#eaf3fa", "edgecolor": "none", "pad": 1},
    )


def _mini_bars(axes: Axes, corner: tuple[float, float]) -> None:
    heights = np.random.default_rng(4).gamma(0.6, size=16)
    heights = 7 * heights / heights.max() + 0.12
    for place, height in enumerate(heights):
        axes.add_patch(Rectangle((corner[0] + 0.85 * place, corner[1]), 0.6, height, color=CIRCUIT))


def _mini_net(axes: Axes, corner: tuple[float, float]) -> None:
    layers = [(corner[0] + 4.6 * place, n) for place, n in enumerate((5, 3, 5, 1))]
    nodes = [[(x, corner[1] + 3.5 + 1.65 * (k - (n - 1) / 2)) for k in range(n)] for x, n in layers]
    for here, there in pairwise(nodes):
        for a in here:
            for b in there:
                axes.plot(
                    *zip(a, b, strict=True), color=MAPPING, lw=0.5, ls="-", alpha=0.6, zorder=1
                )
    for node in chain(*nodes):
        axes.add_patch(Circle(node, 0.62, facecolor="white", edgecolor=MAPPING, lw=1.3, zorder=2))


def _mini_kernels(axes: Axes, corner: tuple[float, float]) -> None:
    values = np.random.default_rng(1).normal(size=(2, 3, 5, 5))
    colours = matplotlib.colormaps[SIGNED](0.5 + values / 6)
    for row, column, i, j in np.ndindex(values.shape):
        at = (corner[0] + 4.5 * column + 0.75 * j, corner[1] - 0.9 + 4.5 * row + 0.75 * i)
        axes.add_patch(Rectangle(at, 0.75, 0.75, facecolor=colours[row, column, i, j], lw=0))


_SEVEN = (
    "........",
    ".#####..",
    ".....#..",
    "....##..",
    "...##...",
    "..##....",
    "..#.....",
    "........",
)


def _mini_network(axes: Axes, corner: tuple[float, float]) -> None:
    x, y = corner
    for i, row in enumerate(reversed(_SEVEN)):
        for j, pixel in enumerate(row):
            axes.add_patch(
                Rectangle(
                    (x + 0.85 * j, y + 0.85 * i - 0.2),
                    0.85,
                    0.85,
                    lw=0,
                    facecolor=INK if pixel == "#" else "white",
                )
            )
    for place in range(4):
        axes.add_patch(
            Rectangle(
                (x + 9 + 0.7 * place, y + 2.2 - 0.7 * place),
                3.4,
                3.4,
                lw=1.1,
                facecolor="white",
                edgecolor=NETWORK,
                zorder=2 + place,
            )
        )
    scores = (0.4, 0.7, 0.3, 0.5, 0.35, 0.2, 0.3, 2.9, 0.5, 0.8)
    for place, score in enumerate(scores):
        axes.add_patch(
            Rectangle((x + 17.2, y + 6.1 - 0.68 * place), 1.6 * score, 0.48, color=NETWORK)
        )
    for start in (7.3, 15.2):
        axes.plot([x + start, x + start + 1.2], [y + 3.2] * 2, color=NETWORK, lw=1.2, ls="-")


def _mini_loss(axes: Axes, corner: tuple[float, float]) -> None:
    x, y = corner
    time = np.linspace(0, 11, 60)
    axes.plot([x, x, x + 11.5], [y + 7, y, y], color=GREY, lw=1, ls="-")
    curve = 6.2 / (1 + np.exp(0.9 * (time - 4))) + 0.5 + 0.25 * np.sin(4 * time) * np.exp(-time / 5)
    axes.plot(x + 0.2 + time, y + curve, color=INK, lw=1.5, ls="-")


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
    figure, (axes,) = _figure(6.4, 3.5)
    references, verticals = references or {}, verticals or {}
    for place, (label, (x, y, error)) in enumerate(curves.items()):
        style = {"color": CURVES[place % 6], "ls": DASHES[place % 6], "marker": "osD^vP"[place % 6]}
        axes.errorbar(x, y, error, label=label, ms=4, lw=1.4, capsize=2, elinewidth=1, **style)
    for place, (label, (x, y)) in enumerate(references.items()):
        dash = ((0, (1, 2)), (0, (6, 2)), "-.", (0, (3, 1, 1, 1, 1, 1)))[place % 4]
        axes.plot(x, y, label=label, color=GREY, lw=1.2, ls=dash, zorder=1)
    if x_base is not None:
        axes.set_xscale("log", base=x_base)
    if log_y:
        axes.set_yscale("log")
    for text, x in verticals.items():
        axes.axvline(x, color=GREY, lw=1, ls=":")
        place = {"xy": (x, 0.03), "xycoords": ("data", "axes fraction"), "rotation": 90}
        offset = {"xytext": (-3, 0), "textcoords": "offset points", "ha": "right", "va": "bottom"}
        axes.annotate(text, **place, **offset, color=GREY, fontsize=9)
    axes.set(xlabel=x_label, ylabel=y_label)
    _legend(figure, len(curves) + len(references))
    return figure


def compared_models(
    panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], *, x_label: str
) -> Figure:
    """Draw a line for each model: the mean over its seeds and how far they reach.

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
    figure, all_axes = _figure(7.2, 0.8 + 0.3 * len(models), n_columns=len(panels))
    for axes, (title, series) in zip(all_axes, panels.items(), strict=True):
        for place, (label, values) in enumerate(series.items()):
            found = [model for model in models if model in values]
            means = np.array([np.mean(values[model]) for model in found])
            ends = np.array([[min(values[m]), max(values[m])] for m in found])
            axes.errorbar(
                means,
                [models.index(model) for model in found],
                xerr=np.abs(ends.T - means),
                fmt="osD"[place % 3],
                color=CURVES[place % 6],
                label=label,
                ms=5,
                capsize=2,
                elinewidth=1,
            )
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        few = high / low > 15  # more would lie on each other
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(title=title, xlabel=x_label, ylim=(len(models) - 0.5, -0.5))
        axes.set_yticks(range(len(models)), models if axes is all_axes[0] else [""] * len(models))
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure
