"""How the book's figures look: one style, one meaning for each colour, vector output.

Blue is the circuit, vermilion the mapping net, green the target network (Okabe and Ito's colours,
told apart with every kind of colour vision; curves differ in dash as well). Figures stand on white
paper on purpose: the same file is legible on a light page, on a dark one, and in print.
"""

import os
from typing import IO, Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure

INK, GREY, PALE = "#1d232b", "#5f6b76", "#d9dfe5"
CIRCUIT, MAPPING, NETWORK = "#0072b2", "#d55e00", "#009e73"
CURVES = (CIRCUIT, MAPPING, NETWORK, "#cc79a7", "#e69f00", INK)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = "osD^vP"
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


def use_book_style() -> None:
    """Set matplotlib to the book's style; in a notebook, also show figures as vectors (SVG).

    Example:
        >>> with matplotlib.rc_context():  # a page leaves this out: its style is to stay
        ...     use_book_style()
        ...     matplotlib.rcParams["axes.spines.top"]
        False
    """
    matplotlib.rcParams.update(STYLE)
    try:
        shell = get_ipython()  # exists in every notebook
    except NameError:
        return
    if hasattr(shell, "kernel"):
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", bbox_inches="tight", metadata={"Date": None})


def new_figure(
    width: float, height: float, *, n_rows: int = 1, n_columns: int = 1
) -> tuple[Figure, np.ndarray]:
    """Return a figure in the book's style and its axes, row by row.

    The figure is not one of pyplot's, so that a notebook shows it once.

    Args:
        width, height: inches.
        n_rows, n_columns: of the grid of axes.

    Example:
        >>> figure, (left, right) = new_figure(6, 3, n_columns=2)
        >>> figure.get_size_inches().tolist()
        [6.0, 3.0]
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(n_rows, n_columns, squeeze=False).ravel()


def add_legend(figure: Figure, n_labels: int) -> None:
    """Put a legend below the axes, where it covers nothing; none for a single curve."""
    if n_labels > 1:
        figure.legend(loc="outside lower center", ncols=min(n_labels, 4))


def as_array(values: Any) -> np.ndarray:
    """Return tensors, lists and arrays as an array of floats."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=float)


def save_svg(figure: Figure, path: str | os.PathLike | IO[str]) -> None:
    """Write a figure as SVG, the same bytes each time.

    Example:
        >>> import io
        >>> file = io.StringIO()
        >>> save_svg(new_figure(2, 1)[0], file)
        >>> "<svg" in file.getvalue()
        True
    """
    with matplotlib.rc_context(STYLE):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(path, format="svg", bbox_inches="tight", metadata=metadata)
