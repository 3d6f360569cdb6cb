"""From a run to files: a run of seconds in a temporary folder, and the models of the book."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused

from qtlite.experiments.cli import main
from qtlite.experiments.config import TrainConfig
from qtlite.experiments.data.loading import available, load_dataset
from qtlite.experiments.inference.model_files import (
    BOOK_FORMATS,
    BOOK_MODELS,
    export_book_models,
    export_run,
)
from qtlite.experiments.inference.predict import load_classifier
from qtlite.experiments.inference.tiny import ALL_FORMATS
from qtlite.experiments.recipes import RECIPES, recipe_config
from qtlite.experiments.train.loop import evaluate
from qtlite.experiments.train.runs import find_record, read_run
from qtlite.experiments.train.sweep import run_to_files
from qtlite.export import FORMATS, load_json, save_torch_export, to_openqasm

BOOK = Path(__file__).resolve().parents[2] / "book"
DIGITS_MODELS = {"qt": {"n_blocks": 2}, "classical": {"model": "classical"}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs on digits, and their records."""
    folder = tmp_path_factory.mktemp("runs")
    records = {}
    for name, changes in DIGITS_MODELS.items():
        config = recipe_config("qtlite", "digits", n_train=256, epochs=1, **changes)
        path = folder / f"{name}.json"
        records[name], _ = run_to_files(config, folder, path, progress=False)
    return folder, records


@pytest.mark.parametrize("name", DIGITS_MODELS)
def test_every_format_gives_the_recorded_accuracy(runs, name, tmp_path):
    folder, records = runs
    run = read_run(folder / f"{name}.json", folder)
    formats = [f for f in FORMATS if name == "qt" or f != "compressed"]
    paths = export_run(run, tmp_path, formats, name="net")
    agreed = paths[tmp_path / "net.int8.onnx"]  # measured, not promised
    assert re.fullmatch(r"run in .*: the same class for \d+ of 500 training images", agreed)
    assert [path.name for path in paths] == [f"net{FORMATS[f].ending}" for f in formats]
    digits = load_dataset("digits")
    for chosen, path in zip(formats, paths, strict=True):
        if chosen == "pt2":  # compared when it is written, and not read by qtlite afterwards
            continue
        found = load_classifier(path)
        assert found.about["record"] == records[name]["id"]
        assert found.about["model"] == {"qt": "QT-2", "classical": "classical"}[name]
        assert int(found.about["n_trainable"]) == records[name]["n_trainable"]
        assert found.classes == digits.classes
        right = found.logits(digits.test_images.numpy()).argmax(1) == digits.test_labels.numpy()
        expected = records[name]["test_accuracy"]
        assert float(found.about["accuracy"]) == expected
        if chosen == "int8":
            assert abs(right.mean() - expected) < 0.05
        else:
            assert right.mean() == expected, chosen


def test_the_circuit_of_a_run(runs, tmp_path, capsys):
    folder, records = runs
    options = ["--runs", str(folder), "--folder", str(tmp_path), "--name", "a", "--circuit"]
    assert main(["export", str(folder / "qt.json"), *options]) == 0
    printed, text = capsys.readouterr().out.splitlines(), (tmp_path / "a.qasm").read_text()
    assert printed[0] == "13 qubits, 26 ry and 24 cnot gates, depth 16"  # before anything is run
    assert text == to_openqasm(
        read_run(folder / "qt.json", folder).model.qnn,
        "\n".join([records["qt"]["id"], *printed[:3]]),
    )
    assert main(["export", str(folder / "qt.json"), *options]) == 2
    assert "path must be new unless overwrite is on" in capsys.readouterr().err
    assert main(["export", str(folder / "classical.json"), *options]) == 2
    assert "record must be of a run with a circuit, got digits-classical" in capsys.readouterr().err


