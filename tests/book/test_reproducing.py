from dataclasses import fields
from pathlib import Path

import pytest
from refusals import refused

from qtlite.experiments.cli import main
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.recipes import RECIPES, recipe_config
from qtlite.experiments.records.measurements import read_measurements
from qtlite.experiments.records.records import read_records
from qtlite.experiments.report import reproducing

BOOK = Path(__file__).parents[2] / "book"
MEASUREMENTS = read_measurements(BOOK / "measurements")
RECORDS = read_records(BOOK / "records")

DEPARTURES = [
    recipe_config("qtlite"),
    recipe_config("literal", "cifar10", n_blocks=19, hidden=(40, 20), relu=True),
    recipe_config("released", "mnist", center_output=False, n_train=100, seed=4),
    recipe_config("qtlite", "mnist", model="classical", learning_rate=0.1, n_validation=5000),
]


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Run a command; give the config that would have been trained."""
    configs = []

    def record_only(config, runs, record_path, **options):
        configs.append(config)
        raise RuntimeError("not trained")

    monkeypatch.setattr("qtlite.experiments.train.sweep.run_to_files", record_only)
    monkeypatch.chdir(tmp_path)

    def ask(command):
        words = command.split()
        assert words[0] == "qtlite"
        assert main(words[1:]) == 2
        return configs.pop()

    return ask


def test_commands_ask_for_their_configs(asked, capsys):
    for config in DEPARTURES + [TrainConfig.from_dict(record["config"]) for record in RECORDS]:
        assert asked(reproducing.command(config)) == config
    assert len(reproducing.run_rows(RECORDS)[1]) == len(RECORDS)
    on_a_gpu = reproducing.command(config, 1, "cuda")
    assert on_a_gpu.endswith(" --threads 1 --device cuda")
    assert asked(reproducing.command(config, device="cuda")) == config


def test_measurements_commands_ask_for_them(monkeypatch, tmp_path, capsys):
    asked = []

    def ask_only(name, dataset, n_blocks, **folders):
        asked.append((name, dataset, n_blocks))
        raise RuntimeError("not measured")

    monkeypatch.setattr("qtlite.experiments.studies.run_study", ask_only)
    _, rows = reproducing.measurement_rows(MEASUREMENTS)
    assert len(rows) == len(MEASUREMENTS) > 0
    for name, command, *_ in rows:
        words = command.strip("`").split()
        if words[0] != "qtlite":
            assert words[:2] in (["python", "-m"], ["python", "tests/prove/kill_sweeps.py"])
            continue
        assert main(words[1:]) == 2
        kind, dataset, n_blocks = asked.pop()
        config = MEASUREMENTS[name]["config"]
        if "dataset" in config:
            assert (dataset, n_blocks) == (config["dataset"], config["n_blocks"])
            assert name == f"{kind}-{dataset}-L{n_blocks}"
        else:
            assert name == kind


def test_choices_are_the_recipes_and_no_field_is_forgotten():
    head, rows = reproducing.choice_rows()
    shown = {row[0].strip("`") for row in rows} | set(reproducing.WHICH_RUN)
    assert shown == {field.name for field in fields(TrainConfig)}
    assert set(head[2:]) == set(RECIPES)
    refused("dataset must be one of", reproducing.choice_rows, "no_such_data")


def test_what_the_paper_says_is_in_the_paper_s_words():
    """The literal recipe is what the paper says, where it says anything that is a number."""
    literal = recipe_config("literal", "mnist")
    assert literal.learning_rate == float(reproducing.PAPER_SAYS["learning_rate"])
    assert literal.epochs == int(reproducing.PAPER_SAYS["epochs"].split(";")[0])
    assert literal.batch_size == int(reproducing.PAPER_SAYS["batch_size"].split(";")[0])
