"""The figures: what they show, that they are vectors, that they build the same twice."""

import io

import numpy as np
import pytest
import tensorcircuit as tc
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from qtlite.circuit import build_circuit
from qtlite.experiments.ansaetze import u3_ring_cu3
from qtlite.experiments.report import figures, pages, save_svg
from qtlite.experiments.report.circuit_drawing import draw_text, gate_columns
from qtlite.experiments.report.style import CURVES

HISTORY = [
    {"epoch": 1, "train_loss": 200.0, "test_accuracy": 0.1},
    {"epoch": 2, "train_loss": 1.0, "test_accuracy": 0.8},
]


def every_gate() -> tc.Circuit:
    circuit = tc.Circuit(3)
    circuit.h(0)
    circuit.ry(1, theta=0.5)
    circuit.cnot(0, 2)
    circuit.cz(0, 1)
    circuit.swap(1, 2)
    circuit.toffoli(0, 1, 2)
    circuit.cry(2, 0, theta=-1.5)
    circuit.rzz(0, 1, theta=0.25)
    return circuit


FIGURES = {
    "lines": lambda: figures.lines(
        [1, 2], {"a": [1, 2], "b": [[1, 3], [2, 4]]}, x_label="x", y_label="y"
    ),
    "circuit": lambda: figures.circuit_diagram(every_gate()),
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
    if name != "images":
        assert "<image" not in svg


def test_axes_of_data_have_labels():
    for name in ("lines", "bars", "distribution", "loss"):
        for axes in FIGURES[name]().axes:
            assert axes.get_xlabel(), name
            assert axes.get_ylabel(), name


def test_the_same_figure_gives_the_same_file():
    assert as_svg(FIGURES["heatmaps"]()) == as_svg(FIGURES["heatmaps"]())


def test_curves_differ_in_colour_and_in_dash():
    curves = {str(i): [i, i] for i in range(len(CURVES))}
    drawn = figures.lines([0, 1], curves, x_label="x", y_label="y").axes[0].get_lines()
    assert len({line.get_color() for line in drawn}) == len(drawn)
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == len(drawn)


def test_missing_values_leave_a_gap_and_are_not_drawn_elsewhere():
    figure = figures.lines([0, 1, 2], {"a": [1, np.nan, 3]}, x_label="x", y_label="y", log_y=True)
    assert np.array_equal(figure.axes[0].get_lines()[0].get_ydata(), [1, np.nan, 3], equal_nan=True)


def test_histograms_are_numpys():
    sample = np.random.default_rng(0).normal(size=100)
    axes = figures.distribution({"a": sample, "b": 2 * sample}, x_label="x", n_bins=7).axes[0]
    edges = np.linspace(2 * sample.min(), 2 * sample.max(), 8)
    for patches, values in ((axes.patches[:2], sample), (axes.patches[2:], 2 * sample)):
        for patch in patches:
            density, _ = np.histogram(values, edges, density=True)
            assert patch.get_data().values == pytest.approx(density)


def test_several_runs_share_one_entry_of_the_legend():
    figure = figures.lines([0, 1], {"a": [[1, 2], [2, 3]], "b": [0, 1]}, x_label="x", y_label="y")
    assert len(figure.axes[0].get_lines()) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_diagram_shows_each_gate_once():
    axes = figures.circuit_diagram(build_circuit(4, np.zeros((2, 4)))).axes[0]
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    circles = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert len(boxes) == 8  # Ry
    assert len(circles) == 2 * 2 * 3  # a dot and a ring for each CNOT


def test_gates_stand_in_columns_that_do_not_cross():
    columns = gate_columns(build_circuit(5, np.zeros((3, 5))))
    gates = [gate for column in columns for gate in column]
    assert len(gates) == 3 * (5 + 4)
    for column in columns:
        wires = [q for qubits, _ in column for q in range(min(qubits), max(qubits) + 1)]
        assert len(wires) == len(set(wires))


def test_text_drawing_of_every_kind_of_gate():
    lines = draw_text(every_gate()).splitlines()
    assert [line[:3] for line in lines[::2]] == ["q0 ", "q1 ", "q2 "]
    assert len({len(line) for line in lines[::2]}) == 1
    assert "Ry(-1.50)" in lines[0]
    assert "┼" in lines[2]  # the wire that CNOT(0, 2) crosses
    assert lines[0].count("●") == 3
    assert "Rzz(0.25)" in lines[0]
    assert "Rzz(0.25)" in lines[2]


def test_text_drawing_of_trainable_complex_gates():
    with tc.runtime_backend("pytorch"):
        circuit = build_circuit(2, torch.ones(1, 12, requires_grad=True), u3_ring_cu3)
        assert draw_text(circuit).count("U(1.00, 1.00, 1.00)") == 4


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
