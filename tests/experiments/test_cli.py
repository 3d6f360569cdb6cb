import json
import re
from pathlib import Path

import pytest
import torch

from qtlite.experiments.cli import main
from qtlite.experiments.models.targets import paper_cnn
from qtlite.export import load_safetensors

ROOT = Path(__file__).parents[2]
QUICK = ["train", "--quiet", "--n-train", "128", "--epochs", "1", "--blocks", "2"]


def test_train_writes_record_and_network_and_says_where(tmp_path, capsys):
    runs, records = tmp_path / "runs", tmp_path / "records"
    assert main([*QUICK, "--runs", str(runs), "--records", str(records)]) == 0
    printed = capsys.readouterr().out
    (record_path,) = records.glob("*.json")
    record = json.loads(record_path.read_text())
    (network_path,) = runs.glob("*/classical.safetensors")
    assert "275, which generate 6,690 weights" in printed
    assert f"{100 * record['test_accuracy']:.2f} % of 297 images" in printed
    assert str(record_path) in printed
    assert str(network_path) in printed
    assert load_safetensors(paper_cnn("digits"), network_path) == {"record": record["id"]}


def test_same_command_again_does_nothing(tmp_path, capsys):
    assert main([*QUICK, "--runs", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main([*QUICK, "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("already done")


@pytest.mark.parametrize("lost", ["classical.safetensors", "record.json"])
def test_what_is_lost_or_damaged_is_made_again(tmp_path, capsys, lost):
    assert main([*QUICK, "--runs", str(tmp_path)]) == 0
    (path,) = tmp_path.glob(f"*/{lost}")
    if lost == "record.json":
        path.write_text("{")
    else:
        path.unlink()
    capsys.readouterr()
    assert main([*QUICK, "--runs", str(tmp_path)]) == 0
    assert "trained parameters" in capsys.readouterr().out
    assert path.stat().st_size > 100


def test_a_recorded_run_is_not_repeated_whatever_its_name(tmp_path, capsys):
    folders = ["--runs", str(tmp_path / "runs"), "--records", str(tmp_path)]
    assert main([*QUICK, *folders]) == 0
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text()) | {"id": "of-old"}
    del record["config"]["augmentation"]  # as before there was a choice
    path.rename(tmp_path / "of-old.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert main([*QUICK, *folders]) == 0
    assert capsys.readouterr().out == f"already done: {tmp_path / 'of-old.json'}\n"


def test_every_choice_reaches_the_config(tmp_path):
    changed = ["--no-relu", "--hidden", "3", "5", "--recipe", "literal", "--learning-rate", "0.1"]
    main([*QUICK, *changed, "--threads", str(torch.get_num_threads()), "--runs", str(tmp_path)])
    (record,) = (json.loads(p.read_text()) for p in tmp_path.glob("*/record.json"))
    assert record["config"]["hidden"] == [3, 5]
    assert (record["config"]["feature"], record["config"]["learning_rate"]) == ("raw", 0.1)


def test_sweep_of_a_list_of_runs(tmp_path, capsys):
    path = tmp_path / "mine.json"
    path.write_text('[{"n_train": 128, "epochs": 1, "n_blocks": 2}]')
    folders = ["--runs", str(tmp_path / "runs"), "--records", str(tmp_path / "records")]
    assert main(["sweep", str(path), *folders, "--processes", "1"]) == 0
    assert "1 new records of 1" in capsys.readouterr().out
    assert main(["sweep", str(path), *folders]) == 0
    assert "0 new records of 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table9"], "name must be one of .*, got 'table9'"),
        (["table1", "--processes", "0"], "processes must be at least 1, got 0"),
        (["mine.json", "--seeds", "2"], "recipe and seeds must stand in the file, got mine.json"),
    ],
)
def test_wrong_sweeps_are_refused(arguments, message, capsys):
    assert main(["sweep", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_no_records_no_tables(tmp_path, capsys):
    assert main(["tables", "--records", str(tmp_path), "--to", str(tmp_path / "to")]) == 2
    assert "records must hold records of runs" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("qtlite 0.")


def test_tables_are_written_from_records(tmp_path, capsys):
    records = str(ROOT / "book/records")
    assert main(["tables", "--records", records, "--to", str(tmp_path / "to")]) == 0
    assert {p.stem for p in (tmp_path / "to").iterdir()} == {"mnist", "fashion_mnist", "cifar10"}
    assert "| QT-16 | 457 | 81.08 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rate", "-1"], "learning_rate must be positive and finite, got -1.0"),
        (["--threads", "0"], "threads must be at least 1, got 0"),
        (["--dataset", "mnist", "--data", "no/such"], "point folder (--data)"),
    ],
)
def test_errors_are_one_line_and_status_2(tmp_path, capsys, arguments, message):
    assert main([*QUICK, *arguments, "--runs", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("qtlite: ")
    assert message in error


@pytest.mark.parametrize("arguments", [[], ["train", "--dataset", "svhn"], ["fly"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: qtlite" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert "qtlite train --dataset mnist" in text
    assert "L, blocks of the circuit" in text
