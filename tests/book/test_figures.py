"""The figures: what they show, that they are vectors, that they build the same twice."""

import io

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

from qtlite.experiments.report import figures, pages, save_svg
from qtlite.experiments.report.style import CURVES

HISTORY = [
    {"epoch": 1, "train_loss": 200.0, "test_accuracy": 0.1},
    {"epoch": 2, "train_loss": 1.0, "test_accuracy": 0.8},
]


FIGURES = {
    "lines": lambda: figures.lines(
        [1, 2], {"a": [1, 2], "b": [[1, 3], [2, 4]]}, x_label="x", y_label="y"
    ),
    "bars": lambda: figures.probability_bars({"a": [0.5, 0.5], "b": [1.0, 0.0]}),
    "distribution": lambda: figures.distribution({"a": torch.randn(50)}, x_label="x", log_y=True),
    "loss": lambda: figures.loss_curves({"one": HISTORY, "two": HISTORY}),
    "heatmaps": lambda: figures.heatmaps({"a": np.eye(2), "b": -np.eye(2)}, bar_label="entry"),
    "wide heatmaps": lambda: figures.heatmaps({"a": np.ones((2, 9))}, bar_label="entry"),
    "images": lambda: figures.image_row(torch.zeros(3, 1, 5, 5), ["0", "1", "2"]),
    "states": lambda: figures.state_bars({"a": [0.5, 0.5], "b": [-1.0, 0.0]}),
}


def as_svg(figure: Figure) -> str:
    file = io.StringIO()
    save_svg(figure, file)
    return file.getvalue()


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_outside_pyplot_as_a_vector_file(name):
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    assert pyplot.get_fignums() == []
    svg = as_svg(figure)
    assert svg.count("<path") + svg.count("<use") > 5
    assert ("<image" in svg) == (name == "images")
    if name in ("lines", "bars", "distribution", "loss"):
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    if name == "heatmaps":
        assert svg == as_svg(FIGURES[name]())


def test_curves_differ_in_colour_and_in_dash():
    curves = {str(i): [i, i] for i in range(len(CURVES))}
    drawn = figures.lines([0, 1], curves, x_label="x", y_label="y").axes[0].get_lines()
    assert len({line.get_color() for line in drawn}) == len(drawn)
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == len(drawn)


def test_runs_share_one_entry_of_the_legend_and_missing_values_leave_a_gap():
    curves = {"a": [[1, np.nan, 4], [2, 3, 5]], "b": [0, 1, 2]}
    figure = figures.lines([0, 1, 2], curves, x_label="x", y_label="y", log_y=True)
    first, *others = (line.get_ydata() for line in figure.axes[0].get_lines())
    np.testing.assert_array_equal(first, [1, np.nan, 4])
    assert len(others) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_histograms_are_numpys():
    sample = np.random.default_rng(0).normal(size=100)
    axes = figures.distribution({"a": sample, "b": 2 * sample}, x_label="x", n_bins=7).axes[0]
    edges = np.linspace(2 * sample.min(), 2 * sample.max(), 8)
    for patches, values in ((axes.patches[:2], sample), (axes.patches[2:], 2 * sample)):
        for patch in patches:
            density, _ = np.histogram(values, edges, density=True)
            assert patch.get_data().values == pytest.approx(density)


def test_sentences_and_tables_are_printed_outside_notebooks(capsys):
    pages.say("**a**")
    pages.show_table(["a", "b"], [["x", "1,234"]])
    pages.show_table(["a"], [["1.0 ± 0.1 (3 seeds)"], ["1.0 ± 0.1 (3)"]])
    pages.show_table(["a", "b"], [])
    pages.foot()
    printed = capsys.readouterr().out.splitlines()
    assert printed[:4] == ["**a**", "| a | b |", "| :-- | --: |", "| x | 1,234 |"]
    assert printed[6:8] == ["| 1.0\xa0±\xa00.1 (3\xa0seeds) |", "| 1.0\xa0±\xa00.1\xa0(3) |"]
    assert printed[8:10] == ["| a | b |", "| :-- | :-- |"]
    assert printed[10].startswith("*This page ran in ")
    assert "torch" in printed[10]


def test_a_tables_caption_is_text_in_a_notebook_and_a_directive_in_the_book(capsys, monkeypatch):
    """The directive, which Sphinx numbers, is what MyST's own documentation shows."""
    monkeypatch.delenv(pages.STATIC_VARIABLE, raising=False)
    pages.say_table("| a |\n| --- |\n| 1 |\n\nA note.\n", "table-a", "What `a` is.")
    monkeypatch.setenv(pages.STATIC_VARIABLE, "1")
    pages.show_table(["a"], [["1"]], "table-a", "What `a` is.")
    live, built = capsys.readouterr().out.split("~~~~", 1)
    assert live == "*What `a` is.*\n\n| a |\n| --- |\n| 1 |\n\nA note.\n"
    directive, _, _ = built.partition("~~~~")
    assert directive == "{table} What `a` is.\n:name: table-a\n\n| a |\n| --: |\n| 1 |\n"
