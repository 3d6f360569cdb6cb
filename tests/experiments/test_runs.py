import json
from dataclasses import replace

import pytest
from refusals import refused

from qtlite.experiments.config import TrainConfig
from qtlite.experiments.records.records import read_record, record_id
from qtlite.experiments.train.runs import NETWORK, check_network, missing_part
from qtlite.experiments.train.sweep import run_to_files

CONFIG = TrainConfig(n_train=128, epochs=1, model="classical")
NAME = record_id(CONFIG)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The bytes of a finished run's files, by name."""
    folder = tmp_path_factory.mktemp("run")
    run_to_files(CONFIG, folder, folder / NAME / "record.json", progress=False)
    return {path.name: path.read_bytes() for path in (folder / NAME).iterdir()}


def put(trained, folder, record):
    """A finished run in ``folder``, with its record at another path."""
    (folder / NAME).mkdir(exist_ok=True)
    for name, content in trained.items():
        place = record if name == "record.json" else folder / NAME / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)


@pytest.mark.parametrize("name", [NAME, "renamed"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_finished_run_is_found_whatever_the_name_of_its_record(trained, tmp_path, name, apart):
    records = tmp_path / "records" if apart else None
    record = records / f"{name}.json" if apart else tmp_path / NAME / "record.json"
    put(trained, tmp_path, record)
    assert missing_part(CONFIG, tmp_path, records) == (record, None)
    other = replace(CONFIG, seed=1)
    place, missing = missing_part(other, tmp_path, records)
    assert missing == "no record"
    assert record_id(other) in str(place)


def flipped(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("damage", [flipped, lambda content: b"", lambda content: content[:900]])
def test_a_damaged_network_is_seen_beside_its_record(trained, tmp_path, damage, apart):
    records = tmp_path / "records" if apart else None
    record = records / "any.json" if apart else tmp_path / NAME / "record.json"
    put(trained, tmp_path, record)
    network = tmp_path / NAME / NETWORK
    network.write_bytes(damage(network.read_bytes()))
    place, missing = missing_part(CONFIG, tmp_path, records)
    assert place == record
    assert str(network) in missing
    # trained again from its checkpoint, it is the same
    run_to_files(CONFIG, tmp_path, place, progress=False)
    assert network.read_bytes() == trained[NETWORK]
    assert missing_part(CONFIG, tmp_path, records) == (record, None)


def test_a_missing_network_matters_only_beside_its_record(trained, tmp_path):
    for records in (None, tmp_path / "records"):
        record = (records or tmp_path / NAME) / ("record.json" if records is None else "a.json")
        put(trained, tmp_path, record)
        (tmp_path / NAME / NETWORK).unlink()
        place, missing = missing_part(CONFIG, tmp_path, records)
        assert place == record
        assert (missing is None) == (records is not None)


def test_a_record_with_an_older_id(trained, tmp_path):
    records = tmp_path / "records"
    put(trained, tmp_path, records / "old.json")
    record = read_record(records / "old.json") | {"id": "old"}
    (records / "old.json").write_text(json.dumps(record))
    assert missing_part(CONFIG, tmp_path, records) == (records / "old.json", None)
    (tmp_path / NAME).rename(tmp_path / "old")
    with pytest.raises(ValueError, match="the network of old, got that of digits.*delete"):
        missing_part(CONFIG, tmp_path, records)
    (tmp_path / "old" / NETWORK).write_bytes(b"")
    refused("delete .*old, or .*old.json to train again", missing_part, CONFIG, tmp_path, records)


def test_a_damaged_record_is_made_again_or_named(trained, tmp_path):
    put(trained, tmp_path, tmp_path / NAME / "record.json")
    (tmp_path / NAME / "record.json").write_text("{")
    place, missing = missing_part(CONFIG, tmp_path, None)
    assert place == tmp_path / NAME / "record.json"
    assert str(place) in missing
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "any.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold a run's record, got .*any.json"):
        missing_part(CONFIG, tmp_path, tmp_path / "records")


def test_a_network_of_another_run_is_refused(trained, tmp_path):
    (tmp_path / NETWORK).write_bytes(trained[NETWORK])
    assert check_network(tmp_path, NAME) == tmp_path / NETWORK
    refused(f"must hold the network of x, got that of {NAME}", check_network, tmp_path, "x")
