"""The controls without a browser: set a value, look at what they show."""

import base64

import pytest

from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.report import widgets
from qtlite.experiments.report.live_figures import LiveFigure


def image_of(html):
    return base64.b64decode(html.value.partition("base64,")[2].partition('"')[0])


def test_static_pages_get_no_controls(monkeypatch):
    monkeypatch.setenv(widgets.STATIC_VARIABLE, "1")
    assert isinstance(widgets.circuit(), LiveFigure)
    assert isinstance(widgets.counts(), LiveFigure)


def test_notebooks_get_controls(monkeypatch):
    monkeypatch.delenv(widgets.STATIC_VARIABLE, raising=False)
    assert type(widgets.circuit()).__name__ == "VBox"
    assert type(widgets.counts()).__name__ == "VBox"
    assert type(widgets.training()).__name__ == "VBox"


def test_without_ipywidgets_there_are_figures(monkeypatch):
    monkeypatch.setattr(widgets, "find_spec", lambda name: None)
    assert isinstance(widgets.circuit(), LiveFigure)


@pytest.mark.parametrize(
    ("place", "value"), [(0, 2), (1, 3), (2, False), (3, 10)], ids=["N", "L", "CNOTs", "shots"]
)
def test_every_control_of_the_circuit_draws_anew(place, value):
    head, _, picture = widgets.circuit_controls().children
    before = image_of(picture)
    head.children[place].value = value
    assert image_of(picture) != before
    assert b"<svg" in image_of(picture)


def test_angles_draw_anew_and_their_number_is_that_of_the_circuit():
    head, grid, picture = widgets.circuit_controls().children
    assert [len(column.children) for column in grid.children] == [3, 3]
    before = image_of(picture)
    grid.children[1].children[2].value = 0.0
    assert image_of(picture) != before
    head.children[0].value = 4
    assert [len(column.children) for column in grid.children] == [4, 4]


def test_counts_follow_the_papers_table():
    head, says = widgets.count_controls().children
    n_weights, n_blocks, hidden = head.children
    n_blocks.value = 121
    assert says.value.startswith("6,690 weights: 1,822 trained")
    n_weights.value, n_blocks.value, hidden.value = 285226, 323, (40, 200, 40)
    assert says.value.startswith("285,226 weights: 23,258 trained")


def test_training_shows_every_epoch(one_thread):
    config = recipe_config("qtlite", n_train=256, epochs=2)
    head, says, picture = widgets.training_controls(config).children
    blocks, _, _, button = head.children
    blocks.value = 2
    seen = []
    picture.observe(lambda change: seen.append(says.value), names="value")
    button.click()
    assert [text.partition(":")[0] for text in seen] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert not button.disabled


def test_training_learns(one_thread):
    *_, history = widgets.train_by_epochs(recipe_config("qtlite", epochs=6))
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    assert history[-1]["test_accuracy"] > 0.5
