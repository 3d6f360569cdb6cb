"""The counts of confused classes are those of scikit-learn, from the network's own answers."""

import pytest
import torch
from sklearn.metrics import confusion_matrix

from qtlite.experiments.data.loading import load_dataset, to_float
from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records.records import record_id
from qtlite.experiments.studies import run_study
from qtlite.experiments.train.checkpoint import CHECKPOINT
from qtlite.experiments.train.runs import NETWORK
from qtlite.export import save_safetensors


def test_counts_are_those_of_the_networks_answers(tmp_path):
    config = recipe_config("qtlite", "digits")
    torch.manual_seed(0)
    network, folder = paper_cnn("digits"), tmp_path / record_id(config)
    folder.mkdir()
    save_safetensors(network, folder / NETWORK)
    content = {"config": config.to_dict(), "history": [{}] * config.epochs}
    torch.save(content, folder / CHECKPOINT)

    found = run_study("confusion", "digits", runs=tmp_path)

    digits = load_dataset("digits")
    inputs = to_float(digits.test_images, config.pixel_mean, config.pixel_std)
    with torch.no_grad():
        answers = network(inputs).argmax(dim=1)
    expected = confusion_matrix(digits.test_labels, answers, labels=range(10))
    assert found["name"] == "confusion-digits-L16"
    assert found["results"] == {"run": folder.name, "counts": expected.tolist()}


def test_without_a_finished_run_it_says_so(tmp_path):
    with pytest.raises(ValueError, match="runs must hold a finished run digits-qt-qtlite-L16-s0"):
        run_study("confusion", "digits", runs=tmp_path)
