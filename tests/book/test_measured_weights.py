"""The measurement behind Fig. 3 is compared with NumPy's histogram of the networks' own weights."""

import numpy as np
import pytest
import torch
from refusals import refused

from qtlite.experiments.models.targets import paper_cnn
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records.records import record_id
from qtlite.experiments.report import figures
from qtlite.experiments.studies import run_study
from qtlite.experiments.train.checkpoint import CHECKPOINT
from qtlite.experiments.train.runs import NETWORK
from qtlite.export import save_safetensors


@pytest.fixture
def networks(tmp_path):
    torch.manual_seed(0)
    found = {"qt": paper_cnn("digits"), "classical": paper_cnn("digits")}
    for model, network in found.items():
        config = recipe_config("qtlite", "digits", model=model)
        folder = tmp_path / f"{record_id(config).rpartition('-')[0]}-older"
        folder.mkdir()
        save_safetensors(network, folder / NETWORK)
        for n_epochs, place in ((config.epochs, folder), (1, tmp_path / record_id(config))):
            place.mkdir(exist_ok=True)  # the second is not finished
            content = {"config": config.to_dict(), "history": [{}] * n_epochs}
            torch.save(content, place / CHECKPOINT)
    return tmp_path, found


def test_bands_and_counts_are_those_of_the_weights(networks):
    runs, found = networks
    results = run_study("weights", "digits", runs=runs)["results"]
    edges = np.array(results["edges"])
    assert results["n_weights"] == 6690
    for model, network in found.items():
        assert results[model]["run"].endswith("-older")
        flat = np.concatenate([p.detach().numpy().ravel() for p in network.parameters()])
        assert np.histogram(flat.astype(float), edges)[0].tolist() == results[model]["counts"]
        assert sum(results[model]["counts"]) == 6690
        pieces = np.array_split(flat, len(results[model]["lowest"]))
        assert results[model]["lowest"] == pytest.approx([p.min() for p in pieces], rel=1e-3)
        assert results[model]["highest"] == pytest.approx([p.max() for p in pieces], rel=1e-3)


def test_figure_has_a_pair_of_panels_for_each_dataset(networks):
    results = run_study("weights", "digits", runs=networks[0])["results"]
    axes = figures.generated_and_baseline({"a": results, "b": results}).axes
    assert [panel.get_title() for panel in axes] == ["a", "b", "", ""]
    area = axes[2].patches[0].get_data().values @ np.diff(results["edges"])
    assert area == pytest.approx(1)


def test_missing_runs_are_named(tmp_path):
    text = "runs must hold a finished run digits-qt-qtlite-L16"
    refused(text, run_study, "weights", "digits", runs=tmp_path)
