import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from refusals import refused

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


def test_what_is_done_is_not_repeated_and_what_is_lost_is_made_again(tmp_path, capsys):
    command = [*QUICK, "--runs", str(tmp_path)]
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("already done")
    (network,), (record,) = tmp_path.glob("*/classical.safetensors"), tmp_path.glob("*/record.json")
    network.unlink()
    assert main(command) == 0
    record.write_text("{")
    assert main(command) == 0
    assert capsys.readouterr().out.count("trained parameters") == 2
    assert network.stat().st_size > 100
    assert record.stat().st_size > 100


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
        (["table1", "--processes", "0"], "processes must be between 1 and 1024, got 0"),
        (["table1", "--seeds", "0"], "seeds must be between 1 and 1024, got 0"),
        (["mine.json", "--seeds", "2"], "recipe and seeds must be in the file, got mine.json"),
    ],
)
def test_wrong_sweeps_are_refused(arguments, message, capsys):
    assert main(["sweep", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_no_records_no_tables(tmp_path, capsys):
    assert main(["tables", "--records", str(tmp_path), "--to", str(tmp_path / "to")]) == 2
    assert "records must hold runs' records" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_tables_are_written_from_records(tmp_path, capsys):
    records = str(ROOT / "book/records")
    assert main(["tables", "--records", records, "--to", str(tmp_path / "to")]) == 0
    assert {p.stem for p in (tmp_path / "to").iterdir()} == {"mnist", "fashion_mnist", "cifar10"}
    assert "| QT-16 | 457 | 81.08 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rate", "-1"], "learning_rate must be between 1e-30 and 1e+30, got -1.0"),
        (["--threads", "0"], "threads must be between 1 and 1024, got 0"),
        (["--seed", str(2**64)], f"seed must be between -{10**12} and {10**12}, got {2**64}"),
        (["--blocks", "100000000"], "n_blocks must be between 1 and 100000, got 100000000"),
        (["--weight-gain", "nan"], "weight_gain must be between 1e-06 and 1000000.0, got nan"),
        (["--hidden", "4", "0"], "hidden must hold whole numbers between 1 and 10000, got (4, 0)"),
        (["--dataset", "mnist", "--data", "no/such"], "point folder (--data)"),
    ],
)
def test_errors_are_one_line_and_status_2(tmp_path, capsys, arguments, message):
    assert main([*QUICK, *arguments, "--runs", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("qtlite: ")
    assert message in error
    assert error.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # nothing was begun


@pytest.mark.parametrize("arguments", [[], ["train", "--dataset", "svhn"], ["fly"]])
def test_wrong_usage(arguments, capsys):
    refused("2", main, arguments, error=SystemExit)
    assert "usage: qtlite" in capsys.readouterr().err


def test_help_teaches_and_the_version_is_told(capsys):
    for arguments in (["train", "--help"], ["--version"]):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    text = capsys.readouterr().out
    assert "qtlite train --dataset mnist" in text
    assert "L, blocks of the circuit" in text
    assert "\nqtlite 0." in text


def start(*arguments, **streams):
    command = [sys.executable, "-m", "qtlite_command", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, **streams)


def run_program(program, *arguments):
    """Run a program around ``qtlite_command``; returns the exit status and the lines on stderr."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stderr.splitlines(), done.stdout


# what `import NAME` does in a process
WATCHED = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            {action}
sys.meta_path.insert(0, Finder())
import qtlite_command
sys.exit(qtlite_command.main())
"""
CORE_ONLY = WATCHED.format(
    names="""(
        "matplotlib", "msgspec", "onnx", "onnxruntime", "pandas", "PIL", "safetensors", "scipy",
        "sklearn", "torchvision", "tqdm",
    )""",
    action="raise ModuleNotFoundError(f'No module named {name!r}', name=name)",
)


def test_help_needs_the_core_only():
    for arguments in (["--help"], ["train", "--help"]):
        status, errors, shown = run_program(CORE_ONLY, *arguments)
        assert (status, errors) == (0, [])
        assert shown.startswith("usage: qtlite")
        if arguments == ["--help"]:
            assert "pip install 'qtlite[experiments]'" in shown


def test_a_command_without_its_packages_says_what_to_install():
    status, (error,), _ = run_program(CORE_ONLY, "export", "x")
    assert status == 2
    text = r"qtlite: No module named '\w+': pip install 'qtlite\[experiments\]'"
    assert re.fullmatch(text, error)


ENDS = {"SIGINT": (130, "qtlite: interrupted"), "SIGTERM": (143, "qtlite: terminated")}
GOES_ON = "; the same command goes on from here"


@pytest.mark.parametrize(("name", "command"), [("SIGINT", "train"), ("SIGTERM", "tables")])
def test_a_signal_during_imports_is_one_line(name, command):
    action = f"os.kill(os.getpid(), signal.{name})"
    program = WATCHED.format(names="('torch',)", action=action)
    status, text = ENDS[name]
    expected = text + GOES_ON * (command == "train")
    assert run_program(program, command)[:2] == (status, [expected])


@pytest.mark.parametrize("name", ENDS)
def test_a_signal_during_training_is_one_line(tmp_path, name):
    program = start("train", "--epochs", 10_000, "--runs", tmp_path, stderr=subprocess.PIPE)
    while not list(tmp_path.glob("*/checkpoint.pt")):
        assert program.poll() is None
        time.sleep(0.05)
    program.send_signal(getattr(signal, name))
    lines = re.split(r"[\r\n]+", program.communicate()[1].strip())
    status, text = ENDS[name]
    assert program.returncode == status
    assert lines[-1] == text + GOES_ON
    assert not [line for line in lines if "Traceback" in line]


@pytest.mark.parametrize("closed", ["at the start", "later"])
def test_training_goes_on_when_nobody_reads_its_messages(tmp_path, closed):
    reader, writer = os.pipe()
    os.close(reader)
    quick = [argument for argument in QUICK if argument != "--quiet"]
    close = {"preexec_fn": lambda: os.close(2)} if closed == "at the start" else {"stderr": writer}
    program = start(*quick, "--runs", tmp_path, stdout=subprocess.PIPE, **close)
    os.close(writer)
    printed, _ = program.communicate()
    assert program.returncode == 0
    assert "classical network" in printed
    assert len(list(tmp_path.glob("*/record.json"))) == 1


def test_output_that_cannot_be_written(tmp_path):
    arguments = ["tables", "--records", ROOT / "book/records", "--to", tmp_path]
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does when it has enough
    program = start(*arguments, stdout=writer, stderr=subprocess.PIPE)
    assert program.communicate()[1] == ""
    assert program.returncode == 0
    assert len(list(tmp_path.iterdir())) == 3
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            program = start(*arguments, stdout=full, stderr=subprocess.PIPE)
            assert program.communicate()[1].startswith("qtlite: [Errno 28] No space left on device")
        assert program.returncode == 2
