import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from refusals import refused

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.recipes import recipe_config
from qtlite.experiments.records import records
from qtlite.experiments.records.measurements import read_measurement, read_measurements
from qtlite.experiments.records.query import read_runs, select
from qtlite.experiments.records.records import (
    COMMIT_VARIABLE,
    SUMS,
    departures,
    environment,
    read_record,
    read_records,
    record_id,
    recorded,
    write_json,
)
from qtlite.experiments.train.sweep import run_to_files
from qtlite.export.seal import MARK

ROOT = Path(__file__).parents[2]


def test_id_changes_with_any_field():
    assert record_id(TrainConfig()) == record_id(TrainConfig())
    assert record_id(TrainConfig()) != record_id(replace(TrainConfig(), adam_eps=1e-7))


@pytest.mark.parametrize(
    ("of_checkout", "expected"),
    [(None, "0123abc"), ("4567def+changes", "0123abc"), ("4567def", "4567def")],
)
def test_a_copy_can_be_told_its_commit_and_a_clean_checkout_knows_better(
    of_checkout, expected, monkeypatch
):
    monkeypatch.setattr(records, "_commit_of_checkout", lambda: of_checkout)
    assert environment()["commit"] == of_checkout
    monkeypatch.setenv(COMMIT_VARIABLE, "0123abc")
    assert environment()["commit"] == expected


def test_environment_names_versions_hardware_and_commit():
    found = environment()
    assert found["versions"]["torch"]
    assert found["versions"]["tensorcircuit-ng"]
    assert found["hardware"]["processor"]
    assert found["hardware"]["n_threads"] >= 1
    assert found["commit"] is None or len(found["commit"].removesuffix("+changes")) == 40


def test_written_file_is_whole_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "record.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    finite = "content of .*record.json must be finite JSON, got"
    refused(f"{finite} Object", write_json, path, {"a": object()})
    refused(finite, write_json, path, {"loss": float("nan")})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The record of a short run, as ``train`` writes it."""
    folder = tmp_path_factory.mktemp("records")
    config = recipe_config("qtlite", n_train=64, epochs=2, n_blocks=2, seed=3)
    run_to_files(config, folder, folder / "a.json", progress=False)
    return read_record(folder / "a.json")


def reason(folder, text):
    """The one line that says why a folder's only file is no record."""
    path = folder / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="path must hold a run's record, got .*x.json: ") as error:
        read_records(folder)
    (line,) = str(error.value).splitlines()
    return line.partition("x.json: ")[2]


def test_what_a_run_writes_is_read(finished, tmp_path):
    write_json(tmp_path / "a.json", finished)
    assert read_records(tmp_path) == [finished]
    assert recorded(tmp_path) == {TrainConfig.from_dict(finished["config"]): finished["id"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "truncated"),
        ("", "truncated"),
        ("[]", "Expected `object`, got `array`"),
        ("{}", "missing required field `id`"),
        ("[" * 100_000, "Expected `object`"),
        ('{"versions": ' + "[" * 100_000, "Expected `object`"),
        ('{"config": {"a": ' + "[" * 100_000, "recursion"),
        (b'{"id": "\xff"}', "decode"),
        (b"\x93NUMPY", "malformed"),
        ('{"id": NaN}', "malformed"),
        ('{"test_accuracy": 1e999}', "test_accuracy: Number out of range"),
        ('{"id": 7}', "id: Expected `str`, got `int`"),
        ('{"versions": {"a\\u001b[31m": 1}}', "versions"),
    ],
)
def test_files_that_hold_something_else_are_named_in_one_line(tmp_path, text, message):
    line = reason(tmp_path, text)
    assert message in line
    assert line.isprintable()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_accuracy": 7.5}, "test_accuracy: Expected `float` <= 1.0"),
        ({"train_accuracy": -0.1}, "train_accuracy: Expected `float` >= 0.0"),
        ({"test_accuracy": "0.9"}, "test_accuracy: Expected `float`, got `str`"),
        ({"test_loss": None}, "test_loss: Expected `float`, got `null`"),
        ({"history": []}, "history: Expected `array` of length >= 1"),
        ({"history": [{"epoch": 1}]}, "history[0]: Object missing required field `train_loss`"),
        ({"seed": 4}, "seed must be 3 as in config or history, got 4"),
        ({"dataset": "mnist"}, "dataset must be 'digits' as in config or history, got 'mnist'"),
        ({"model": "hashed"}, "model must be 'qt'"),
        ({"recipe": "literal"}, "recipe must be 'qtlite'"),
        ({"n_blocks": 16}, "n_blocks must be 2"),
        ({"n_blocks": None}, "n_blocks must be 2"),
        ({"n_train": 1000}, "n_train must be 64"),
        ({"evaluated_on": "validation"}, "evaluated_on must be 'test'"),
        ({"test_accuracy": 0.999}, "test_accuracy must be"),
        ({"test_loss": 0.001}, "test_loss must be"),
        ({"config": {"speed": 1}}, "speed"),
        ({"config": {"hidden": 5}}, "hidden must be of type tuple, got 5"),
        ({"config": {"seed": 10**30}}, "seed"),
        ({"config": {"learning_rate": "fast"}}, "learning_rate"),
    ],
)
def test_records_that_contradict_themselves_or_a_limit_are_refused(
    finished, tmp_path, changes, message
):
    assert message in reason(tmp_path, json.dumps(finished | changes))


