"""The ladder's ends are the recipes themselves, and its runs are the training's own."""

import pytest

from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.studies.ladder import CHANGES, ladder, ladder_config
from qtlite.experiments.studies.study import Row
from qtlite.experiments.train.loop import train


@pytest.mark.parametrize("dataset", ["digits", "mnist"])
def test_its_ends_are_the_recipes(dataset):
    assert ladder_config("literal", (), dataset=dataset) == recipe_config("literal", dataset)
    assert ladder_config("qtlite", CHANGES, dataset=dataset) == recipe_config("qtlite", dataset)


def test_it_has_every_combination_and_trains_as_train_does():
    found = ladder(Row("digits", 4), epochs=1, n_train=128, n_seeds=1)
    assert len({(entry["start"], *entry["changed"]) for entry in found}) == 16 == len(found)
    rows = next(e for e in found if e["changed"] == ["normalisation"] and e["start"] == "literal")
    settings = {"n_blocks": 4, "epochs": 1, "n_train": 128, "normalisation": "row"}
    config = recipe_config("literal", **settings)
    record = train(config, load_dataset("digits"), progress=False).record
    assert rows["test_accuracy"] == record["test_accuracy"]
    assert rows["train_loss"] == record["train_loss"]
