import json
from dataclasses import replace

import pytest

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.records import records
from qtlite.experiments.records.records import (
    COMMIT_VARIABLE,
    environment,
    read_records,
    record_id,
    recorded,
    write_json,
)


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
    assert json.loads(path.read_text()) == {"a": 2}
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"config": {"speed": 1}}'])
def test_folder_with_something_else_in_it(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=r"folder must hold run records only, got .*x.json"):
        read_records(tmp_path)


def test_missing_folder_has_no_records(tmp_path):
    assert read_records(tmp_path / "none") == []


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../b", "..", "", "a\x00", "a b", 7, "a\\b"])
def test_a_record_cannot_name_a_file_elsewhere(name, tmp_path):
    content = {"id": name, "config": TrainConfig().to_dict()}
    (tmp_path / "a.json").write_text(json.dumps(content))
    for read in (read_records, recorded):
        with pytest.raises(ValueError, match="a.json: id must be letters"):
            read(tmp_path)
