import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from refusals import refused

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.controls import CONTROL_ROWS, CONTROLS
from qtlite.experiments.paper import TABLES
from qtlite.experiments.recipes import CIFAR_HYPERNETWORK_RATE, WEIGHT_DECAY, recipe_config
from qtlite.experiments.records.query import read_runs
from qtlite.experiments.records.records import read_records, record_id
from qtlite.experiments.report.tables import trial_rows
from qtlite.experiments.train.runs import NETWORK
from qtlite.experiments.train.sweep import run_sweep, run_to_files
from qtlite.experiments.train.trials import (
    BASELINE_TRIAL,
    DECAY_TRIALS,
    HYPERNETWORK_TRIAL,
    HYPERNETWORK_TRIALS,
    LONG_DECAY_TRIALS,
    SWEEPS,
    read_configs,
    sweep_configs,
)

ROOT = Path(__file__).resolve().parents[2]
QUICK = TrainConfig(n_train=128, epochs=1, n_blocks=2)


def test_sweep_covers_every_row_for_every_recipe_and_seed():
    configs = sweep_configs("table2", ["qtlite", "literal"], n_seeds=2)
    assert len(configs) == len(TABLES["fashion_mnist"]) * 2 * 2
    assert len({record_id(config) for config in configs}) == len(configs)
    assert {config.n_blocks for config in configs if config.model == "qt"} == {
        16, 31, 46, 61, 76, 91, 106, 121
    }  # fmt: skip


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_names_different_runs(name):
    configs = sweep_configs(name, n_seeds=2)
    assert len(set(configs)) == len(configs)
    assert {config.seed for config in configs} == {0, 1}


def test_controls_stand_beside_their_qt_row():
    configs = sweep_configs("controls", n_seeds=1)
    rows = {}
    for config in configs:
        rows.setdefault((config.dataset, config.n_blocks), []).append(config.model)
    assert rows == {row: ["qt", *CONTROLS] for row in CONTROL_ROWS}


def test_choices_and_trials_never_see_the_test_set():
    for name in ("choices", *(name for name in SWEEPS if name.endswith("-trials"))):
        assert all(config.n_validation == 5000 for config in sweep_configs(name, n_seeds=1)), name


def test_ablation_changes_one_thing_at_a_time():
    recipe = recipe_config("qtlite", "mnist")
    for config in sweep_configs("ablation", n_seeds=1)[1:]:
        changed = {
            name for name, value in config.to_dict().items() if value != recipe.to_dict()[name]
        }
        one_choice = ({"pixel_mean", "pixel_std"}, {"optimiser", "learning_rate"})
        assert len(changed) == 1 or changed in one_choice


