"""A study of rounding: its starts differ in one last bit, and its runs are the training's own."""

from types import SimpleNamespace

import torch

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import load_dataset
from qtlite.experiments.models.build import build_model
from qtlite.experiments.studies import rounding, studies
from qtlite.experiments.studies.study import Row
from qtlite.experiments.train.checkpoint import CHECKPOINT, read_checkpoint
from qtlite.experiments.train.loop import train

CONFIG = TrainConfig(n_train=256, epochs=2, seed=2)
DIGITS = load_dataset("digits")


def test_a_neighbour_differs_in_the_last_bit_of_one_angle(tmp_path, monkeypatch):
    nothing = dict.fromkeys(("test_accuracy", "train_accuracy", "wall_seconds")) | {"history": []}
    monkeypatch.setattr(rounding, "train", lambda *_, **__: SimpleNamespace(record=nothing))
    rounding.run_from_neighbour(CONFIG, DIGITS, tmp_path, 19)
    found = read_checkpoint(tmp_path / CHECKPOINT)
    assert found["history"] == found["parts"] == []
    steps = {
        (name, place.item()): (ours - start).flatten()[place].item()
        for name, tensor in build_model(CONFIG).state_dict().items()
        for start, ours in [[t.view(torch.int32) for t in (tensor, found["model"][name])]]
        for place in (ours != start).flatten().nonzero()
    }
    assert list(steps) == [("qnn.angles", 19)]
    assert abs(steps["qnn.angles", 19]) == 1, "the next float32 number"


def test_a_neighbour_that_is_the_start_itself_trains_as_train_does(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "nextafter", lambda number, _: number)
    found = rounding.run_from_neighbour(CONFIG, DIGITS, tmp_path, 0)
    record = train(CONFIG, DIGITS, progress=False).record
    assert found["history"] == [epoch["test_accuracy"] for epoch in record["history"]]
    assert found["train_accuracy"] == record["train_accuracy"]
    again = rounding.run_from_neighbour(CONFIG, DIGITS, tmp_path, 0)
    assert again == found, "a finished run is read, with its own time"


def test_the_study_is_of_the_seed_that_was_run_again_elsewhere():
    config = studies()["rounding"].config(Row("fashion_mnist", 46))
    assert config == {"dataset": "fashion_mnist", "n_blocks": 46, "seed": 2, "n_runs": 10}
