"""The controls without a browser: set a value, look at what they show."""

import pytest

from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.report import widgets
from qtlite.experiments.report.live_figures import LiveFigure


def controls(box):
    return {control.description: control for control in box.children[:-1]}


def heights(box):
    return [bar.get_height() for axes in box.result.axes for bar in axes.patches]


def test_static_pages_get_no_controls(monkeypatch):
    monkeypatch.setenv(widgets.STATIC_VARIABLE, "1")
    assert isinstance(widgets.circuit(), LiveFigure)
    assert isinstance(widgets.counts(), LiveFigure)


def test_notebooks_get_controls(monkeypatch):
    monkeypatch.delenv(widgets.STATIC_VARIABLE, raising=False)
    for make in (widgets.circuit, widgets.counts, widgets.training):
        assert type(make()).__name__ == "interactive"


def test_without_ipywidgets_there_are_figures(monkeypatch):
    monkeypatch.setattr(widgets, "find_spec", lambda name: None)
    assert isinstance(widgets.circuit(), LiveFigure)


@pytest.mark.parametrize(
    ("name", "value"),
    [("qubits", 2), ("blocks", 3), ("entangled", False), ("shots", 10), ("block 2, qubit 2", 0.0)],
)
def test_every_control_of_the_circuit_draws_anew(name, value):
    box = widgets.circuit_controls()
    before = heights(box)
    controls(box)[name].value = value
    assert heights(box) != before
    assert len(heights(box)) == (8 if name == "qubits" else 16)


def test_counts_follow_the_papers_table():
    box = widgets.count_controls()
    assert box.result.data == "6,690 weights: 457 trained parameters, 6.8 %"
    n_weights, n_blocks, hidden = box.children[:3]
    n_blocks.value = 121
    assert box.result.data.startswith("6,690 weights: 1,822 trained")
    n_weights.value, n_blocks.value, hidden.value = 285226, 323, (40, 200, 40)
    assert box.result.data.startswith("285,226 weights: 23,258 trained")


def test_training_shows_every_epoch(one_thread, capsys):
    box = widgets.training_controls(recipe_config("qtlite", n_train=256, epochs=2))
    controls(box)["n_blocks"].value = 2
    controls(box)["Train"].click()
    printed = capsys.readouterr().out
    assert printed.count("Figure(") == printed.count("test accuracy") == 2
    assert "epoch 2: loss" in printed
    assert not controls(box)["Train"].disabled