def test_files_are_kept_unless_told_and_formats_known(runs, tmp_path):
    folder, _ = runs
    run = read_run(folder / "classical.json", folder)
    export_run(run, tmp_path, ["json"], name="a")
    with pytest.raises(FileExistsError, match="path must be new unless overwrite is on, got.*json"):
        export_run(run, tmp_path, ["onnx", "json"], name="a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    export_run(run, tmp_path, ["json"], name="a", overwrite=True)
    refused(r"formats must be of .*, got \['pickle'\]", export_run, run, tmp_path, ["pickle"])
    with pytest.raises(ValueError, match="formats must leave out 'compressed' for a network that"):
        export_run(run, tmp_path, ["compressed"])


def test_a_record_is_found_by_id_or_path(runs, tmp_path):
    folder, records = runs
    path = folder / "qt.json"
    assert find_record(str(path), tmp_path, tmp_path) == path
    other = folder / records["qt"]["id"] / "record.json"
    other.write_bytes(path.read_bytes())
    assert find_record(records["qt"]["id"], tmp_path, folder) == other
    with pytest.raises(FileNotFoundError, match="record must be a run's id or the path .*'no'"):
        find_record("no", tmp_path, tmp_path)


def test_runs_that_do_not_belong_to_the_record(runs, tmp_path):
    folder, records = runs
    path = tmp_path / "record.json"
    path.write_text("{}")
    refused("path must hold a run's record, got .*: .*field `id`", read_run, path, folder)
    path.write_text(json.dumps(records["qt"]))
    with pytest.raises(FileNotFoundError, match="runs must hold the trained network of digits-qt"):
        read_run(path, tmp_path)
    ours = tmp_path / records["qt"]["id"]
    ours.mkdir()
    theirs = folder / records["classical"]["id"]
    (ours / "classical.safetensors").write_bytes((theirs / "classical.safetensors").read_bytes())
    refused("runs must hold the network of digits-qt.* got that of", read_run, path, tmp_path)
    for name in ("classical.safetensors", "checkpoint.pt"):
        (ours / name).write_bytes((folder / ours.name / name).read_bytes())
    read_run(path, tmp_path)
    content = torch.load(ours / "checkpoint.pt", weights_only=True)
    content["model"]["qnn.angles"] += 0.1
    torch.save(content, ours / "checkpoint.pt")
    refused("the checkpoint that the network came from, got another", read_run, path, tmp_path)
    torch.save(content | {"model": dict.fromkeys(content["model"], "a")}, ours / "checkpoint.pt")
    refused("runs must hold the run's checkpoint, got .*centres", read_run, path, tmp_path)
    (ours / "checkpoint.pt").write_bytes(b"no")
    refused("runs must hold the run's checkpoint", read_run, path, tmp_path)


def test_a_control_is_exported_and_qcml_is_not(tmp_path):
    for model in ("small_cnn", "qcml"):
        config = recipe_config("qtlite", "digits", model=model, n_train=64, epochs=1)
        run_to_files(config, tmp_path, tmp_path / f"{model}.json", progress=False)
    run = read_run(tmp_path / "small_cnn.json", tmp_path)
    (path,) = export_run(run, tmp_path, ["json"])
    digits, found = load_dataset("digits"), load_classifier(path)
    right = found.logits(digits.test_images.numpy()).argmax(1) == digits.test_labels.numpy()
    assert right.mean() == run.record["test_accuracy"]
    with pytest.raises(ValueError, match="record must be of a run that leaves a classical network"):
        read_run(tmp_path / "qcml.json", tmp_path)


def test_book_models_without_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match="record must be a run's id"):
        export_book_models(tmp_path, tmp_path, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_book_models_are_renewed_from_the_recipe_as_it_is(tmp_path, monkeypatch):
    """The command that goes on working when the recipe and all records have changed."""
    from qtlite.experiments.inference import model_files

    monkeypatch.setitem(RECIPES, "qtlite", {"epochs": 1, "n_train": 64})
    monkeypatch.setattr(model_files, "recipe_config", lambda r, _, **c: recipe_config(r, **c))
    for changes in BOOK_MODELS.values():
        config = recipe_config("qtlite", **changes)
        record = tmp_path / "records" / f"{model_files.record_id(config)}.json"
        run_to_files(config, tmp_path / "runs", record, progress=False)
    options = ["--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--book", *options]) == 0
    found = {path.name for path in (tmp_path / "book" / "models").iterdir()}
    assert found == {path.name for path in (BOOK / "models").iterdir() if path.suffix != ".qt"}


def test_committed_models_are_whole():
    for name, changes in BOOK_MODELS.items():
        for chosen in BOOK_FORMATS:
            if chosen == "compressed" and changes.get("model") == "classical":
                continue
            about = load_classifier(BOOK / "models" / f"{name}{FORMATS[chosen].ending}").about
            record = BOOK / "records" / f"{about['record']}.json"
            assert record.exists(), f"{record.name} is gone: qtlite export --book"
            content = json.loads(record.read_text())
            assert float(about["accuracy"]) == content["test_accuracy"]
            assert int(about["n_trainable"]) == content["n_trainable"]
            assert content["evaluated_on"] == "test"


@pytest.mark.parametrize("name", BOOK_MODELS)
def test_committed_models_give_their_recorded_accuracy_on_mnist(name, tmp_path):
    """torch, ONNX Runtime and the compressed form on all 10,000 test images."""
    if not available("mnist"):
        pytest.skip("needs MNIST: set QTLITE_DATA")
    mnist = load_dataset("mnist")
    images, labels = mnist.test_images.numpy(), mnist.test_labels.numpy()
    network, about = load_json(BOOK / "models" / f"{name}.json")
    paths = list((BOOK / "models").glob(f"{name}.*"))
    # raises unless PyTorch, reading the file, gives the network's outputs on these images
    save_torch_export(network, mnist.test_images[:1000], tmp_path / "a.pt2", about)
    record = json.loads((BOOK / "records" / f"{about['record']}.json").read_text())
    config = TrainConfig.from_dict(record["config"])
    # the network itself, as training evaluated it
    _, accuracy = evaluate(network.network, mnist.test_images, mnist.test_labels, config)
    assert accuracy == record["test_accuracy"]
    expected = None
    for path in paths:
        model = load_classifier(path)
        logits = np.concatenate(
            [model.logits(images[i : i + 1000]) for i in range(0, 10_000, 1000)]
        )
        expected = logits if expected is None else expected
        assert (logits.argmax(1) == labels).mean() == record["test_accuracy"], path.name
        assert (logits.argmax(1) == expected.argmax(1)).all(), path.name
        assert np.abs(logits - expected).max() < 1e-4, path.name


def test_command_line_offers_every_format(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["export", "--help"])
    assert f"{{{','.join(ALL_FORMATS)}}}" in capsys.readouterr().out


def test_command_line(runs, tmp_path, capsys):
    folder, records = runs
    where = ["--runs", str(folder), "--folder", str(tmp_path)]
    command = ["export", str(folder / "qt.json"), "--to", "json", "compressed", *where]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f"{records['qt']['id']}.json" in printed
    assert "bytes, read again: the same numbers\n" in printed
    assert "bytes, read again: it generates the same weights\n" in printed
    assert main(command) == 2
    assert "path must be new unless overwrite is on" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    capsys.readouterr()
    for wrong in (["export"], ["export", "a", "--book"]):
        assert main(wrong) == 2
        assert "record must be given, or --book" in capsys.readouterr().err