def test_a_history_of_other_epochs_is_refused(finished, tmp_path):
    short = finished | {"history": finished["history"][1:]}
    assert "history must have 2 epochs, got 1" in reason(tmp_path, json.dumps(short))


def test_a_record_cannot_name_a_file_elsewhere(finished, tmp_path):
    for name in ("../x", "/tmp/x", "a/../b", "..", "", "a\x00", "a b", "a\\b"):
        line = reason(tmp_path, json.dumps(finished | {"id": name}))
        assert line.startswith("id must be letters, digits")
        refused("id must be letters", recorded, tmp_path)


def test_departures_name_the_fields_that_differ_from_the_recipe():
    own = recipe_config("qtlite", "mnist", n_blocks=31, model="hashed", seed=5)
    assert departures(own) == []
    other = replace(own, learning_rate=0.5, n_validation=9)
    assert departures(other) == ["learning_rate", "n_validation"]


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    ("old", "new"), [('"train_loss": ', '"train_loss": 1'), ('"n_cores": ', '"n_cores": 1')]
)
def test_a_changed_record_is_refused_though_it_is_sound(finished, tmp_path, sealed, old, new):
    path = tmp_path / "a.json"
    write_json(path, finished, sealed=sealed)
    if not sealed:  # as before records held a checksum
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        (tmp_path / SUMS).write_text(f"{digest}  a.json\n")
    assert read_record(path) == finished
    path.write_text(path.read_text().replace(old, new, 1))
    refused("path must be a file .*got .*a.json, which .*s", read_records, tmp_path)


@pytest.mark.parametrize("folder", ["records", "measurements"])
def test_every_file_of_the_book_has_a_checksum(folder):
    """Its own, or an older one in ``sha256sum *.json > SHA256SUMS``, which is only added to."""
    files = {path.name: path.read_text() for path in (ROOT / "book" / folder).glob("*.json")}
    listed = (ROOT / "book" / folder / SUMS).read_text().split()[1::2]
    assert [name for name, text in files.items() if MARK not in text and name not in listed] == []
    assert files.keys() >= set(listed)


def test_every_record_of_the_book_is_sound():
    assert len(read_records(ROOT / "book/records")) >= 657


def test_runs_are_rows_of_a_dataframe(finished, tmp_path):
    write_json(tmp_path / "a.json", finished)
    runs = read_runs(tmp_path)
    (row,) = runs.to_dict("records")
    assert (row["seed"], row["n_blocks"], row["hidden"], row["resumed"]) == (3, 2, "4-20-4", False)
    assert (row["departures"], row["outdated"]) == (("epochs", "n_train"), ())
    assert runs.query("model == 'qt' and test_accuracy >= 0").id.to_list() == [finished["id"]]
    assert len(select(runs, epochs=2, n_train=64)) == 1
    assert len(select(runs, vary=["epochs"], n_train=64)) == 1
    assert select(runs).empty
    assert select(runs, epochs=2).empty
    assert select(runs, epochs=3, n_train=64).empty


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (read_runs, "records"),
        (read_measurements, "measurements"),
        (lambda folder: read_measurement(Path(folder, "toy-noise.json")), "measurements"),
    ],
)
def test_a_chapter_outside_of_the_book_is_told_where_to_run(tmp_path, monkeypatch, read, name):
    monkeypatch.chdir(tmp_path)
    message = f"{name} must be a folder, got no {tmp_path / name}: .*run them there"
    refused(message, read, Path(name), error=FileNotFoundError)
    monkeypatch.chdir(ROOT / "book")
    assert len(read(Path(name))) > 0


@pytest.mark.parametrize(("fields", "departures"), [("", ()), ("epochs", ("epochs",))])
def test_what_was_decided_once_holds(finished, tmp_path, fields, departures):
    old = {name: value for name, value in finished.items() if name != "departures"}
    write_json(tmp_path / "a.json", old)
    write_json(tmp_path / "recipes/departures.json", {fields: [finished["id"]]})
    (row,) = read_runs(tmp_path).to_dict("records")
    assert row["departures"] == departures
    assert {*row["outdated"], *row["departures"]} == {"epochs", "n_train"}


def test_folders_without_records_and_other_files(tmp_path):
    assert read_records(tmp_path / "none") == []
    runs = read_runs(tmp_path)
    assert len(runs) == len(select(runs, dataset="mnist", model="classical", n_blocks=None)) == 0
    write_json(tmp_path / "recipes/departures.json", {"epochs": 3})
    refused("hold departures and ids, got .*departures.json: ", read_runs, tmp_path)
    path = tmp_path / "recipes/departures.json"
    refused("folder must be a folder of records, got the file ", read_records, path)