def test_what_has_a_record_is_not_run_again(tmp_path):
    configs = [QUICK, replace(QUICK, seed=1)]
    runs, records = tmp_path / "runs", tmp_path / "records"
    first = records / f"{record_id(QUICK)}.json"
    run_to_files(QUICK, runs, first, progress=False)
    before = first.stat().st_mtime_ns
    (second,) = run_sweep(configs, runs, records, n_processes=1, progress=False)
    assert second.stem == record_id(configs[1])
    assert first.stat().st_mtime_ns == before
    assert sorted(record["seed"] for record in read_records(records)) == [0, 1]
    networks = [runs / path.stem / NETWORK for path in (first, second)]
    networks[0].unlink()  # which a record may do without
    assert run_sweep(configs, runs, records, progress=False) == []
    networks[1].write_bytes(networks[1].read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=f"as qtlite wrote it, got {networks[1]}, which has cha"):
        run_sweep(configs, runs, records, progress=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_runs_take_place_on_the_device_asked_for(tmp_path):
    with pytest.raises(ValueError, match="device must be .cpu. where .*, got .cuda."):
        run_sweep([QUICK], tmp_path, tmp_path, device="cuda", n_processes=1, progress=False)


def test_a_failing_run_does_not_stop_the_others(tmp_path):
    bad = replace(QUICK, model="classical", learning_rate=1e30, epochs=3)
    with pytest.raises(RuntimeError, match=r"runs must end, got digits-classical.*finite"):
        run_sweep([bad, QUICK], tmp_path, tmp_path / "records", n_processes=1, progress=False)
    assert [record["id"] for record in read_records(tmp_path / "records")] == [record_id(QUICK)]


def test_bad_input():
    refused("name must be one of .*, got 'table4'", sweep_configs, "table4", n_seeds=1)
    for wrong in (0, "2"):
        message = f"n_seeds must be a whole number between 1 and 1000, got {wrong!r}"
        refused(message, sweep_configs, "table1", n_seeds=wrong)
    message = r"recipes must be \('qtlite',\) for 'controls', got .*literal"
    refused(message, sweep_configs, "controls", ["literal"])
    for wrong in ([], "qtlite", None):
        message = re.escape(f"recipes must be a list of at least one name, got {wrong!r}")
        refused(message, sweep_configs, "table1", wrong)


def test_a_list_of_runs_is_read_with_the_recipe_filling_in(tmp_path):
    path = tmp_path / "mine.json"
    first, second = '{"dataset": "mnist", "n_blocks": 8}', '{"recipe": "literal", "hidden": [3, 5]}'
    path.write_text(f"[{first}, {second}]")
    expected = [
        recipe_config("qtlite", "mnist", n_blocks=8),
        recipe_config("literal", hidden=(3, 5)),
    ]
    assert read_configs(path) == expected
    for text, message in (
        ("[{", "path must hold a list of runs, got .*mine.json: Input data was truncated"),
        ('{"seed": 1}', "path must hold a list of runs, got .*mine.json: Expected `array`, got"),
        ("[3]", r"got .*mine.json: \[0\]: Expected `object`, got `int`"),
        ('[{}, {"sede": 1}]', r"got .*mine.json whose entry 1: .*got \['sede'\]"),
        ('[{"recipe": "best"}]', "whose entry 0: recipe must be one of .*, got 'best'"),
    ):
        path.write_text(text)
        refused(message, read_configs, path)


def test_weight_decay_is_run_with_each_recipe_that_it_was_chosen_for():
    configs = sweep_configs("decay", n_seeds=1)
    found = {(c.recipe, c.dataset): c.weight_decay for c in configs}
    assert found == {
        (recipe, dataset): decay
        for recipe, decays in WEIGHT_DECAY.items()
        for dataset, decay in decays.items()
    }
    assert {c.epochs for c in configs if c.recipe == "thorough"} == {100}


def test_controls_with_more_time():
    configs = sweep_configs("thorough-controls", n_seeds=1)
    assert {c.recipe for c in configs} == {"thorough"}
    rates = {(c.dataset, c.model): c.learning_rate for c in configs}
    assert len(rates) == len(configs) == 7
    assert rates["cifar10", "hypernetwork"] == CIFAR_HYPERNETWORK_RATE
    shorter = recipe_config("qtlite", "cifar10", model="hypernetwork", n_blocks=95)
    assert shorter.learning_rate != CIFAR_HYPERNETWORK_RATE  # not tried there


@pytest.mark.parametrize(
    ("recipe", "dataset", "trials", "common", "field", "chosen"),
    [
        *(
            ("qtlite", dataset, DECAY_TRIALS, BASELINE_TRIAL, "weight_decay", decay)
            for dataset, decay in WEIGHT_DECAY["qtlite"].items()
        ),
        (
            "thorough", "cifar10", LONG_DECAY_TRIALS, BASELINE_TRIAL,
            "weight_decay", WEIGHT_DECAY["thorough"]["cifar10"],
        ),
        (
            "thorough", "cifar10", HYPERNETWORK_TRIALS, HYPERNETWORK_TRIAL,
            "learning_rate", CIFAR_HYPERNETWORK_RATE,
        ),
    ],
)  # fmt: skip
def test_choices_are_the_best_of_the_recorded_trials(
    recipe, dataset, trials, common, field, chosen
):
    rows = trial_rows(read_runs(ROOT / "book/records"), dataset, recipe, trials, common, field)
    assert len(rows) == len(trials)
    best = max(rows, key=lambda row: float(row[3].split()[0]))
    assert float(best[1]) == chosen
