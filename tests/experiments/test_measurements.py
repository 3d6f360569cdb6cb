import json
import re
from pathlib import Path

import pytest
from refusals import refused

from qtlite.experiments import cli
from qtlite.experiments import studies as studies_package
from qtlite.experiments.records.measurements import (
    Measurement,
    read_measurement,
    read_measurements,
    take_measurement,
    write_measurement,
)
from qtlite.experiments.studies import Row, studies


def double(value, seed):
    return {"twice": 2 * value, "seed": seed}


def taken(name="double"):
    return take_measurement(name, double, {"value": 3, "seed": 5})


def test_results_stand_beside_what_they_depend_on():
    found = taken()
    assert {*found, "seal"} == set(Measurement.__annotations__)  # writing adds the checksum
    assert found["results"] == {"twice": 6, "seed": 5}
    assert found["config"] == {"value": 3, "seed": 5}
    assert found["versions"]["torch"]
    assert found["hardware"]["processor"]
    assert 0 <= found["wall_seconds"] < 60


def test_what_is_written_is_read_and_nothing_else_is_left(tmp_path):
    found = taken()
    path = write_measurement(found, tmp_path / "new")
    assert path.name == "double.json"
    assert read_measurement(path) == found
    write_measurement(taken("another"), path.parent)
    assert list(read_measurements(path.parent)) == ["another", "double"]
    assert len(list(path.parent.iterdir())) == 2


def test_a_measurement_without_a_seed_is_refused():
    with pytest.raises(ValueError, match=r"config must have a seed, got \['value'\]"):
        take_measurement("double", double, {"value": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wall_seconds": "long"}, "wall_seconds: Expected `float`, got `str`"),
        ({"wall_seconds": float("nan")}, "wall_seconds: Expected `float` >= 0.0"),
        ({"results": None}, "results: Expected `object | array`, got `null`"),
        ({"name": "../x"}, "name must be letters, digits, '_', '-' and single dots, got '../x'"),
        ({"results": {"loss": float("nan")}}, "must be finite JSON"),
    ],
)
def test_unsound_measurements_are_not_written(tmp_path, change, message):
    refused(re.escape(message), write_measurement, taken() | change, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`, got `array`"),
        ('{"name": "x"}', "Object missing required field `config`"),
        ('{"results": {"loss": NaN}}', "malformed"),
        ('{"results": ' + "[" * 100_000, "recursion"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    refused(f"hold a measurement, got .*x.json: .*{message}", read_measurements, tmp_path)


def test_a_measurement_without_a_seed_in_its_config_is_refused(tmp_path):
    path = write_measurement(taken() | {"config": {"value": 3}}, tmp_path)
    refused(r"double.json must have a seed in its config, got .'value'", read_measurement, path)


def test_a_changed_or_renamed_file_is_refused(tmp_path):
    path = write_measurement(taken(), tmp_path)
    content = path.read_text()
    path.write_text(content.replace('"twice": 6', '"twice": 7'))
    refused("must be a file as qtlite wrote it, got .*double.json", read_measurement, path)
    path.write_text(content)
    path = path.rename(tmp_path / "other.json")
    refused("must hold the measurement of that name, got 'double'", read_measurement, path)


def test_the_command_measures_what_it_is_asked_for_and_says_where(tmp_path, monkeypatch, capsys):
    asked = []

    def quick(name, dataset, n_blocks, *, runs, data):
        asked.append((name, dataset, n_blocks, runs, data))
        return taken("quick")

    monkeypatch.setattr(studies_package, "run_study", quick)
    command = ["measure", "shots", "--blocks", "121", "--runs", "there", "--to", str(tmp_path)]
    assert cli.main(command) == 0
    assert [str(part) for part in asked[0]] == ["shots", "mnist", "121", "there", "None"]
    assert read_measurement(tmp_path / "quick.json")["results"]["twice"] == 6
    assert f"{tmp_path / 'quick.json'}: 0 s" in capsys.readouterr().out


def test_the_command_says_which_run_is_missing(tmp_path, capsys):
    command = ["measure", "gradient", "--dataset", "digits", "--runs", str(tmp_path)]
    assert cli.main([*command, "--to", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("qtlite: runs must hold a finished run of QT-16 on digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", studies())
def test_every_study_has_its_name_and_settings(name):
    config = studies()[name].config(Row("mnist", 16))
    assert "seed" in config
    json.dumps(config, allow_nan=False)
    with pytest.raises(SystemExit, match="0"):
        cli.main(["measure", name, "--help"])


def test_the_books_measurements_are_sound():
    found = read_measurements(Path(__file__).parents[2] / "book/measurements")
    assert {"toy-noise", "trainability"} <= set(found)
